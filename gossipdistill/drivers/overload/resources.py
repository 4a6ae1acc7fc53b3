"""What this process uses of its machine, and what the kernel reports of its connections.

libzmq reports neither how many connections have not finished the handshake, nor what it holds of a message that never
ends. The kernel reports the number of open files, the resident memory, and the bytes that arrived on each connection.
On systems other than Linux a value that is not available is None, and the caller does without.
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
"""The offset of `tcpi_bytes_received` in `struct tcp_info`, an unsigned 64-bit number; in Linux 4.1 and later."""
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_RETURN = 0x06
"""This is BPF_RET | BPF_K: with 0, "keep 0 bytes of this packet"."""
_FD_FOLDERS = ("/proc/self/fd", "/dev/fd")


@dataclass(frozen=True, slots=True)
class Connection:
    """One TCP connection of this process. `inode` tells it from a later one with the same descriptor."""

    fd: int
    inode: int
    port: int
    """The port of this end."""
    peer: tuple[str, int]
    listens: bool = False
    """This is a listener, not a connection; `peer` is empty."""


class Resources:
    """Readings of this process; tests replace them."""

    def files_max(self) -> int:
        """The number of files that may be open."""
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    def open_files(self) -> int | None:
        """The number of open files."""
        for folder in _FD_FOLDERS:
            with contextlib.suppress(OSError):
                return len(os.listdir(folder)) - 1  # minus the one of the folder itself
        return None

    def resident_bytes(self) -> int | None:
        """The resident memory of this process in bytes."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
            return pages * resource.getpagesize()
        return None

    def memory_bytes(self) -> int | None:
        """The memory in bytes that this process can have at most."""
        return memory_bytes()


def files_within_reach(wanted: int) -> int:
    """The number of files that may be open once this process has asked for `wanted`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return soft
    return max(soft, wanted if hard == resource.RLIM_INFINITY else min(hard, wanted))


def ask_for_files(wanted: int) -> None:
    """Raise the limit of open files to `wanted`, or as far as the system allows; never lower it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (files_within_reach(wanted), hard))


class Connections:
    """All TCP connections and listeners of this process. Known ones are not queried again."""

    def __init__(self) -> None:
        self._known: dict[int, Connection] = {}

    def all(self) -> list[Connection]:
        """The present ones; empty where they are not available."""
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
    """All TCP connections and listeners of this process, all queried anew."""
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
    """Whether this kernel reports the number of bytes that arrived on a connection."""
    return sys.platform == "linux" and hasattr(socket, "TCP_INFO")


def bytes_received(one: Connection) -> int | None:
    """The number of bytes that arrived on a connection since it was made, read or not."""
    with contextlib.suppress(OSError, struct.error, AttributeError), _borrowed(one.fd) as its:
        told = its.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        return int(struct.unpack_from("=Q", told, _BYTES_RECEIVED_AT)[0])
    return None


def cut(one: Connection) -> bool:
    """End a connection that libzmq owns: both ends see it as broken. Returns whether it still was this connection."""
    with contextlib.suppress(OSError), _borrowed(one.fd) as its:
        if os.fstat(its.fileno()).st_ino == one.inode:
            its.shutdown(socket.SHUT_RDWR)
            return True
    return False


def drop_syns(one: Connection, deaf: bool) -> bool:
    """Make the kernel drop all packets to a listener, or no longer; its established connections are not affected. On a
    connection, the other end retransmits the dropped packets at growing intervals: nothing is lost.

    `unbind` would end established connections too: libzmq counts them as the listener's own. Returns whether it could
    be done.
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
    """A second descriptor of a socket with another owner, for a short time.

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
