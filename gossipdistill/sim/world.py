"""A world of processes in virtual time: one heap of events, and the same objects as on real sockets.

The owner starts processes and advances time:

    world = World(names, spawn, network=Network(...), seed=7)
    world.start_all()
    world.run_until(60.0)

Rule of this file
Each process has a clock of its own. Times of different processes are never compared.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from gossipdistill.faults import ActKind, ProcessFaults
from gossipdistill.ids import Boot, PeerName, next_boot
from gossipdistill.limits import DEFAULT_LIMITS, Limits
from gossipdistill.mailbox import Mailbox
from gossipdistill.messages import Envelope
from gossipdistill.presence import Contact
from gossipdistill.protocol.directory import Directory
from gossipdistill.protocol.members import Identity
from gossipdistill.protocol.peer import Peer
from gossipdistill.sim.event_loop import EventLoop
from gossipdistill.sim.host import NEVER, Host, Launch, Spawn, address_of, nobody
from gossipdistill.sim.hosts import Hosts
from gossipdistill.sim.network import Network
from gossipdistill.sim.network_threads import NetworkThreads
from gossipdistill.sim.observer import Observer
from gossipdistill.sim.steps import Steps

WALL_CLOCK_BEGAN_S = 1_700_000_000.0


class World(EventLoop):
    """All processes and the network between them. Names have places and addresses in their order."""

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
        keyed: bool = False,
    ) -> None:
        """
        Args:
            closed: all peers know one another from a roster; else the others know only the first peer's address.
            over_the_wire: each message is encoded and decoded, as on real sockets (slower).
            clocks_apart_s: clocks of processes differ by up to this many seconds.
            keyed: the sender under a name has that name's key, as on sockets with keys.
            stopwatch: a clock of the real world, to tell the learners' time from the protocol's.
        """
        super().__init__(observers, tick_s)
        self.names = [PeerName(name) for name in names]
        self.places = {name: place for place, name in enumerate(self.names)}
        self.addresses = [address_of(place) for place in range(len(self.names))]
        self.network = network if network is not None else Network(seed=seed)
        self.limits, self.closed, self.seed = limits, closed, seed
        self.keyed = keyed
        self._spawn, self._processes = spawn, processes
        self._fingerprint = dict(fingerprint) if fingerprint is not None else {"run": "simulated"}
        self._clocks_apart_s = clocks_apart_s
        self._random = random.Random(f"world {seed}")
        self._contacts = self._make_contacts() if closed else Directory()
        self._hosts = Hosts(self)
        self._threads = NetworkThreads(self, self._hosts, self.network, limits, over_the_wire, self._random)
        self._steps = Steps(self, self._hosts, self._threads, stopwatch)
        self.hosts = self._hosts.by_name
        """The living processes by name."""
        self.kinds_sent = self._threads.kinds_sent
        self._boots: dict[PeerName, int] = {}
        self._starts: Counter[PeerName] = Counter()
        self._wall_jumps_s: dict[PeerName, float] = {}
        self._slowdowns: dict[PeerName, float] = {}
        if processes is not None:
            self._await_act()

    # --- processes -----------------------------------------------------------------------------------------------

    def start_all(self, within_s: float = 0.0) -> None:
        """Start a process of every name, at random times of the next `within_s` seconds."""
        for name in self.names:
            if within_s:
                self.at(self.now + self._random.uniform(0.0, within_s), partial(self.start, name))
            else:
                self.start(name)

    def start(self, name: str, boot: int | None = None) -> Host:
        """Start a process of this name; a running one is superseded, as by a second start on a real machine."""
        known = PeerName(name)
        self._hosts.end(known, "superseded")
        place, address = self.places[known], self.addresses[self.places[known]]
        wall_clock_s = WALL_CLOCK_BEGAN_S + self.now + self._wall_jumps_s.get(known, 0.0)
        boot = boot if boot is not None else next_boot(wall_clock_s, self._boots.get(known, 0))
        self._boots[known] = max(boot, self._boots.get(known, 0))
        self._starts[known] += 1
        offset_s = self._random.uniform(0.0, self._clocks_apart_s) if self._clocks_apart_s else 0.0
        me = Identity(known, Boot(boot), address, place, self._fingerprint)
        seeds = [] if self.closed or place == 0 else [self.addresses[0]]
        peer = Peer(me, len(self.names), self._contacts, seeds, self.closed, self.now + offset_s, self.limits)
        if self.keyed:
            peer.key_distribution.prove_senders()
        host = Host(known, place, address, boot, self._starts[known], peer, Mailbox(limits=self.limits))
        host.mailbox, host.send = Mailbox(wake=host.wake, limits=self.limits), partial(self._threads.send, host)
        host.started_s, host.clock_offset_s = self.now, offset_s
        host.slowdown = self._slowdowns.get(known, 1.0)
        host.stepper = self._spawn(Launch(known, place, host.incarnation, host.mailbox))
        self._hosts.add(host)
        for hook in self.hooks.on_start:
            hook(self.now, host)
        if host.stepper is not None:
            self._steps.begin(host, self.now + self._random.uniform(0.0, 0.001))
        self._threads.drain(host)
        return host

    def kill(self, name: str) -> None:
        """Kill a process, as with SIGKILL: without a last message."""
        self._hosts.end(PeerName(name), "killed")

    def leave(self, name: str, reason: str = "finished") -> None:
        """End a process normally, with a last message: at the end of the step in progress, and after a learner with
        something to hand over has done so."""
        host = self.hosts.get(PeerName(name))
        if host is not None:
            self._steps.leave(host, reason)

    def pause(self, name: str) -> None:
        """Stop a process, as with SIGSTOP: it reads nothing, its timers do not fire, it learns nothing; its sockets
        fill up."""
        host = self.hosts.get(PeerName(name))
        if host is not None and not host.paused:
            host.paused, host.paused_s = True, self.now

    def resume(self, name: str, clock_first: bool | None = None) -> None:
        """Continue a process, as with SIGCONT. The loop may read its clock or its sockets first; with None this is
        random."""
        host = self.hosts.get(PeerName(name))
        if host is None or not host.paused:
            return
        host.paused = False
        if clock_first is None:
            clock_first = self._random.random() < 0.5
        backlog, host.backlog = host.backlog, []
        if clock_first:
            self._threads.due(host)
        for envelope in backlog:
            if host.running:
                self._threads.receive(host, envelope)
        if host.running and not clock_first:
            self._threads.due(host)
        self._steps.catch_up(host)

    def slow(self, name: str, factor: float) -> None:
        """From now on this process and its successors take `factor` times as long for everything; 1 means as before."""
        self._slowdowns[PeerName(name)] = factor
        host = self.hosts.get(PeerName(name))
        if host is not None:
            host.slowdown = factor

    def clock_jump(self, name: str, seconds: float) -> None:
        """Let its clocks jump, forwards or backwards: the monotonic one, and the wall clock at later starts."""
        known = PeerName(name)
        self._wall_jumps_s[known] = self._wall_jumps_s.get(known, 0.0) + seconds
        host = self.hosts.get(known)
        if host is not None:
            host.clock_offset_s += seconds
            host.timer_s = NEVER
            self._threads.arm(host)

    def act(self, kind: ActKind, name: str, value: float = 0.0) -> None:
        """Do one act of a fault plan."""
        if kind not in (ActKind.RESTART, ActKind.SLOW) and PeerName(name) not in self.hosts:
            return
        for hook in self.hooks.on_fault:
            hook(self.now, kind, name)
        if kind is ActKind.LEAVE:
            self.leave(name, "asked to end")
        elif kind is ActKind.SLOW:
            self.slow(name, value)
        elif kind is ActKind.CLOCK_JUMP:
            self.clock_jump(name, value)
        else:
            plain: dict[ActKind, Callable[[str], object]] = {
                ActKind.KILL: self.kill,
                ActKind.RESTART: self.start,
                ActKind.PAUSE: self.pause,
                ActKind.RESUME: self.resume,
            }
            plain[kind](name)

    def host(self, name: str) -> Host:
        """The living process of this name; raises KeyError without one."""
        return self.hosts[PeerName(name)]

    def last_boot(self, name: str) -> int:
        """The boot of the newest process of this name; 1 before the first."""
        return self._boots.get(PeerName(name), 1)

    def _make_contacts(self) -> Directory:
        """The roster that all share."""
        pairs = zip(self.names, self.addresses, strict=True)
        return Directory(Contact(name, address, place) for place, (name, address) in enumerate(pairs))

    # --- time ----------------------------------------------------------------------------------------------------

    def _await_act(self) -> None:
        assert self._processes is not None
        next_s = self._processes.next_s()
        if next_s < NEVER:
            self.push(max(next_s, self.now), self._acts_due, None, None)

    def _acts_due(self, subject: object, detail: object) -> None:
        assert self._processes is not None
        for one in self._processes.due(self.now):
            self.act(one.kind, one.peer, one.amount)
        self._await_act()

    # --- messages --------------------------------------------------------------------------------------------------

    def inject(self, to: str, envelope: Envelope) -> None:
        """Hand a message to a process; an observer may have made it up."""
        host = self.hosts.get(PeerName(to))
        if host is not None:
            self._threads.land(host.address, envelope)
