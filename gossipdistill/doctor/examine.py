"""One examination: gather facts, meet the others, run the checks, and return all findings as one object."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from gossipdistill.bundled import find
from gossipdistill.doctor import local
from gossipdistill.doctor.case import Case, Machine, Meeting, Port, Verdict
from gossipdistill.doctor.checks import CHECKS
from gossipdistill.doctor.keys import look_at_keys
from gossipdistill.doctor.meetings import Meetings
from gossipdistill.doctor.talk import Progress, talk
from gossipdistill.drivers.zeromq.security import Curve
from gossipdistill.errors import ConfigError, UsageError
from gossipdistill.ids import next_boot
from gossipdistill.machine.lookups import LookUp, look_up_all
from gossipdistill.observe.examination import ExaminationRecord, FindingRecord, MeetingRecord
from gossipdistill.presence import NOWHERE, Address
from gossipdistill.roster import PeerEntry, Roster, classify, load_roster, parse_address

CALLED_MAX = 64
"""At most this many others are called, the next ones in the roster; the doctors before this one call it."""
_GRACE_S = 20.0
"""A doctor that came at the last moment is examined for up to this many seconds more."""
_OWN_PORT_S = 1.0


@dataclass(frozen=True, slots=True)
class Asked:
    """The options of the command line. `seconds` limits the wait for the others; 0: look at this machine only."""

    where: str
    name: str | None = None
    listen: str | None = None
    advertise: str | None = None
    seconds: float = 60.0
    key: Path | None = None
    secure: bool = False
    machine: Machine = field(default_factory=local.machine)


def examine(asked: Asked, progress: Progress) -> ExaminationRecord:
    """Do the examination. Returns the summary of all findings, which `--format json` prints.

    Raises:
        ConfigError: for a roster that cannot be read or is refused, or a name that is not in it.
    """
    roster = _roster(asked.where)
    entry = roster.entry(asked.name) if asked.name is not None else None
    look_ups = look_up_all(_hosts(roster, entry, asked))
    here = tuple(one.name for one in roster.peer if _is_here(one, look_ups))
    if entry is None and len(here) == 1:
        entry = roster.entry(here[0])
    case = Case(asked.where, roster, asked.machine, here=here, look_ups=_shown(look_ups, roster))
    if entry is not None:
        listen, advertise = _places(entry, asked)
        case = replace(
            case,
            name=entry.name,
            named=asked.name is not None,
            listen=listen,
            advertise=advertise,
            bound_host=local.bound(listen, look_ups),
        )
    file = find("peers", asked.where).resolve()
    keys, curve = look_at_keys(asked.key, asked.secure, case, file)
    case = replace(case, keys=keys)
    if entry is not None:
        case = replace(case, ports=_ports(case, curve))
        if asked.seconds > 0:
            case = _met(case, look_ups, asked.seconds, progress, curve)
    return _summary(case)


def _roster(where: str) -> Roster:
    if classify(where) == "count":
        raise ConfigError(
            "peers that are only counted find free ports on this machine by themselves",
            key="peers",
            value=where,
            accepted="a roster, ready-made or a .toml file",
        )
    roster = load_roster(where)
    if roster.without_ports:
        names = ", ".join(roster.without_ports[:8])
        text = f"port 0 lets `gossipdistill run` pick a port; other peers could not call {names}"
        raise ConfigError(text, file=where, key="address", accepted="a port from 1 on")
    return roster


def _hosts(roster: Roster, entry: PeerEntry | None, asked: Asked) -> list[str]:
    """The hosts to look up: all of a small roster; of a large one, those of peers that may be called."""
    peers = list(roster.peer)
    if entry is not None and len(peers) > CALLED_MAX:
        place = roster.place(entry.name)
        peers = (peers[place:] + peers[:place])[: CALLED_MAX + 1]
    hosts = [one.address.host for one in peers if one.address != NOWHERE]
    if asked.listen not in (None, "none"):
        hosts.append(parse_address(str(asked.listen)).host)
    return hosts


def _is_here(entry: PeerEntry, look_ups: Mapping[str, LookUp]) -> bool:
    known = look_ups.get(entry.address.host)
    return known is not None and known.mine


def _shown(look_ups: Mapping[str, LookUp], roster: Roster) -> dict[str, LookUp]:
    return {one.address.host: look_ups[one.address.host] for one in roster.peer if one.address.host in look_ups}


def _places(entry: PeerEntry, asked: Asked) -> tuple[Address, Address]:
    """The addresses where this peer listens and where others reach it, as for a worker; NOWHERE twice for "none"."""
    listen = asked.listen or entry.listen
    if listen == "none":
        if asked.advertise:
            raise UsageError(
                f"--listen none means that nobody can reach this peer; leave out --advertise {asked.advertise}"
            )
        return NOWHERE, NOWHERE
    known = parse_address(asked.advertise) if asked.advertise else entry.address
    listening = parse_address(listen) if listen else known
    return listening, known if known != NOWHERE else listening


def _ports(case: Case, curve: Curve | None) -> tuple[Port, ...]:
    if case.listen == NOWHERE or not case.bound_host:
        return ()
    ports = local.ports_of(case.bound_host, case.listen.port)
    if all(not port.problem for port in ports):
        return ports
    host = "127.0.0.1" if case.bound_host == "0.0.0.0" else "::1" if case.bound_host == "::" else case.bound_host
    met = _meet_holder(case, Address(host, case.listen.port), curve)
    return tuple(replace(port, by_gossip=bool(met.kind and port.problem)) for port in ports)


def _meet_holder(case: Case, address: Address, curve: Curve | None) -> Meeting:
    """Meet the process that holds this peer's own port, to see whether it is a worker or a doctor."""
    boot = next_boot(time.time())
    meetings = Meetings(case.name, boot, NOWHERE, 0, case.machine.versions, (case.name,), listens=False)
    talk(meetings, boot, None, {case.name: address}, _OWN_PORT_S, 0.0, lambda missing, left_s: None, curve)
    return meetings.result()[case.name]


def _met(case: Case, look_ups: Mapping[str, LookUp], seconds: float, progress: Progress, curve: Curve | None) -> Case:
    place = case.roster.place(case.name)
    ring = [*case.roster.peer[place + 1 :], *case.roster.peer[:place]]
    dial: dict[str, Address] = {}
    called = ring[:CALLED_MAX]
    for entry in called:
        known = look_ups.get(entry.address.host)
        if known is not None and known.addresses:
            dial[entry.name] = Address(known.addresses[0], entry.address.port)
    undialled = [entry.name for entry in called if entry.name not in dial]
    answered = [entry.name for entry in ring[CALLED_MAX:][-CALLED_MAX:]]
    boot = next_boot(time.time())
    meetings = Meetings(
        case.name, boot, case.advertise, place, case.machine.versions, tuple(dial), undialled, answered, case.listens
    )
    listen = Address(case.bound_host, case.listen.port) if case.listens else None
    waited_s, turned_away = talk(meetings, boot, listen, dial, seconds, _GRACE_S, progress, curve)
    result = meetings.result()
    silent = {name: (address.host, address.port) for name, address in dial.items() if not result[name].reached}
    for name, error in local.dial_all(silent).items():
        result[name] = replace(result[name], dial_error=error)
    in_order = {entry.name: result[entry.name] for entry in case.roster.peer if entry.name in result}
    assert case.keys is not None
    hosts = {name: address.host for name, address in dial.items() if not result[name].reaches_me}
    others = {name: turned_away[host] for name, host in hosts.items() if host in turned_away}
    return replace(case, meetings=in_order, waited_s=waited_s, keys=replace(case.keys, others=others))


def _summary(case: Case) -> ExaminationRecord:
    findings: list[FindingRecord] = []
    exit_code = 0
    for title, check in CHECKS.items():
        for one in check.look(case):
            if one.verdict is Verdict.PROBLEM:
                exit_code = exit_code or check.exit_code
            verdict = one.verdict.value
            findings.append(
                FindingRecord(check=title, about=one.about, verdict=verdict, found=one.found, advice=one.advice)
            )
    counts = Counter(found.verdict for found in findings)
    return ExaminationRecord(
        version=1,
        peers=case.where,
        name=case.name or None,
        exit_code=exit_code,
        waited_s=round(case.waited_s, 2),
        counts={verdict.value: counts[verdict.value] for verdict in Verdict},
        versions=dict(case.machine.versions),
        findings=findings,
        others={name: _figures(met) for name, met in case.meetings.items()},
    )


def _figures(met: Meeting) -> MeetingRecord:
    return MeetingRecord(
        kind=met.kind or None,
        reached=met.reached,
        reaches_me=met.reaches_me,
        round_trip_s=met.round_trip_s,
        small_transfer_s=met.small_s,
        large_transfer_bytes=met.large_bytes,
        large_transfer_bytes_per_s=met.large_bytes / met.large_s if met.large_s else None,
        clock_ahead_s=met.clock_ahead_s,
        versions=dict(met.versions),
    )
