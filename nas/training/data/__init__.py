"""Data sets, as batches of images with labels."""
