"""What may vary: search spaces as YAML files."""
