"""Thousands of real workers in virtual time, in one process: `gossipdistill simulate`."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from gossipdistill.assembly.building import build_model, build_schedule, fingerprint_of
from gossipdistill.assembly.publishing import refuse_unsendable
from gossipdistill.config.dealing import part_of, refuse_one_part_twice
from gossipdistill.config.layers import Layer, Resolved
from gossipdistill.config.origins import chosen
from gossipdistill.config.plan import Asked, new_run_folder, planned_peer, with_roster_entry
from gossipdistill.config.resolving import resolve
from gossipdistill.config.schema import RunConfig, SimKeys
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.config.tables import Dotted
from gossipdistill.durable import Disk, put
from gossipdistill.errors import EXIT_INTERRUPTED, EXIT_LOST, EXIT_UNMET, ConfigError, NeedsError
from gossipdistill.events import Event, EventKind
from gossipdistill.faults import FaultPlan, LinkFaults, ProcessFaults, load_fault_plan
from gossipdistill.learning.flat import flat_parameters
from gossipdistill.limits import DEFAULT_LIMITS
from gossipdistill.observe.endings import exit_code_of
from gossipdistill.observe.recorder import FILE, event_line
from gossipdistill.observe.records import CurveRecord, SimulationRecord, SummaryRecord
from gossipdistill.observe.report import noted, summarise, write_json
from gossipdistill.roster import classify, load_roster
from gossipdistill.sim.checkers import Checker, Conditions, FaultsRecover, NobodyWaits, all_checkers
from gossipdistill.sim.checkers.mass import MassConserved
from gossipdistill.sim.compute import Compute
from gossipdistill.sim.host import Host, Launch, address_of
from gossipdistill.sim.network import INFINITE, Network, Quality
from gossipdistill.sim.observer import Observer
from gossipdistill.sim.world import World
from gossipdistill.simulation.expectations import Judge
from gossipdistill.simulation.peer import PeerFactory, SimulatedPeer
from gossipdistill.simulation.results import faults_of, peer_entry, per_peer, without_too_many_links
from gossipdistill.strategies.base import Delivery, RoundOptions

SIMULATED: Dotted = {
    "name": "simulated",
    "peers": "100",
    "topology": "one_peer_exponential",
    "seconds": 60.0,
    "task.name": "quadratic",
    "strategy.name": "sgp",
}
"""These are the keys of the run that is simulated when no run file is given."""
_SAMPLES = 100
"""Each curve has at most this many points."""
_TURN_S = 0.1
"""The real seconds, approximately, between two updates of the progress bar and checks for Ctrl-C."""
_EVENTS_KEPT_MAX = 20_000
"""At most this many events are written for each peer; further ones are only counted."""

_LAST_WORDS_S = 1.0
"""The virtual seconds between the last step of any peer and the end, so that messages under way arrive."""

Progress = Callable[[float, float, int, float], None]
"""It takes virtual seconds, the share of the run that is over (0 to 1), living peers and events handled per second."""


def plan_simulation(asked: Asked) -> list[WorkerSpec]:
    """One specification per peer. A simulated peer does not listen, so no free port is looked for.

    Raises:
        ConfigError, UsageError: with a message for the user.
    """
    layers = asked.layers(Layer(chosen("simulate"), SIMULATED))
    common = resolve(layers)
    if classify(common.config.peers) == "addresses":
        raise ConfigError(
            "a simulation has no addresses", key="peers", value=common.config.peers, accepted="a count or a roster"
        )
    roster = load_roster(common.config.peers, asked.base_of(common, "peers"))
    parts = {name: part_of(roster, name) for name in roster.names}
    refuse_one_part_twice(parts, common.config.task.shards, common.config.peers)
    folder = asked.out / common.config.name
    addresses = tuple(address_of(place) for place in range(len(roster.peer)))
    specs = []
    for place, entry in enumerate(roster.peer):
        resolved: Resolved = common
        if entry.set:
            resolved = resolve(with_roster_entry(layers, entry.name, dict(entry.set)))
        specs.append(planned_peer(asked, resolved, folder, roster, place, addresses))
    if specs[0].config.strategy_class().delivery is Delivery.COLLECTIVE:
        raise NeedsError(f"strategy {specs[0].config.strategy.name} has a transport of its own, which is not simulated")
    notices = [
        f"{entry.name}: device = {entry.device} is not used, as a simulation computes on the CPU"
        for entry in roster.peer
        if entry.device not in (None, "cpu", "auto")
    ]
    if "train.checkpoints_kept" in common.origins:
        notices.append(
            "train.checkpoints_kept is not used: a simulation keeps the newest checkpoint of each peer in memory"
        )
    return [replace(spec, device="cpu", notices=tuple(notices)) for spec in specs]


class EventLog(Observer):
    """Keeps every peer's events, and writes them in the format of a real run."""

    def __init__(self) -> None:
        self.lines: dict[str, list[str]] = {}
        self.dropped = 0

    def on_start(self, now_s: float, host: Host) -> None:
        self.said(now_s, host.name, Event(EventKind.STARTED, now_s, "", f"process {host.incarnation}"))

    def on_end(self, now_s: float, host: Host, how: str) -> None:
        self.said(now_s, host.name, Event(EventKind.FINISHED, now_s, "", f"the process was {how}"))

    def on_event(self, now_s: float, host: Host, event: Event) -> None:
        self.said(now_s, host.name, event)

    def said(self, now_s: float, name: str, event: Event) -> None:
        """An event of this peer's network or learner."""
        lines = self.lines.setdefault(name, [])
        if len(lines) < _EVENTS_KEPT_MAX:
            lines.append(event_line(event, now_s))
        else:
            self.dropped += 1

    def save(self, folder: Path) -> None:
        """`<folder>/<peer>/events.jsonl` for each."""
        disk = Disk()
        for name, lines in self.lines.items():
            disk.make_folder(folder / name)
            put(folder / name / FILE, ["".join(lines).encode()], disk, synced=False)


class _Register(Observer):
    """The newest process of each name, living or not, and when the last one ended."""

    def __init__(self) -> None:
        self.hosts: dict[str, Host] = {}
        self.ended_s = 0.0

    def on_start(self, now_s: float, host: Host) -> None:
        self.hosts[host.name] = host

    def on_end(self, now_s: float, host: Host, how: str) -> None:
        self.ended_s = now_s


@dataclass
class Curve:
    """The curves that are drawn over virtual time; each list has one entry per sample."""

    at_s: list[float] = field(default_factory=list)
    loss: list[float | None] = field(default_factory=list)
    consensus: list[float | None] = field(default_factory=list)
    """The square root of the mean over peers of |z_i - mean z|^2, over all parameters; None where models differ in
    shape."""
    exchanges_per_s: list[float] = field(default_factory=list)
    """The exchanges per second and living peer since the sample before."""
    alive: list[int] = field(default_factory=list)

    def thin(self) -> None:
        """Drop every other sample."""
        for name, samples in vars(self).items():
            setattr(self, name, samples[1::2])


@dataclass
class Simulation:
    """One simulated run. `stopped` is called regularly, and says whether to end early."""

    specs: Sequence[WorkerSpec]
    plan: FaultPlan | None = None
    progress: Progress = lambda now_s, share, alive, events_per_s: None
    stopped: Callable[[], bool] = lambda: False
    stopwatch: Callable[[], float] = time.process_time
    """The clock (s) that separates the learners' time from the protocol's. A wall clock is cheaper where reading
    processor time is slow."""
    curve: Curve = field(default_factory=Curve)
    log: EventLog = field(default_factory=EventLog)
    summary: SummaryRecord = field(init=False, repr=False)
    figures: SimulationRecord = field(init=False, repr=False)
    """The figures of the simulation are part of the summary."""
    world: World = field(init=False)
    peers: dict[str, SimulatedPeer] = field(default_factory=dict)
    """The newest simulated process of each name."""
    _register: _Register = field(default_factory=_Register)
    _exchanged: int = 0
    _done_s: float | None = None
    _sampled_s: float = 0.0
    _sample_every_s: float = 0.0
    _ended: int = 0

    def __post_init__(self) -> None:
        torch.set_num_threads(self.specs[0].threads)
        first, sim = self.specs[0], self.specs[0].config.sim
        strategy = first.config.make_strategy()
        self._peer_factory = PeerFactory({spec.name: spec for spec in self.specs}, build_schedule(first, strategy))
        self._peer_factory.plan = self.plan
        task = self._peer_factory.task_of(first, strategy)
        model = build_model(first, strategy, task)
        refuse_unsendable(first, strategy, task, model)
        prints = fingerprint_of(first, strategy, task, model)
        names = [spec.name for spec in self.specs]
        self._paces = [_compute(spec, sim).pace(spec.place, first.config.seed, spec.slowdown) for spec in self.specs]
        config = first.config
        expected_s = config.seconds if config.seconds is not None else (config.steps or 1) * _step_s(config)
        self._sample_every_s = expected_s / _SAMPLES
        self.checkers = self._checkers(strategy.options)
        observers = [*self.checkers, self.log, self._register]
        self.judge = Judge(self.plan, names) if self.plan is not None and self.plan.expect else None
        if self.judge is not None:
            observers.append(self.judge)
        self.world = World(
            names,
            self.spawn,
            _network(sim, first.config.seed, self.plan, names),
            ProcessFaults(self.plan, names) if self.plan else None,
            DEFAULT_LIMITS,
            first.config.seed,
            fingerprint=prints,
            observers=observers,
            clocks_apart_s=sim.clocks_apart_s,
            stopwatch=self.stopwatch,
        )

    def run(self) -> int:
        """Run to the end, or until stopped. Returns the exit code; `summary` then holds the summary.

        Raises:
            ConfigError: when no folder can be made for the run.
        """
        world = self.world
        wanted = self.specs[0].folder.parent
        folder = new_run_folder(wanted.parent, wanted.name)  # first: a failure here must not cost a simulation
        began_s, building_s = time.perf_counter(), 0.0
        world.start_all()
        building_s, cpu_began_s = time.perf_counter() - began_s, time.process_time()
        learner_before_s, turn_s = world.learner_s, 0.01
        while not self._is_over() and not self.stopped():
            turn_began_s, events = time.perf_counter(), world.events_handled
            next_sample_s = self._sampled_s + self._sample_every_s
            turn_s = min(turn_s, _LAST_WORDS_S)  # so that the end is noticed in time on a machine of any speed
            world.run_until(min(world.now + turn_s, self._ends_at_s(), next_sample_s))
            if world.now >= next_sample_s:
                self._sample()
            took_s = max(time.perf_counter() - turn_began_s, 1e-6)
            turn_s *= min(max(_TURN_S / took_s, 0.5), 2.0)
            self.progress(world.now, self._share(), len(world.hosts), (world.events_handled - events) / took_s)
        if self._is_over():
            for checker in self.checkers:
                if isinstance(checker, FaultsRecover):
                    checker.exchanges_expected &= checker.posted_in_time(world.now)
            world.finish()
        wall_s = time.perf_counter() - began_s - building_s
        cpu_s = time.process_time() - cpu_began_s
        return self._conclude(folder, building_s, wall_s, cpu_s, world.learner_s - learner_before_s)

    def _ends_at_s(self) -> float:
        """The virtual time of the end, as far as it is known: after `seconds`, or shortly after the last step of
        all."""
        seconds = self.specs[0].config.seconds
        ends_s = float(seconds) if seconds is not None else INFINITE
        living = [self.peers[name] for name in self.world.hosts]
        if self._done_s is None and all(peer.finished for peer in living) and (living or not self._awaits_start()):
            self._done_s = max([self._register.ended_s, *(peer.finished_s or 0.0 for peer in living)])
        return ends_s if self._done_s is None else min(ends_s, self._done_s + _LAST_WORDS_S)

    def _is_over(self) -> bool:
        return self.world.now >= self._ends_at_s()

    def _awaits_start(self) -> bool:
        """Whether the plan will still start a process."""
        return self.plan is not None and any(
            fault.end_s > self.world.now for fault in self.plan.fault if fault.end_s < INFINITE
        )

    def _share(self) -> float:
        """The share of the run that is over, 0 to 1, by the nearer limit."""
        config = self.specs[0].config
        shares = [self.world.now / config.seconds] if config.seconds is not None else []
        if config.steps is not None and self.world.hosts:
            shares.append(min(self.peers[name].worker.learner.step for name in self.world.hosts) / config.steps)
        return min(max(shares, default=0.0), 1.0)

    def spawn(self, launch: Launch) -> SimulatedPeer:
        before = self.peers.get(launch.name)
        if before is not None:
            self._ended += before.worker.learner.ledger.exchanges
        made = self._peer_factory.born(
            launch.name, launch.mailbox, self._paces[launch.place], before, lambda: self.world.now
        )
        made.tell = lambda event: self.log.said(self.world.now, launch.name, event)
        self.peers[launch.name] = made
        return made

    def _checkers(self, options: object) -> list[Checker]:
        calm_s = max((fault.end_s for fault in self.plan.fault), default=0.0) if self.plan else 0.0
        if self.specs[0].config.sim.loss:
            calm_s = INFINITE
        checkers = all_checkers(Conditions(len(self.specs), calm_s, DEFAULT_LIMITS))
        for checker in checkers:
            if isinstance(checker, NobodyWaits) and isinstance(options, RoundOptions):
                checker.wait_max_s = options.round_timeout_s + 1.0
            elif isinstance(checker, FaultsRecover):
                checker.exchanges_expected = self.specs[0].config.strategy_class().delivery.gossips
        return checkers

    def _sample(self) -> None:
        since_s, self._sampled_s = self.world.now - self._sampled_s, self.world.now
        curve, living = self.curve, [self.peers[name] for name in self.world.hosts]
        curve.at_s.append(round(self.world.now, 6))
        losses = [peer.worker.task_loss for peer in living]
        finite = [loss for loss in losses if loss == loss and abs(loss) < INFINITE]
        curve.loss.append(sum(finite) / len(finite) if finite else None)
        curve.consensus.append(consensus_distance(living))
        exchanged = self._ended + sum(peer.worker.learner.ledger.exchanges for peer in self.peers.values())
        curve.exchanges_per_s.append((exchanged - self._exchanged) / since_s / max(len(living), 1))
        self._exchanged = exchanged
        curve.alive.append(len(living))
        if self.specs[0].config.seconds is None and len(curve.at_s) >= 2 * _SAMPLES:
            curve.thin()
            self._sample_every_s *= 2.0

    def _conclude(self, folder: Path, building_s: float, wall_s: float, cpu_s: float, learner_s: float) -> int:
        world = self.world
        interrupted = not self._is_over()
        violations = [str(violation) for checker in self.checkers for violation in checker.violations]
        code = EXIT_INTERRUPTED if interrupted else 1 if violations else 0
        entries = [
            peer_entry(
                self.peers[spec.name],
                self._register.hosts[spec.name],
                world.now,
                interrupted,
                spec.name not in world.hosts,
            )
            for spec in self.specs
        ]
        verdicts = self.judge.verdicts(entries, interrupted) if self.judge is not None else []
        lost = [entry.name for entry in entries if entry.status == "lost"]  # lost because of the plan
        if code == 0 and len(lost) < len(entries):
            code = exit_code_of(entries, lost)
        if code == 0 and not all(verdict.met for verdict in verdicts):
            code = EXIT_UNMET
        mass_error = next(checker.error for checker in self.checkers if isinstance(checker, MassConserved))
        self.figures = SimulationRecord(
            virtual_s=round(world.now, 3),
            building_s=round(building_s, 3),
            learner_s=round(learner_s, 3),
            events=world.events_handled,
            events_per_s=round(world.events_handled / max(wall_s, 1e-9), 1),
            protocol_us_per_event=round(1e6 * (cpu_s - learner_s) / max(world.events_handled, 1), 2),
            memory_mib=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
            consensus_distance=self.curve.consensus[-1] if self.curve.consensus else None,
            mass_error=mass_error if self._is_mass else None,
            violations=violations,
            notes=self._notes(),
            messages=dict(sorted(world.kinds_sent.items())),
            curve=CurveRecord.model_validate(vars(self.curve)),
            per_peer=per_peer(entries),
        )
        fired = dict(world.network.faults.counts) if world.network.faults is not None else {}
        faults = faults_of(self.plan, self.figures.virtual_s, fired)
        summary = summarise(self.specs[0].config, entries, wall_s, code, folder, faults, verdicts)
        self.summary = without_too_many_links(summary).but(simulation=self.figures)
        unwritten: list[str] = []
        with noted(unwritten):
            write_json(folder / "summary.json", self.summary)
            write_json(folder / "config.json", self.specs[0].resolved.as_json())
            self.log.save(folder)
        if unwritten:
            self.summary = self.summary.but(unwritten=unwritten, exit_code=self.summary.exit_code or EXIT_LOST)
        return self.summary.exit_code

    def _notes(self) -> list[str]:
        """Notes on where a real run would have gone differently."""
        linger_s = self.specs[0].config.linger_s
        finished = [s for s in (self.peers[name].finished_s for name in self.world.hosts) if s is not None]
        early = sum(max(finished) - at_s > linger_s for at_s in finished)
        if not early:
            return []
        what = (
            f"{early} peer{'s were' if early > 1 else ' was'} done more than linger_s = {linger_s:g} s before the last"
        )
        return [f"{what}; a real run would have gone on without, a simulation has each serve to the end"]

    @property
    def _is_mass(self) -> bool:
        return self.specs[0].config.strategy_class().delivery is Delivery.MASS


def load_plan(specs: Sequence[WorkerSpec], where: str | None) -> FaultPlan | None:
    """The fault plan `where` (a name or a file) for these peers; None without one."""
    return None if where is None else load_fault_plan(where, [spec.name for spec in specs])


def consensus_distance(peers: Sequence[SimulatedPeer]) -> float | None:
    """sqrt(mean_i |z_i - mean z|^2) over all parameters of the peers' models; None where their shapes differ."""
    flat = [flat_parameters(peer.worker.learner.model) for peer in peers]
    if not flat or any(one.shape != flat[0].shape for one in flat):
        return None
    rows = torch.stack(flat).double()
    return float((rows - rows.mean(dim=0)).square().sum(dim=1).mean().sqrt())


def _step_s(config: RunConfig) -> float:
    return config.train.step_time_s or config.sim.step_time_s


def _compute(spec: WorkerSpec, sim: SimKeys) -> Compute:
    return Compute(_step_s(spec.config), sim.step_jitter, sim.straggler_share, sim.straggler_factor)


def _network(sim: SimKeys, seed: int, plan: FaultPlan | None, names: Sequence[str]) -> Network:
    def limit(megabytes_per_s: float) -> float:
        return megabytes_per_s * 1e6 or INFINITE

    quality = Quality(sim.latency_s, sim.jitter_s, limit(sim.megabytes_per_s), sim.loss)
    faults = LinkFaults(plan, names) if plan is not None and plan.link_faults() else None
    return Network(quality, egress_bytes_per_s=limit(sim.egress_megabytes_per_s), faults=faults, seed=seed)
