"""Memory for large bodies is used again once nobody looks at it, and never before."""

from __future__ import annotations

import platform
import subprocess
import sys

import numpy as np
import pytest

from gossipdistill.drivers.buffers import Buffers


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
    assert sorted(len(buffer) for buffer in buffers._known) == [1000, 1000, 3000]


_COME_AND_GO = """
import resource, sys
from gossipdistill.drivers.buffers import keep_freed

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
