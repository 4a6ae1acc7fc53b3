"""`python -m gossipdistill`."""

import os
import sys

if __name__ == "__main__":
    if sys.path and os.path.abspath(sys.path[0] or ".") == os.getcwd() and not sys.flags.safe_path:
        # `-m` has put the current folder first: a file of the user's would replace the module whose name it has.
        sys.path.append(sys.path.pop(0))
    from gossipdistill.cli import main

    main()
