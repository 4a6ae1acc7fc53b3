"""`python -m gossipdistill`."""

from gossipdistill.cli import main

if __name__ == "__main__":
    main()
