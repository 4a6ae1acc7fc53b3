"""Composition: configuration, processes, and the place where the two wings are put together."""
