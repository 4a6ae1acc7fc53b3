"""Peers that do harm, and what the others do about it."""
