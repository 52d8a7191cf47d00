"""Token mixers: how tokens of a block exchange information."""
