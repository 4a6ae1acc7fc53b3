"""Start, watch and end several workers of one run on this machine."""
