"""What this process uses of its machine, and what the kernel knows of its connections.

libzmq tells neither how many connections have not shaken hands yet, nor what it holds of a message that never ends. The
kernel does: how many files are open, how much memory is resident, and how many bytes have come on each connection.
Elsewhere than on Linux what cannot be told is None, and the caller does without.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gossipdistill.drivers.overload.machine_limits import memory_bytes

_BYTES_RECEIVED_AT = 128
"""Offset of `tcpi_bytes_received` in `struct tcp_info`, an unsigned 64-bit number; of Linux 4.1 and later."""
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_RETURN = 0x06
"""BPF_RET | BPF_K: with 0, "keep 0 bytes of this packet"."""
_FD_FOLDERS = ("/proc/self/fd", "/dev/fd")


@dataclass(frozen=True, slots=True)
class Connection:
    """One TCP connection of this process. `inode` tells it from a later one with the same descriptor."""

    fd: int
    inode: int
    port: int
    """Of this end."""
    peer: tuple[str, int]
    listens: bool = False
    """It is no connection but a listener; `peer` is empty."""


class Resources:
    """Readings of this process; tests give others."""

    def files_max(self) -> int:
        """How many files may be open."""
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    def open_files(self) -> int | None:
        """How many are."""
        for folder in _FD_FOLDERS:
            with contextlib.suppress(OSError):
                return len(os.listdir(folder)) - 1  # less the one of the folder itself
        return None

    def resident_bytes(self) -> int | None:
        """Memory of this process that is in use now."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
            return pages * resource.getpagesize()
        return None

    def memory_bytes(self) -> int | None:
        """All that this process can have."""
        return memory_bytes()


def files_within_reach(wanted: int) -> int:
    """How many files may be open once this process has asked for so many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return soft
    return max(soft, wanted if hard == resource.RLIM_INFINITY else min(hard, wanted))


def ask_for_files(wanted: int) -> None:
    """Have so many files open, or as many as the system allows; never less than before."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (files_within_reach(wanted), hard))


class Connections:
    """All TCP connections and listeners of this process. Those that were seen before are not asked again."""

    def __init__(self) -> None:
        self._known: dict[int, Connection] = {}

    def all(self) -> list[Connection]:
        """Those of now; none where that cannot be told."""
        found: dict[int, Connection] = {}
        with contextlib.suppress(OSError):
            for name in os.listdir(_FD_FOLDERS[0]):
                one = self._at(int(name))
                if one is not None:
                    found[one.fd] = one
        self._known = found
        return list(found.values())

    def _at(self, fd: int) -> Connection | None:
        try:
            link = os.readlink(f"{_FD_FOLDERS[0]}/{fd}")
        except OSError:
            return None
        if not link.startswith("socket:["):
            return None
        known = self._known.get(fd)
        return known if known is not None and link == f"socket:[{known.inode}]" else _connection(fd)


def connections() -> list[Connection]:
    """All TCP connections and listeners of this process, looked at anew."""
    return Connections().all()


def _connection(fd: int) -> Connection | None:
    with contextlib.suppress(OSError), _borrowed(fd) as one:
        if one.family not in (socket.AF_INET, socket.AF_INET6) or one.type != socket.SOCK_STREAM:
            return None
        inode, port = os.fstat(one.fileno()).st_ino, int(one.getsockname()[1])
        if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return Connection(fd, inode, port, ("", 0), listens=True)
        host, far, *_ = one.getpeername()
        return Connection(fd, inode, port, (str(host).removeprefix("::ffff:"), int(far)))
    return None


def tells_bytes() -> bool:
    """Whether this kernel says how many bytes have come on a connection."""
    return sys.platform == "linux" and hasattr(socket, "TCP_INFO")


def bytes_received(one: Connection) -> int | None:
    """How many bytes have come on a connection since it was made, read or not."""
    with contextlib.suppress(OSError, struct.error, AttributeError), _borrowed(one.fd) as its:
        told = its.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        return int(struct.unpack_from("=Q", told, _BYTES_RECEIVED_AT)[0])
    return None


def cut(one: Connection) -> bool:
    """End a connection that libzmq owns: both ends see it as broken. Whether it still was this connection."""
    with contextlib.suppress(OSError), _borrowed(one.fd) as its:
        if os.fstat(its.fileno()).st_ino == one.inode:
            its.shutdown(socket.SHUT_RDWR)
            return True
    return False


def drop_syns(one: Connection, deaf: bool) -> bool:
    """Have the kernel drop all that comes to a listener, or no longer; connections that it has made are not concerned.
    Of a connection, what is dropped is sent again by the other end, later and later: nothing is lost.

    `unbind` would end those as well: libzmq holds them to be the listener's own. Whether it could be done.
    """
    with contextlib.suppress(OSError), _borrowed(one.fd) as its:
        if not deaf:
            its.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
            return True
        nothing = ctypes.create_string_buffer(struct.pack("HBBI", _RETURN, 0, 0, 0))
        program = struct.pack("HP", 1, ctypes.addressof(nothing))
        its.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
        return True
    return False


@contextlib.contextmanager
def _borrowed(fd: int) -> Iterator[socket.socket]:
    """A second descriptor of a socket that somebody else owns, for a moment.

    Raises:
        OSError: when it is none, or is gone.
    """
    second = os.dup(fd)
    try:
        borrowed = socket.socket(fileno=second)
    except OSError:
        os.close(second)
        raise OSError(errno.ENOTSOCK, "no socket") from None
    with borrowed:
        yield borrowed
