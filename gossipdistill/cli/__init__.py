"""The command line. Modules that are slow to import are imported where they are used."""

from gossipdistill.cli.entry import main

__all__ = ["main"]
