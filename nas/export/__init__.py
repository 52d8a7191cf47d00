"""What a search leaves behind to be used elsewhere."""
