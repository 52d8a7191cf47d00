"""A study as one self-contained page: figures to touch, pictures, and how to get every number."""
