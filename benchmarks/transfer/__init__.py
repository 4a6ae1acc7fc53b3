"""Payloads between nodes on real sockets, without training."""
