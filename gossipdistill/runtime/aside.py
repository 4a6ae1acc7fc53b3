"""What the user's code may change in the process, and what of that is restored.

Signal handlers, the current folder and standard output are restored when the user's code returns. Environment
variables, warning filters, logging, locale and seeds are left to the user: this package does not depend on them. For
torch's settings see user_code/torch_settings.py. A worker checks its signal handlers between steps
(`StopRequest.keep`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name))
"""The signals that this package handles."""


@contextlib.contextmanager
def aside() -> Iterator[None]:
    """Inside, what the user's code and its child processes print goes to standard error, as standard output is for
    results. Afterwards signal handlers and the current folder are restored."""
    handlers, folder = {number: signal.getsignal(number) for number in SIGNALS}, os.getcwd()
    try:
        with contextlib.redirect_stdout(sys.stderr), _descriptor_aside():
            yield
    finally:
        with contextlib.suppress(ValueError):  # Python sets handlers only on the main thread
            for number, handler in handlers.items():
                if handler is not None and signal.getsignal(number) != handler:
                    signal.signal(number, handler)
        with contextlib.suppress(OSError):  # the folder is gone
            os.chdir(folder)


@contextlib.contextmanager
def _descriptor_aside() -> Iterator[None]:
    """Inside, descriptor 1 is a copy of descriptor 2, which also covers C libraries and child processes."""
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
