"""Frames and files that are not as they ought to be."""
