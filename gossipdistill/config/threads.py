"""The number of CPU threads that a peer computes with: the user's, or else this machine's CPUs divided among its peers.

More threads than free CPUs is the worst choice. The threads of one operation wait for one another by spinning, so on
busy CPUs a step takes many times as long as with one thread.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from gossipdistill.config.origins import Origin, Source, chosen
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.drivers.overload.machine_limits import cpu_quota

KEY = "train.threads"
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""These environment variables decide where the key does not; the first that holds a number counts."""


@dataclass(frozen=True, slots=True)
class Cpus:
    """What this process may compute with."""

    usable: int
    """This process may use this number of CPUs, by its affinity and by the CPU quota of its control group; at least
    1."""
    busy: float = 0.0
    """Other processes keep this share of the machine's CPUs busy, 0 to 1, by the load average of the last minute."""

    @classmethod
    def read(cls) -> Cpus:
        """The present values of this machine."""
        everything = os.cpu_count() or 1
        own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else everything
        quota = cpu_quota()
        usable = own if quota is None else min(own, max(1, math.ceil(quota)))
        try:
            load = os.getloadavg()[0]
        except (OSError, AttributeError):  # not every system knows it
            load = 0.0
        return cls(usable, min(load / everything, 1.0))

    @property
    def free(self) -> int:
        """The number of usable CPUs that nothing else needs, to the nearest whole number."""
        return math.floor(self.usable * (1.0 - self.busy) + 0.5)


@dataclass(frozen=True, slots=True)
class Threads:
    """A number of threads for each peer, and why."""

    count: int
    origin: Origin
    """The origin is for `config.json`."""
    notice: str = ""
    """The user ought to know this; empty where nothing is unusual."""


def choose(peers: int, starting: int, cpus: Cpus, environ: Mapping[str, str]) -> Threads:
    """Threads of each peer where `train.threads` is not set.

    Args:
        peers: how many peers share this machine.
        starting: how many of them this command starts; the others are part of the load by now.
    """
    passed_over = ""
    for name in VARIABLES:
        said = environ.get(name)
        if said is None:
            continue
        first = said.split(",")[0].strip()
        if first.isdecimal() and int(first) >= 1:
            return Threads(int(first), Origin(Source.ENVIRONMENT, name), passed_over)
        passed_over = f"{name} = {said!r} is no number of threads and is not used"
    share = max(1, cpus.usable // max(peers, 1))
    count = min(share, max(1, cpus.free // max(starting, 1)))
    place = f"{cpus.usable} CPU{'s' * (cpus.usable != 1)} for {peers} peer{'s' * (peers != 1)} here"
    if count == share:
        return Threads(count, chosen(f"chosen: {place}"), passed_over)
    taken = f"{cpus.usable - cpus.free} of them busy with other work"
    notices = [passed_over] if passed_over else []
    if 2 * count <= share:
        notices.append(f"{place}, {taken}: {told(count)} for each peer ({KEY} = N asks for another number)")
    return Threads(count, chosen(f"chosen: {place}, {taken}"), "; ".join(notices))


def with_threads(spec: WorkerSpec, threads: Threads) -> WorkerSpec:
    """The specification with this number of threads, where the user has given none."""
    if spec.config.train.threads is not None:
        return spec
    notices = (*spec.notices, threads.notice) if threads.notice else spec.notices
    return replace(spec, resolved=spec.resolved.changed({KEY: threads.count}, threads.origin), notices=notices)


def told(count: int) -> str:
    """For a title."""
    return f"{count} thread{'s' * (count != 1)}"
