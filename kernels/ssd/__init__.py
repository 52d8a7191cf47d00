"""SSD, the scan of Mamba-2: one decay a head, so that a chunk of tokens is matrix products."""
