"""What the user's code may change of the process, and what of that is set again.

Handlers of signals, the current folder and standard output are as before once it returns. Its environment variables,
filters of warnings, logging, locale and seeds are the user's own: nothing here depends on them. For torch's settings
see user_code/torch_settings.py; a worker looks at its handlers between steps (`StopRequest.kept`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name))
"""Those that this package answers."""


@contextlib.contextmanager
def aside() -> Iterator[None]:
    """Inside, what the user's code prints goes to standard error, that of its child processes too: standard output is
    for results. Afterwards handlers of signals and the current folder are as before."""
    handlers, folder = {number: signal.getsignal(number) for number in SIGNALS}, os.getcwd()
    try:
        with contextlib.redirect_stdout(sys.stderr), _descriptor_aside():
            yield
    finally:
        with contextlib.suppress(ValueError):  # Python sets handlers on the main thread alone
            for number, handler in handlers.items():
                if handler is not None and signal.getsignal(number) != handler:
                    signal.signal(number, handler)
        with contextlib.suppress(OSError):  # the folder is gone, and so nothing can be found from it
            os.chdir(folder)


@contextlib.contextmanager
def _descriptor_aside() -> Iterator[None]:
    """Descriptor 1 is descriptor 2 inside: for what is printed by libraries in C, and by child processes."""
    try:
        sys.stdout.flush()
        kept = os.dup(1)
        os.dup2(2, 1)
    except (OSError, ValueError):  # one of them is closed
        yield
        return
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
