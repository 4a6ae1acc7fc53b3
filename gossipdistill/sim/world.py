"""A world of processes in virtual time: one heap of events, and the same objects as on real sockets.

The owner starts processes and lets time pass:

    world = World(names, spawn, network=Network(...), seed=7)
    world.start_all()
    world.run_until(60.0)

Rules of this file
1. A peer's timer is looked at only after the peer was touched; an entry of the heap that is out of date is ignored.
2. Each process has a clock of its own. Nobody's time is compared with anybody else's.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from gossipdistill.events import EventKind
from gossipdistill.faults import ActKind, ProcessFaults
from gossipdistill.ids import Boot, PeerName, next_boot
from gossipdistill.limits import DEFAULT_LIMITS, Limits
from gossipdistill.mailbox import Mailbox
from gossipdistill.messages import Consignment, Envelope, Piece, State, Transmit
from gossipdistill.presence import Address, Contact
from gossipdistill.protocol.directory import Directory
from gossipdistill.protocol.members import Identity
from gossipdistill.protocol.peer import Peer
from gossipdistill.sim.clockwork import Clockwork
from gossipdistill.sim.host import BACKLOG_MAX, HANDLING_S, NEVER, Birth, Host, Leaver, Spawn, address_of, nobody
from gossipdistill.sim.network import Network, garble, nbytes_of
from gossipdistill.sim.observer import Observer
from gossipdistill.wire.crossing import cross

WALL_CLOCK_BEGAN_S = 1_700_000_000.0
_TIMER_GAP_S = 0.001
"""As the socket driver: it looks at its timers at most once a millisecond."""


class World(Clockwork):
    """All processes and the network between them. Names have the places and addresses of their order."""

    def __init__(
        self,
        names: Sequence[str],
        spawn: Spawn = nobody,
        network: Network | None = None,
        processes: ProcessFaults | None = None,
        limits: Limits = DEFAULT_LIMITS,
        seed: int = 0,
        closed: bool = True,
        fingerprint: Mapping[str, str] | None = None,
        observers: Iterable[Observer] = (),
        over_the_wire: bool = False,
        clocks_apart_s: float = 0.0,
        tick_s: float = 1.0,
        stopwatch: Callable[[], float] | None = None,
    ) -> None:
        """
        Args:
            closed: everybody knows everybody from a roster; else the first peer's address is all that others know.
            over_the_wire: each message is encoded and decoded, as on real sockets (slower).
            clocks_apart_s: clocks of processes differ by up to so many seconds.
            stopwatch: a clock of the real world, to tell the learners' time from the protocol's.
        """
        super().__init__(observers, tick_s)
        self.names = [PeerName(name) for name in names]
        self.places = {name: place for place, name in enumerate(self.names)}
        self.addresses = [address_of(place) for place in range(len(self.names))]
        self.network = network if network is not None else Network(seed=seed)
        self.limits, self.closed, self.seed = limits, closed, seed
        self.hosts: dict[PeerName, Host] = {}
        """The living processes by name."""
        self.learner_s = 0.0
        self.kinds_sent: Counter[str] = Counter()
        self._spawn, self._processes, self._stopwatch = spawn, processes, stopwatch
        self._fingerprint = dict(fingerprint) if fingerprint is not None else {"run": "simulated"}
        self._over_the_wire, self._clocks_apart_s = over_the_wire, clocks_apart_s
        self._random = random.Random(f"world {seed}")
        self._contacts = self._make_contacts() if closed else Directory()
        self._at: dict[Address, Host] = {}
        self._boots: dict[PeerName, int] = {}
        self._starts: Counter[PeerName] = Counter()
        self._wall_jumps_s: dict[PeerName, float] = {}
        self._slowdowns: dict[PeerName, float] = {}
        if processes is not None:
            self._await_act()

    # --- processes -----------------------------------------------------------------------------------------------

    def start_all(self, within_s: float = 0.0) -> None:
        """Start a process of every name, at random moments of the next `within_s` seconds."""
        for name in self.names:
            if within_s:
                self.at(self.now + self._random.uniform(0.0, within_s), partial(self.start, name))
            else:
                self.start(name)

    def start(self, name: str, boot: int | None = None) -> Host:
        """Start a process of this name; one that runs already is superseded, as by a second start on a real machine."""
        known = PeerName(name)
        self._end(known, "superseded")
        place, address = self.places[known], self.addresses[self.places[known]]
        wall_clock_s = WALL_CLOCK_BEGAN_S + self.now + self._wall_jumps_s.get(known, 0.0)
        boot = boot if boot is not None else next_boot(wall_clock_s, self._boots.get(known, 0))
        self._boots[known] = max(boot, self._boots.get(known, 0))
        self._starts[known] += 1
        offset_s = self._random.uniform(0.0, self._clocks_apart_s) if self._clocks_apart_s else 0.0
        me = Identity(known, Boot(boot), address, place, self._fingerprint)
        seeds = [] if self.closed or place == 0 else [self.addresses[0]]
        peer = Peer(me, len(self.names), self._contacts, seeds, self.closed, self.now + offset_s, self.limits)
        host = Host(known, place, address, boot, self._starts[known], peer, Mailbox(limits=self.limits))
        host.mailbox = Mailbox(wake=host.wake, limits=self.limits)
        host.started_s, host.clock_offset_s = self.now, offset_s
        host.slowdown = self._slowdowns.get(known, 1.0)
        host.stepper = self._spawn(Birth(known, place, host.incarnation, host.mailbox))
        self.hosts[known] = self._at[address] = host
        for hook in self._on_start:
            hook(self.now, host)
        if host.stepper is not None:
            self._push(self.now + self._random.uniform(0.0, 0.001), self._step, host, None)
        self._drain(host)
        return host

    def kill(self, name: str) -> None:
        """As SIGKILL: no last word."""
        self._end(PeerName(name), "killed")

    def leave(self, name: str, reason: str = "finished") -> None:
        """A process that ends as it should, with a last word; at the end of the step in progress, if its learner has
        something to hand over, and after that."""
        host = self.hosts.get(PeerName(name))
        if host is not None and not host.paused:
            if isinstance(host.stepper, Leaver) and not host.leaving:
                host.leaving = reason
                host.stepper.part(host.local(self.now))
                return
            host.peer.leave(reason)
            self._drain(host)
        self._end(PeerName(name), "left")

    def pause(self, name: str) -> None:
        """As SIGSTOP: nothing is read, nothing is due, nothing is learned; sockets fill up."""
        host = self.hosts.get(PeerName(name))
        if host is not None and not host.paused:
            host.paused, host.paused_s = True, self.now

    def resume(self, name: str, clock_first: bool | None = None) -> None:
        """As SIGCONT. The loop may look at its clock or at its sockets first; None: chance decides."""
        host = self.hosts.get(PeerName(name))
        if host is None or not host.paused:
            return
        host.paused = False
        if clock_first is None:
            clock_first = self._random.random() < 0.5
        backlog, host.backlog = host.backlog, []
        if clock_first:
            self._due(host)
        for envelope in backlog:
            if host.running:
                self._receive(host, envelope)
        if host.running and not clock_first:
            self._due(host)
        if host.running and host.overdue_step:
            host.overdue_step = False
            self._step(host, None)

    def slow(self, name: str, factor: float) -> None:
        """From now on everything that this process and its successors do takes `factor` times as long; 1: as before."""
        self._slowdowns[PeerName(name)] = factor
        host = self.hosts.get(PeerName(name))
        if host is not None:
            host.slowdown = factor

    def clock_jump(self, name: str, seconds: float) -> None:
        """Its clocks jump, forwards or backwards: the monotonic one, and the wall clock at later starts."""
        known = PeerName(name)
        self._wall_jumps_s[known] = self._wall_jumps_s.get(known, 0.0) + seconds
        host = self.hosts.get(known)
        if host is not None:
            host.clock_offset_s += seconds
            host.timer_s = NEVER
            self._arm(host)

    def act(self, kind: ActKind, name: str, value: float = 0.0) -> None:
        """One act of a fault plan."""
        if kind not in (ActKind.RESTART, ActKind.SLOW) and PeerName(name) not in self.hosts:
            return
        for hook in self._on_fault:
            hook(self.now, kind, name)
        if kind is ActKind.LEAVE:
            self.leave(name, "asked to end")
        elif kind is ActKind.SLOW:
            self.slow(name, value)
        elif kind is ActKind.CLOCK_JUMP:
            self.clock_jump(name, value)
        else:
            plain: dict[ActKind, Callable[[str], object]] = {
                ActKind.KILL: self.kill, ActKind.RESTART: self.start, ActKind.PAUSE: self.pause,
                ActKind.RESUME: self.resume,
            }  # fmt: skip
            plain[kind](name)

    def host(self, name: str) -> Host:
        """The living process of this name; a KeyError without one."""
        return self.hosts[PeerName(name)]

    def last_boot(self, name: str) -> int:
        """Of the newest process of this name; 1 before the first."""
        return self._boots.get(PeerName(name), 1)

    def _end(self, name: PeerName, how: str) -> None:
        host = self.hosts.pop(name, None)
        if host is None:
            return
        host.running = False
        if self._at.get(host.address) is host:
            del self._at[host.address]
        for hook in self._on_end:
            hook(self.now, host, how)

    def _make_contacts(self) -> Directory:
        """The roster, which all share."""
        pairs = zip(self.names, self.addresses, strict=True)
        return Directory(Contact(name, address, place) for place, (name, address) in enumerate(pairs))

    # --- time ----------------------------------------------------------------------------------------------------

    def _await_act(self) -> None:
        assert self._processes is not None
        next_s = self._processes.next_s()
        if next_s < NEVER:
            self._push(max(next_s, self.now), self._acts_due, None, None)

    def _acts_due(self, subject: object, detail: object) -> None:
        assert self._processes is not None
        for one in self._processes.due(self.now):
            self.act(one.kind, one.peer, one.amount)
        self._await_act()

    def _arm(self, host: Host) -> None:
        """See that the host is looked at when its peer wants to be."""
        due_s = host.peer.next_timeout() - host.clock_offset_s
        if host.slowdown > 1.0:
            due_s += HANDLING_S * host.slowdown
        if due_s < host.timer_s:
            host.timer_s = max(due_s, self.now + _TIMER_GAP_S)
            self._push(host.timer_s, self._timer, host, host.timer_s)

    def _timer(self, host: Host, due_s: float) -> None:
        if host.timer_s != due_s or not host.running:
            return  # out of date
        host.timer_s = NEVER
        if not host.paused:
            self._due(host)

    def _due(self, host: Host) -> None:
        local_s, wanted_s = host.local(self.now), host.peer.next_timeout()
        if wanted_s - local_s < 1e-6:
            host.peer.report_progress(*host.mailbox.progress(), local_s)
            host.peer.handle_timeout(max(local_s, wanted_s))  # the sum of two clocks is rounded
            self._drain(host)
        else:
            self._arm(host)

    # --- learners ------------------------------------------------------------------------------------------------

    def _step(self, host: Host, detail: object) -> None:
        if not host.running or host.stepper is None:
            return
        if host.paused:
            host.overdue_step = True
            return
        before_s = self._stopwatch() if self._stopwatch is not None else 0.0
        pause_s = host.stepper.step(host.local(self.now))
        if self._stopwatch is not None:
            self.learner_s += self._stopwatch() - before_s
        host.steps += 1
        if pause_s is not None:
            pause_s *= host.slowdown
            self._push(self.now + pause_s, self._step, host, None)
        for hook in self._on_step:
            hook(self.now, host, pause_s)
        if host.woken:
            self._collect(host, None)
        if host.leaving and pause_s is None:
            self.leave(host.name, host.leaving)

    def _collect(self, host: Host, detail: object) -> None:
        """One turn of the network thread, as of the socket driver: what the learner left goes to the peer."""
        if not host.running or host.paused:
            return
        host.woken = False
        peer, local_s = host.peer, host.local(self.now)
        collected = host.mailbox.collect()
        for slot in collected.taken:
            peer.taken(slot, local_s)
        for settlement in collected.settlements:
            peer.settle(settlement)
            for hook in self._on_settle:
                hook(self.now, host, settlement)
        peer.complain(collected.complaints, local_s)
        for slot, parcel in collected.parcels:
            for hook in self._on_post:
                hook(self.now, host, slot, parcel)
            peer.publish(slot, parcel, local_s)
        peer.report_progress(*host.mailbox.progress(), local_s)
        self._drain(host)

    # --- messages ------------------------------------------------------------------------------------------------

    def inject(self, to: str, envelope: Envelope) -> None:
        """Hand a message to a process, whoever says so."""
        host = self.hosts.get(PeerName(to))
        if host is not None:
            self._land(host.address, envelope)

    def _drain(self, host: Host) -> None:
        """Everything that the peer wants done."""
        peer, mailbox, now = host.peer, host.mailbox, self.now
        for transmit in peer.transmits():
            self._send(host, transmit)
        for arrival in peer.arrivals():
            mailbox.deliver(arrival)
            for hook in self._on_arrival:
                hook(now, host, arrival)
        freed = peer.freed()
        if freed:
            mailbox.free(freed)
        events, neighbourhood = peer.events(), peer.neighbourhood()
        if events or neighbourhood is not None:
            mailbox.tell(neighbourhood, events)
        if mailbox.await_taking(peer.awaits_taking()):
            self._push(now, self._collect, host, None)
        superseded = False
        for event in events:
            superseded = superseded or event.kind is EventKind.SUPERSEDED
            for hook in self._on_event:
                hook(now, host, event)
        if superseded:
            self._end(host.name, "superseded")
        elif host.running:
            self._arm(host)

    def _send(self, host: Host, transmit: Transmit) -> None:
        for hook in self._on_transmit:
            hook(self.now, host, transmit)
        envelope, address = transmit.envelope, transmit.address
        message = envelope.message
        if self._over_the_wire:
            envelope, nbytes = cross(envelope, self.limits)
        else:
            nbytes = nbytes_of(message)
        to = envelope.to or self._name_at(address)
        is_data = isinstance(message, State | Consignment | Piece)
        journey = self.network.carry(host.name, to, nbytes, is_data, self.now)
        if not journey.taken:
            host.peer.not_sent(transmit, host.local(self.now))
            return
        host.messages_sent += 1
        host.bytes_sent += nbytes
        self.kinds_sent[type(message).__name__] += 1
        target = self._at.get(address)
        later_s = HANDLING_S * target.slowdown if target is not None and target.slowdown > 1.0 else 0.0
        handle = self._land_garbled if journey.corrupt else self._land
        for at_s in journey.arrivals_s:
            self._push(at_s + later_s, handle, address, envelope)

    def _name_at(self, address: Address) -> str:
        host = self._at.get(address)
        return host.name if host is not None else ""

    def _land(self, address: Address, envelope: Envelope) -> None:
        host = self._at.get(address)
        if host is None:
            return
        if host.paused:
            if len(host.backlog) < BACKLOG_MAX:
                host.backlog.append(envelope)
            return
        self._receive(host, envelope)

    def _receive(self, host: Host, envelope: Envelope) -> None:
        host.messages_received += 1
        host.bytes_received += nbytes_of(envelope.message)
        for hook in self._on_deliver:
            hook(self.now, host, envelope)
        host.peer.receive(envelope, host.local(self.now))
        self._drain(host)

    def _land_garbled(self, address: Address, envelope: Envelope) -> None:
        """A byte of it was flipped on the way: the codec finds that out, or what it says is still a message."""
        host = self._at.get(address)
        if host is None or host.paused:
            return
        code, problem = garble(envelope, self._random, self.limits)
        host.peer.receive_malformed(envelope.sender, code, problem, host.local(self.now))
        self._drain(host)
