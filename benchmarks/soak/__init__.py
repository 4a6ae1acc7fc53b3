"""A long run with a kill now and then."""
