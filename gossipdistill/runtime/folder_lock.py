"""At most one living process per peer's folder: a lock on its file `lock`, released by the system when the process
ends.

Two processes of one name in one folder would overwrite each other's checkpoints and results. The lock does not cover
other folders or machines; there the protocol detects that a name is taken.
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
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

FILE = "lock"
_DYING_S = 2.5
"""The seconds to wait for a lock: workers whose launcher has just been killed hold theirs for up to two seconds."""
_LOOK_EVERY_S = 0.05
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)
"""The error numbers of file systems without locks (NFS without its lock service, some FUSE)."""

_open: set[int] = set()


def _close_in_child() -> None:
    # A forked child (such as a data loader's) would keep the lock when its parent is killed.
    for number in _open:
        with contextlib.suppress(OSError):
            os.close(number)
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


@dataclass(frozen=True)
class FolderLock:
    """A lock that this process holds. `problem` is empty, or says why this folder cannot be locked."""

    problem: str = ""


@contextlib.contextmanager
def hold_folder(
    folder: Path, name: str, now: Callable[[], float] = time.monotonic, pause: Callable[[float], None] = time.sleep
) -> Iterator[FolderLock]:
    """Lock the folder of the peer `name` for as long as the context lasts; the folder is made if needed.

    Raises:
        ConfigError: when another living process holds the lock, with that process's id; or when the folder cannot be
        written to.
    """
    if fcntl is None:
        yield FolderLock()
        return
    number = _opened(folder / FILE)
    _open.add(number)
    try:
        problem = _lock(number, folder, name, now, pause)
        if not problem:
            with contextlib.suppress(OSError):  # a full disk: the folder is locked, but the holder is not noted
                os.ftruncate(number, 0)
                os.pwrite(number, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield FolderLock(problem)
    finally:
        if number in _open:
            _open.discard(number)
            os.close(number)


def refuse_held(folder: Path, name: str) -> None:
    """Raise the ConfigError of `hold_folder` if another process holds the lock. No file is made and no lock is kept."""
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
    """Take the lock. Returns "", or why this folder cannot be locked."""
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
                file=folder,
                key="--name",
                value=name,
                accepted="another --name, another folder (--out), or none of the two before that process has ended",
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise ConfigError(f"cannot be locked: {error.strerror}", file=folder / FILE) from None
            return (
                f"{folder} has no file locks ({error.strerror}): nothing keeps a second process of {name} from "
                "writing into it"
            )
        return ""


def _holder(number: int) -> str:
    """`process 12`, with its machine if that is another one. The file is not trusted: any process may have written
    it."""
    words = os.pread(number, 512, 0).decode("utf-8", "replace")
    match = re.fullmatch(r"process (\d{1,10}) on ([A-Za-z0-9_.-]{1,255})\n", words)
    if match is None:
        return "another process"
    return f"process {match[1]}" + (f" on {match[2]}" if match[2] != socket.gethostname() else "")
