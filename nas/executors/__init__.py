"""Executors: where and how many trials train at once."""
