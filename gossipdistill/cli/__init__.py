"""Words in, words out: the command line. What is slow to import is imported where it is used."""

from gossipdistill.cli.entry import main

__all__ = ["main"]
