"""Peers of other systems, each one file that runs under the Python in which that system is installed."""
