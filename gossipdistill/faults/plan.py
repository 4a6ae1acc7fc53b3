"""A fault plan: the faults of a run, and what must hold in spite of them. Read from TOML, checked against the roster.

Randomness comes from the seed alone: the same plan, seed and sequence of calls give the same outcomes. The keys of a
plan file and the effect of each kind are described in `faults/README.md`.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from gossipdistill import bundled
from gossipdistill.errors import ConfigError, nearest
from gossipdistill.faults.expect import Expect
from gossipdistill.faults.kinds import ANY, KINDS, ClockJump, Fault, Kill, LinkFault, Partition, ProcessFault, Restart


class FaultPlan(BaseModel):
    """Faults and expectations, in the order of the file. `name` is that of the plan, for people."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = ""
    seed: Annotated[int, Field(ge=0, strict=True)] = 0
    fault: Annotated[tuple[Fault, ...], BeforeValidator(tuple)] = ()
    expect: Annotated[tuple[Expect, ...], BeforeValidator(tuple)] = ()

    def link_faults(self) -> list[tuple[int, LinkFault | Partition]]:
        """(place in the plan, fault) of each fault that affects messages."""
        return [(n, fault) for n, fault in enumerate(self.fault) if isinstance(fault, LinkFault | Partition)]

    def process_faults(self) -> list[tuple[int, ProcessFault]]:
        """(place in the plan, fault) of each fault that happens to processes."""
        return [(n, fault) for n, fault in enumerate(self.fault) if isinstance(fault, ProcessFault)]

    def whom(self, number: int, names: Sequence[str]) -> tuple[str, ...]:
        """The peers that process fault `number` happens to, in roster order; a `share` of them is drawn by the seed."""
        fault = self.fault[number]
        assert isinstance(fault, ProcessFault)
        meant = [name for name in names if ANY in fault.peer or name in fault.peer]
        if fault.share == 1.0:
            return tuple(meant)
        count = min(max(round(fault.share * len(meant)), 1), len(meant))
        places = random.Random(f"{self.seed}/whom/{number}").sample(range(len(meant)), count)
        return tuple(meant[place] for place in sorted(places))

    def touched(self, names: Sequence[str]) -> frozenset[str]:
        """The peers with a process fault; all others are "untouched", whatever happens to their links."""
        return frozenset(name for number, _ in self.process_faults() for name in self.whom(number, names))

    def restarted(self, names: Sequence[str]) -> tuple[str, ...]:
        """Peers that the plan starts again, in roster order."""
        back = {
            name
            for number, fault in self.process_faults()
            if isinstance(fault, Restart) or (isinstance(fault, Kill) and fault.restart_after_s is not None)
            for name in self.whom(number, names)
        }
        return tuple(name for name in names if name in back)

    @property
    def begins_s(self) -> float | None:
        """The time at which the first fault begins, in seconds; None without faults."""
        return min((fault.begin_s for fault in self.fault), default=None)


def load_fault_plan(where: str | Path, peers: Sequence[str], base: Path | None = None) -> FaultPlan:
    """The plan that `where` means for these peers (names in roster order).

    `where` is a ready-made name, or a path to a .toml file relative to `base` (default: the current folder).

    Raises:
        ConfigError: naming file, entry, key and value, and what would be accepted.
    """
    file = bundled.find("faults", str(where), base)
    if file.suffix != ".toml":
        raise ConfigError("is not a fault plan", file=file, accepted="a .toml file")
    plan = read_fault_plan(file)
    check_names(plan, peers, file)
    return plan


def list_fault_plans() -> list[tuple[str, str]]:
    """Name and one-line description of each ready-made plan."""
    return [(name, bundled.summary(file)) for name, file in bundled.listing("faults")]


def read_fault_plan(file: Path) -> FaultPlan:
    """The plan in a TOML file, before its peers are known."""
    data = bundled.read_toml(file)
    for key in data:
        if key not in ("seed", "fault", "expect"):
            known = nearest(key, ("seed", "fault", "expect"))
            raise ConfigError(f"unknown key; {known} A plan has a seed, [[fault]] and [[expect]]", file=file, key=key)
    if not data.get("fault") and not data.get("expect"):
        raise ConfigError("has no [[fault]] and no [[expect]]", file=file)
    faults = [_fault(table, f"{file}: fault {n}") for n, table in _tables(data, "fault", file)]
    expected = [_expect(table, f"{file}: expect {n}") for n, table in _tables(data, "expect", file)]
    head = {"name": file.stem, "seed": data.get("seed", 0)}
    plan = bundled.validated(FaultPlan, head, file=file)
    return plan.model_copy(update={"fault": tuple(faults), "expect": tuple(expected)})


def _tables(data: Mapping[str, Any], key: str, file: Path) -> Iterable[tuple[int, Mapping[str, Any]]]:
    written = data.get(key, [])
    if not isinstance(written, list) or not all(isinstance(table, dict) for table in written):
        raise ConfigError(f"is not written as [[{key}]] entries", file=file, key=key)
    return enumerate(written, start=1)


def _fault(table: Mapping[str, Any], where: str) -> Any:
    if "kind" not in table:
        raise ConfigError("is missing", file=where, key="kind", accepted=", ".join(KINDS))
    kind = table["kind"]
    if not isinstance(kind, str) or kind not in KINDS:
        raise ConfigError(f"unknown kind; {nearest(str(kind), KINDS)}", file=where, key="kind", value=kind)
    return bundled.validated(KINDS[kind], table, file=f"{where} ({kind})")


def _expect(table: Mapping[str, Any], where: str) -> Expect:
    return bundled.validated(Expect, table, file=where)


# --- against the roster -----------------------------------------------------------------------------------------------


def check_names(plan: FaultPlan, peers: Sequence[str], file: object = None) -> None:
    """Refuse names that are no peers, and faults that cannot happen because the peer is down or already has it.

    Raises:
        ConfigError: about the first such entry.
    """
    for number, fault in enumerate(plan.fault, start=1):
        for key, name in fault.named():
            _known(name, peers, f"{file}: fault {number} ({fault.kind})", key)
    _refuse_clashes(plan, peers, file)
    for number, expected in enumerate(plan.expect, start=1):
        where = f"{file}: expect {number} ({expected.metric})"
        for name in expected.names:
            _known(name, peers, where, "peers")
        problem = expected.impossible(peers, plan.touched(peers), plan.restarted(peers), plan.begins_s)
        if problem is not None:
            meant = list(expected.peers) if isinstance(expected.peers, tuple) else expected.peers
            raise ConfigError(problem, file=where, key="peers" if meant else None, value=meant or None)


def _known(name: str, peers: Sequence[str], where: str, key: str) -> None:
    if name != ANY and name not in peers:
        raise ConfigError(f"is no peer of this run; {nearest(name, peers)}", file=where, key=key, value=name)


def _refuse_clashes(plan: FaultPlan, peers: Sequence[str], file: object) -> None:
    """Refuse clashes of process faults with named peers: of two, the later must find the process running."""
    for later, second in plan.process_faults():
        for earlier, first in plan.process_faults():
            if second.share < 1.0 or first.share < 1.0 or (first.begin_s, earlier) >= (second.begin_s, later):
                continue
            both = [name for name in plan.whom(later, peers) if name in plan.whom(earlier, peers)]
            if both and second.begin_s < first.end_s and _excludes(first, second):
                raise ConfigError(
                    f"begins at {second.begin_s:g} s, but then {both[0]} is in fault {earlier + 1}: {first.words()}",
                    file=f"{file}: fault {later + 1} ({second.kind})",  # type: ignore[attr-defined]
                )


def _excludes(first: ProcessFault, second: ProcessFault) -> bool:
    """Whether `second` cannot happen to a process while `first` lasts."""
    if isinstance(first, Kill | Restart):
        return True  # there is no process
    return type(first) is type(second) and not isinstance(first, ClockJump)
