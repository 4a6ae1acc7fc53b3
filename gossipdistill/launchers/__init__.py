"""Several workers of one run on this machine: starting, watching, ending them."""
