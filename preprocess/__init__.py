"""Photos in, cache out: find the face, cut the figure, crop."""
