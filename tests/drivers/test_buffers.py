"""Memory for large bodies is used again once nobody looks at it, and never before."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gossipdistill.drivers.overload.buffers import Buffers

STATM = Path("/proc/self/statm")


def address_of(view: memoryview) -> int:
    return int(np.frombuffer(view, np.uint8).ctypes.data)


def test_memory_that_is_looked_at_is_not_used_again() -> None:
    buffers = Buffers(10_000)
    first = buffers.allocate(1000)
    array = np.frombuffer(first, np.uint8)
    array[:] = 7
    del first  # the array is a view of it all the same
    second = buffers.allocate(1000)
    second[:] = bytes(1000)
    assert set(array) == {7}


def test_memory_that_nobody_looks_at_is_used_again() -> None:
    buffers = Buffers(10_000)
    first = buffers.allocate(1000)
    at = address_of(first)
    part = first[10:20]
    del first
    assert address_of(buffers.allocate(1000)) != at, "a part of it is looked at"
    del part
    small = buffers.allocate(501)
    assert (len(small), address_of(small)) == (501, at)
    del small
    assert address_of(buffers.allocate(499)) != at, "less than half of it would be used"


def test_what_lies_idle_is_bounded() -> None:
    buffers = Buffers(2500)
    held = [buffers.allocate(1000) for _ in range(5)]
    assert len({address_of(view) for view in held}) == 5
    del held
    buffers.allocate(3000)
    assert sorted(len(known.memory) for known in buffers.known) == [1000, 1000, 3000]


def test_what_lies_idle_for_long_is_given_back() -> None:
    buffers = Buffers(10_000, idle_s=1.0)
    held, used = buffers.allocate(1000), buffers.allocate(1000)
    del used
    for now in (0.0, 0.5, 0.9):
        buffers.rest(now)
    assert len(buffers.known) == 2
    used = buffers.allocate(1000)  # as a body that comes now and then
    buffers.rest(1.2)
    del used
    for now in (1.5, 2.0, 2.4):
        buffers.rest(now)
    assert len(buffers.known) == 2, "idle for 0.9 s"
    buffers.rest(2.7)
    assert len(buffers.known) == 1
    buffers.rest(9.0)
    assert buffers.mapped_bytes() == 1000, "it is looked at"
    held[:] = bytes(1000)


@pytest.mark.skipif(not STATM.exists(), reason="the kernel says it in /proc")
def test_memory_is_taken_as_bytes_come_and_not_on_the_say_so_of_a_number() -> None:
    size, pages = 256 << 20, 2 << 20
    before = _resident_bytes()
    view = Buffers(0).allocate(size)
    assert _resident_bytes() - before < size // 8, "announced, and nothing has come"
    view[: size // 4] = bytes(size // 4)
    assert _resident_bytes() - before < size // 2 + 4 * pages


def test_where_there_is_no_memory_the_assembly_is_told() -> None:
    with pytest.raises(MemoryError):
        Buffers(0).allocate(1 << 60)


def test_what_is_given_back_leaves_the_process() -> None:
    buffers = Buffers(0)
    first = buffers.allocate(1000)
    (known,) = buffers.known
    del first
    buffers.allocate(5000)
    assert known.memory.closed


def _resident_bytes() -> int:
    return int(STATM.read_text().split()[1]) * resource.getpagesize()


_COME_AND_GO = """
import resource, sys
from gossipdistill.drivers.overload.buffers import keep_freed

if sys.argv[1] == "keep":
    keep_freed(32 << 20)
for turn in range(6):  # as frames of 4 MiB in a queue
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    frames = [bytearray(b"x") * (4 << 20) for _ in range(6)]
    frames.clear()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="about the allocator of glibc")
def test_frames_that_come_and_go_do_not_touch_fresh_pages_each_time() -> None:
    """In processes of their own: what an allocator keeps depends on all that it has seen."""
    faults = {
        how: int(subprocess.run([sys.executable, "-c", _COME_AND_GO, how], check=True, capture_output=True).stdout)
        for how in ("keep", "as_it_is")
    }
    assert faults["keep"] < 100
    assert faults["as_it_is"] > 4 * 1024, "or else there is nothing to be done any more"


_FREED = """
import ctypes
from gossipdistill.drivers.overload.buffers import Freed
from gossipdistill.drivers.overload.resources import Resources

MIB, libc = 1 << 20, ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
libc.mallopt(-3, 32 * MIB)  # blocks of this size from the heap, as after a large one was freed
freed, resident = Freed(64 * MIB), Resources().resident_bytes
blocks = [libc.malloc(4 * MIB) for _ in range(64)]
for block in blocks:
    ctypes.memset(block, 1, 4 * MIB)
pin = libc.malloc(4 * MIB)  # above them all: the allocator alone gives nothing back
for block in blocks:
    libc.free(block)
before = resident()
for waits in (60, 0, 65, 17):
    freed.look(waits * MIB)
    print(before - resident() < 10 * MIB)
freed.look(16 * MIB)
print(before - resident() > 200 * MIB)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc" or not STATM.exists(), reason="only glibc holds memory like that")
def test_memory_that_the_allocator_holds_is_given_back_after_a_flood_and_not_before() -> None:
    done = subprocess.run([sys.executable, "-c", _FREED], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["True"] * 5
