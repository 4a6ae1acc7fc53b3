"""One living process per peer's folder: a lock on the file `lock` in it, which the system frees when the process ends.

Two processes of one name in one folder would overwrite each other's checkpoints and results. The lock says nothing
about other folders or machines; there the protocol notices that a name is taken.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gossipdistill.errors import ConfigError

try:
    import fcntl
except ImportError:  # no POSIX system
    fcntl = None  # type: ignore[assignment]

FILE = "lock"
_DYING_S = 2.5
"""Workers whose launcher was killed a moment ago may still hold theirs: they end within two seconds."""
_LOOK_EVERY_S = 0.05
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)
"""What file systems say that have no locks (NFS without its lock service, some FUSE)."""

_open: set[int] = set()


def _close_in_child() -> None:
    # A forked child (the process of a data loader) would keep the lock when its parent is killed.
    for number in _open:
        with contextlib.suppress(OSError):
            os.close(number)
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


@dataclass(frozen=True)
class FolderLock:
    """A lock that this process holds. `problem` is empty, or says why nobody can hold one in this folder."""

    problem: str = ""


@contextlib.contextmanager
def hold_folder(
    folder: Path, name: str, now: Callable[[], float] = time.monotonic, pause: Callable[[float], None] = time.sleep
) -> Iterator[FolderLock]:
    """Hold the folder of the peer `name` for as long as the context lasts; it is made if needed.

    Raises:
        ConfigError: when another living process holds it, with that process's id; or the folder cannot be written to.
    """
    if fcntl is None:
        yield FolderLock()
        return
    number = _opened(folder / FILE)
    _open.add(number)
    try:
        problem = _lock(number, folder, name, now, pause)
        if not problem:
            with contextlib.suppress(OSError):  # a full disk: it is locked all the same, only not by whom
                os.ftruncate(number, 0)
                os.pwrite(number, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield FolderLock(problem)
    finally:
        if number in _open:
            _open.discard(number)
            os.close(number)


def refuse_held(folder: Path, name: str) -> None:
    """Raise the ConfigError of `hold_folder` if another process holds the folder. Nothing is made or kept."""
    if (folder / FILE).exists():
        with hold_folder(folder, name):
            pass


def _opened(file: Path) -> int:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror}", file=file) from None


def _lock(number: int, folder: Path, name: str, now: Callable[[], float], pause: Callable[[float], None]) -> str:
    """Take the lock; why nobody can take one here, or "" with the lock."""
    deadline_s = now() + _DYING_S
    while True:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if now() < deadline_s:
                pause(_LOOK_EVERY_S)
                continue
            raise ConfigError(
                f"{_holder(number)} runs in this folder as {name} and is alive; two would overwrite each other's files",
                file=folder, key="--name", value=name,
                accepted="another --name, another folder (--out), or none of the two before that process has ended",
            ) from None  # fmt: skip
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise ConfigError(f"cannot be locked: {error.strerror}", file=folder / FILE) from None
            return (
                f"{folder} has no file locks ({error.strerror}): nothing keeps a second process of {name} from "
                "writing into it"
            )
        return ""


def _holder(number: int) -> str:
    """`process 12`, with its machine if that is another one; from a file that anybody may have written."""
    words = os.pread(number, 512, 0).decode("utf-8", "replace")
    match = re.fullmatch(r"process (\d{1,10}) on ([A-Za-z0-9_.-]{1,255})\n", words)
    if match is None:
        return "another process"
    return f"process {match[1]}" + (f" on {match[2]}" if match[2] != socket.gethostname() else "")
