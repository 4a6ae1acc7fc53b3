"""A zoo of models that nobody thought of, each under every strategy: it works, or it is refused by name."""
