"""Measurements of gossipdistill on one machine, each one command. See README.md beside this file."""
