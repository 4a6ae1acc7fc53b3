"""What control groups leave a process, by files as Linux has them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gossipdistill.config.threads import Cpus
from gossipdistill.drivers.overload.machine_limits import cpu_quota, memory_bytes
from gossipdistill.drivers.overload.resources import Resources

UNLIMITED_V1 = "9223372036854771712"


class Groups:
    """The files of control groups; `own` lists those of the process."""

    def __init__(self, folder: Path) -> None:
        self.own, self.root = folder / "own", folder / "cgroup"

    def cpus(self, own: str, **files: str) -> float | None:
        self._write(own, files)
        return cpu_quota(self.own, self.root)

    def memory(self, own: str, **files: str) -> int | None:
        self._write(own, files)
        return memory_bytes(self.own, self.root)

    def _write(self, own: str, files: dict[str, str]) -> None:
        self.own.write_text(own)
        for name, text in files.items():
            file = self.root / name.replace("__", "/").replace("cpu_", "cpu.").replace("memory_", "memory.", 1)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text + "\n")


@pytest.fixture
def groups(tmp_path: Path) -> Groups:
    return Groups(tmp_path)


def test_the_least_quota_of_cpus_counts(groups: Groups) -> None:
    assert groups.cpus("0::/\n") is None
    assert groups.cpus("0::/a/b\n", a__b__cpu_max="max 100000") is None
    assert groups.cpus("0::/a/b\n", a__cpu_max="250000 100000") == 2.5
    assert groups.cpus("0::/a/b\n", a__b__cpu_max="150000 100000") == 1.5
    old = {"cpu__cpu_cfs_quota_us": "-1", "cpu__cpu_cfs_period_us": "100000"}
    assert groups.cpus("2:cpuset:/\n1:cpu:/\n", **old) is None
    assert groups.cpus("2:cpuset:/\n1:cpu:/\n", **(old | {"cpu__cpu_cfs_quota_us": "300000"})) == 3.0
    assert Cpus.read().usable <= (os.cpu_count() or 1)


def test_the_least_limit_of_memory_counts(groups: Groups) -> None:
    machine = groups.memory("0::/\n")
    assert machine is not None
    assert machine > 1 << 28
    assert groups.memory("0::/a/b\n", a__b__memory_max="max") == machine
    assert (
        groups.memory("0::/a/b\n", a__memory_max=str(7 << 20)) == 7 << 20
    )  # a batch system limits the job, not the step
    assert groups.memory("0::/a/b\n", a__b__memory_max=str(5 << 20)) == 5 << 20
    assert groups.memory("0::/\n") == machine


def test_the_limit_of_memory_of_version_1(groups: Groups) -> None:
    own = "4:memory:/jobs/7\n3:cpuset:/\n0::/\n"
    machine = groups.memory(own, memory__memory_limit_in_bytes=UNLIMITED_V1)
    assert machine == groups.memory("")
    assert groups.memory(own, memory__jobs__7__memory_limit_in_bytes=str(9 << 20)) == 9 << 20
    inside = "4:memory:/docker/0123\n"  # of a container: its own group is where the root is
    assert groups.memory(inside, memory__memory_limit_in_bytes=str(8 << 20)) == 8 << 20


def test_of_this_machine(groups: Groups) -> None:
    known = Resources().memory_bytes()
    assert known is not None
    assert 0 < known <= (groups.memory("") or 0)
