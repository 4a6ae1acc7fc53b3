"""Probes: which members are asked for a sign of life, by which relays when they do not answer, and what I probe for
others.

One probe, as its sender sees it (SWIM, Das et al. 2002, section 3; Lifeguard 2018 for the nacks and the stretching)

    0 s                 ping the member
    probe_timeout_s     no answer: ask `relays` others to ping it; each answers with its ack, or with a nack
    probe_interval_s    neither: the probe has failed, and the member is accused

All three are stretched by my own health. Rules of this file
1. Any message of a member is a sign of life. A member that sends messages anyway is not probed.
2. Members that exchange with me are probed as soon as they are silent; all others in turn, one per interval.
3. Nothing here goes through all members: the cost of a turn depends only on the probes in progress.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gossipdistill.ids import Boot, PeerName
from gossipdistill.presence import Ack, Nack, PingRequest
from gossipdistill.protocol.detector import Detector
from gossipdistill.protocol.directory import Rotation
from gossipdistill.protocol.members import Member, Status
from gossipdistill.protocol.probe_messages import ProbeMessages
from gossipdistill.protocol.suspicion import LocalHealth
from gossipdistill.protocol.table import Table, Timer

_TRIES = 8
"""A turn passes over at most this many members that need no probe before it is left out."""


@dataclass(slots=True)
class Probe:
    """A probe in progress since `began_s`."""

    target: PeerName
    began_s: float
    asked: tuple[PeerName, ...] = ()
    nacked: set[PeerName] = field(default_factory=set)
    indirectly_acked: bool = False


@dataclass(slots=True)
class IndirectProbe:
    """A ping that I send for another peer, `requester`, and that peer's number for it."""

    requester: PeerName
    number: int
    target: PeerName
    ends_s: float
    nacked: bool = False


@dataclass(slots=True)
class Prober:
    """Sends probes, and answers those of others."""

    table: Table
    probe_messages: ProbeMessages
    detector: Detector
    health: LocalHealth
    rotation: Rotation
    probes: dict[int, Probe] = field(default_factory=dict)
    errands: dict[int, IndirectProbe] = field(default_factory=dict)
    business: dict[PeerName, float] = field(default_factory=dict)
    """The members that there was exchange with, and the time of the last; oldest first."""
    doubts: dict[PeerName, tuple[float, tuple[PeerName, ...]]] = field(default_factory=dict)
    """The members that did not answer lately: the time at which each was last heard, and the relays that were asked."""
    untold: dict[PeerName, None] = field(default_factory=dict)
    """These members have not confirmed that I am done."""
    looks: dict[PeerName, None] = field(default_factory=dict)
    """These members are probed in the next turn, because of what others say."""
    turned_s: float = float("inf")
    """The time of the last turn."""

    def engage(self, name: PeerName, now: float) -> None:
        """Note that there is exchange with this member."""
        self.business.pop(name, None)
        self.business[name] = now
        if len(self.business) > self.table.limits.business_max:
            del self.business[next(iter(self.business))]

    # --- my probes -----------------------------------------------------------------------------------------------

    def turn(self, now: float) -> None:
        """End the probes of the last interval, and begin those of the next."""
        limits, timers, stretch = self.table.limits, self.table.timers, self.health.stretch
        ended, self.probes = self.probes, {}
        for probe in ended.values():
            self._conclude(probe, now)
        for name in self._targets(now):
            self.begin(name, now)
        self.turned_s = now
        timers.set(Timer("turn"), now + limits.probe_interval_s * self.health.stretch)
        if self.probes:
            timers.set(Timer("relays"), now + limits.probe_timeout_s * stretch)

    def begin(self, name: PeerName, now: float) -> None:
        """Probe this member; between two peers without an address only relays can."""
        member = self.table.find(name)
        if member is not None:
            member.probed_s = now
        self.probes[self.probe_messages.ping(name)] = Probe(name, now)

    def ask_others(self, now: float) -> None:
        """Ask relays to ping the members that have not answered yet."""
        for number, probe in self.probes.items():
            member = self.table.find(probe.target)
            if member is None or member.heard_s < probe.began_s:
                probe.asked = self._relays(probe.target)
                for relay in probe.asked:
                    self.probe_messages.ask(relay, number, probe.target)

    def forgive(self) -> None:
        """Forget all probes in progress: this process was stopped, and they say nothing about others."""
        self.probes.clear()
        self.errands.clear()
        for name in self.doubts:
            self.table.timers.set(Timer("doubt", name), float("inf"))
        self.doubts.clear()

    def _conclude(self, probe: Probe, now: float) -> None:
        member = self.table.find(probe.target)
        if probe.indirectly_acked or (member is not None and member.heard_s >= probe.began_s):
            return
        first = member is None or member.suspicion is None
        timeout_s = self.table.limits.silence_intervals * self.table.limits.probe_interval_s * self.health.stretch
        if first:  # a suspect that stays silent says nothing new about my own health
            self.health.worse(len(probe.asked) - len(probe.nacked) if probe.asked else 1)
        if first and member is not None and member.accepted and now < member.heard_s + timeout_s:
            self.doubts[probe.target] = (member.heard_s, probe.asked)
            self.table.timers.set(Timer("doubt", probe.target), member.heard_s + timeout_s)
        else:
            self.detector.no_answer(probe.target, probe.asked, now)

    def doubt_due(self, name: str, now: float) -> None:
        """A member that did not answer a probe has been silent for long enough, unless it was heard meanwhile."""
        member = self.table.find(name)
        heard_s, asked = self.doubts.pop(PeerName(name), (now, ()))
        if member is not None and member.suspicion is None and member.heard_s == heard_s:
            self.detector.no_answer(member.name, asked, now)

    def _targets(self, now: float) -> list[PeerName]:
        limits, rows = self.table.limits, self.table.rows
        while self.business and next(iter(self.business.values())) < now - limits.business_s:
            del self.business[next(iter(self.business))]
        everybody = not self.table.presumes and len(rows) <= limits.watched_max
        quiet_s = now - limits.probe_interval_s / 2
        urgent = [rows[n] for n in (*self.table.suspects, *self.untold, *self.looks) if n in rows]
        self.looks.clear()
        silent = [m for m in (rows.values() if everybody else self._partners(now)) if m.heard_s <= quiet_s]
        asked = {m.name: m for m in urgent + silent if self._is_probed(m)}
        retry_s = now - limits.greet_interval_max_s * 2
        asked |= {n: rows[n] for n in self.table.unreachable if rows[n].probed_s <= retry_s}
        picked = sorted(asked.values(), key=lambda m: m.probed_s)[: limits.watched_max]
        return [m.name for m in picked] + self._whose_turn(asked, now)

    def _partners(self, now: float) -> list[Member]:
        """The members that there has just been exchange with, or since the last turn, newest first."""
        since_s, partners = min(now - self.table.limits.watch_s, self.turned_s), []
        for name, last_s in reversed(self.business.items()):
            if last_s < since_s:
                break
            partners.append(self.table.rows[name])  # rows are kept as long as there is exchange
        return partners

    def _is_probed(self, member: Member) -> bool:
        if member.status is Status.UNHEARD:  # in a small run it is greeted, unless neither can dial the other
            return self.table.presumes or not self.table.me.can_dial(member.address)
        return member.status is Status.SUSPECT or (member.status is Status.ALIVE and not member.unreachable)

    def _whose_turn(self, picked: dict[PeerName, Member], now: float) -> list[PeerName]:
        names = self.table.names()
        for _ in range(min(_TRIES, len(names))):
            name = self.rotation.next(names)
            member = self.table.rows.get(name)
            if name == self.table.me.name or name in picked or (member is None and not self.table.presumes):
                continue
            if member is None or (
                member.heard_s <= now - self.table.limits.probe_interval_s
                and (self._is_probed(member) or (member.status is Status.ALIVE and member.unreachable))
            ):
                return [name]
        return []

    def _relays(self, target: PeerName) -> tuple[PeerName, ...]:
        """Choose relays: exchange partners have good links to me; in a large roster any member that is not known to be
        absent."""
        table = self.table
        near = [name for name in table.partners if name != target]
        picked = near if len(near) <= table.limits.relays else table.chance.sample(near, table.limits.relays)
        if table.presumes:
            names = table.names()
            for _ in range(_TRIES):
                name = names[table.chance.randrange(len(names))]
                member = table.rows.get(name)
                fine = member is None or (member.status in (Status.ALIVE, Status.UNHEARD) and not member.unreachable)
                if len(picked) < table.limits.relays and fine and name not in (target, table.me.name, *picked):
                    picked.append(name)
        return tuple(picked)

    # --- answers -------------------------------------------------------------------------------------------------

    def acked(self, sender: PeerName, boot: Boot, ack: Ack, now: float) -> None:
        """Handle an answer: to my probe, on behalf of its target, or to a ping that I sent for another peer."""
        indirect = self.errands.get(ack.number)
        if indirect is not None and sender == indirect.target:
            del self.errands[ack.number]
            self.probe_messages.answer(indirect.requester, indirect.number, sender, boot)
            return
        probe = self.probes.get(ack.number)
        if probe is None:
            return
        if sender == probe.target and not ack.about:
            del self.probes[ack.number]
            self.health.better()
            if self.probe_messages.done:
                self.untold.pop(sender, None)
        elif ack.about == probe.target and sender in probe.asked and not probe.indirectly_acked:
            probe.indirectly_acked = True
            self.health.better()
            self.detector.indirectly_acked(probe.target, ack.about_boot, sender, now)

    def nacked(self, sender: PeerName, nack: Nack) -> None:
        """Note that a relay answers, and has no answer from the target yet."""
        probe = self.probes.get(nack.number)
        if probe is not None and sender in probe.asked:
            probe.nacked.add(sender)

    def requested(self, sender: PeerName, request: PingRequest, now: float) -> None:
        """Ping a member on behalf of another."""
        table, target = self.table, request.target
        if target == table.me.name:
            self.probe_messages.answer(sender, request.number, table.me.name, table.me.boot)
            return
        if table.address_of(target) is None or len(self.errands) >= table.limits.errands_max:
            self.probe_messages.nack(sender, request.number)
            return
        number = self.probe_messages.ping(target)
        self.errands[number] = IndirectProbe(sender, request.number, target, now + table.limits.probe_interval_s)
        table.timers.set(Timer("errand", str(number)), now + 0.8 * table.limits.probe_timeout_s)

    def indirect_due(self, number: int, now: float) -> None:
        """There was no answer in time: send a nack; an answer that arrives later is still passed on."""
        indirect = self.errands.get(number)
        if indirect is None:
            return
        if now >= indirect.ends_s:
            del self.errands[number]
            return
        self.probe_messages.nack(indirect.requester, indirect.number)
        self.table.timers.set(Timer("errand", str(number)), indirect.ends_s)
