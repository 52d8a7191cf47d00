"""A design's whole training, at full size, and what its weights are worth."""
