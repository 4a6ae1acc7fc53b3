"""From a seed to a storm: the peers, their learners, the faults, and the calm after them.

    storm = storm_of(seed)          everything about it, as data
    outcome = blow(storm)           run it, with every checker watching
    smaller = shrink(storm)         the same failure with less of everything

A storm is quiet, then stormy, then calm. The calm is as long as the stated bounds of the checkers, and no longer.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gossipdistill.faults import FaultPlan, LinkFaults, ProcessFaults
from gossipdistill.faults.kinds import KINDS
from gossipdistill.ids import PeerName
from gossipdistill.limits import DEFAULT_LIMITS, Limits
from gossipdistill.messages import Mode
from gossipdistill.sim.bender import Bender
from gossipdistill.sim.byzantine import ByzantinePeer
from gossipdistill.sim.checkers import Checker, Conditions, MassConserved, Violation, all_checkers
from gossipdistill.sim.compute import Compute
from gossipdistill.sim.host import Launch, Stepper
from gossipdistill.sim.late_messages import LateMessages
from gossipdistill.sim.lazy import Lazy
from gossipdistill.sim.learners import Publisher, Streamer, Walker
from gossipdistill.sim.network import Network, Quality
from gossipdistill.sim.observer import Observer
from gossipdistill.sim.world import World

PEERS_MIN, PEERS_MAX = 3, 200
_SMALL_MAX = 24


@dataclass(frozen=True)
class Storm:
    """Everything in one storm, as data: equal storms have equal transcripts."""

    seed: int
    peers: int
    learner: str
    """The learner is "walker", "publisher" or "streamer"."""
    faults: tuple[dict[str, Any], ...] = ()
    """These are the `[[fault]]` tables."""
    quiet_s: float = 3.0
    storm_s: float = 10.0
    closed: bool = True
    byzantine: str = ""
    bends: bool = False
    """The liar also sends every kind of message with every field mutated."""
    lazy: bool = False
    """The liar also confirms nothing, sends nothing and asks for ever."""
    latency_s: float = 0.005
    jitter_s: float = 0.0
    refusal: float = 0.0
    """The probability that a socket refuses a message."""
    step_time_s: float = 0.1
    every_steps: int = 5
    straggler_share: float = 0.0
    pull: bool = False
    keyed: bool = False
    """With keys, no peer can send in another's name."""
    homing: float = 0.0
    """The share of parcels that learners of mass refuse, and so return."""
    over_the_wire: bool = False
    clocks_apart_s: float = 0.0
    start_within_s: float = 0.0
    limits: Limits = field(default=DEFAULT_LIMITS)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the peers, by place."""
        return tuple(f"p{place}" for place in range(self.peers))

    @property
    def conditions(self) -> Conditions:
        """The conditions that the checkers get."""
        bent = frozenset([self.byzantine]) if self.bends or self.lazy else frozenset[str]()
        return Conditions(self.peers, self.quiet_s + self.storm_s, self.limits, bent)

    @property
    def ends_s(self) -> float:
        """The length of the storm in virtual seconds."""
        return self.conditions.settled_from_s + 0.5

    def plan(self) -> FaultPlan:
        """Its faults as a plan."""
        return FaultPlan(seed=self.seed, fault=tuple(KINDS[one["kind"]].model_validate(one) for one in self.faults))

    def words(self) -> list[str]:
        """A description: one line on the peers, one for each fault."""
        who = f"{self.peers} peers, each a {self.learner}, " + ("from a roster" if self.closed else "without a roster")
        how = ", and bends every field" if self.bends else ", and is lazy" if self.lazy else ""
        lines = [f"seed {self.seed}: {who}" + (f"; {self.byzantine} lies{how}" if self.byzantine else "")]
        for fault in sorted(self.plan().fault, key=lambda one: one.begin_s):
            lines.append(f"  {fault.begin_s:5.1f} to {min(fault.end_s, self.ends_s):5.1f} s  {fault.words()}")
        calm_s = self.conditions.calm_from_s
        return [*lines, f"  {calm_s:5.1f} to {self.ends_s:5.1f} s  calm"]


@dataclass
class Outcome:
    """The result of a storm."""

    storm: Storm
    violations: list[Violation]
    fired: Counter[str]
    """The number of times that each kind of fault affected a message or a process."""
    events: int
    virtual_s: float
    arrivals: int

    def report(self) -> str:
        """The violations, and the command that replays them."""
        lines = [*self.storm.words(), *(f"  {violation}" for violation in self.violations)]
        return "\n".join([*lines, f"  replay: {replay_command(self.storm.seed)}"])


def replay_command(seed: int) -> str:
    """The command that runs this storm again, shrunk as far as possible."""
    return f"gossipdistill simulate --storm {seed} --shrink"


# --- a seed becomes a storm -------------------------------------------------------------------------------------------


def storm_of(seed: int) -> Storm:
    """The storm of this seed. Most are small, so that many can be run; one in fifty has more than 64 peers."""
    chance = random.Random(f"storm {seed}")
    low, high, share = (PEERS_MIN, _SMALL_MAX, 1.5) if chance.random() < 0.96 else (_SMALL_MAX, PEERS_MAX, 1.0)
    peers = round(low * (high / low) ** (chance.random() ** share))
    quiet_s, storm_s = chance.uniform(2.0, 4.0), chance.uniform(5.0, 20.0) * (1.0 if peers < 50 else 0.5)
    storm = Storm(
        seed=seed,
        peers=peers,
        learner=chance.choice(["walker", "walker", "publisher", "streamer"]),
        quiet_s=quiet_s,
        storm_s=storm_s,
        closed=peers > 60 or chance.random() < 0.7,
        latency_s=10 ** chance.uniform(-4, -1.3),
        jitter_s=chance.choice([0.0, 0.001, 0.02]),
        refusal=chance.choice([0.0, 0.0, 0.02]),
        every_steps=chance.choice([3, 5, 10]) if peers < 50 else 10,
        straggler_share=chance.choice([0.0, 0.0, 0.1]),
        pull=chance.random() < 0.3,
        homing=chance.choice([0.0, 0.1]),
        over_the_wire=peers < 20 and chance.random() < 0.15,
        clocks_apart_s=chance.choice([0.0, 1000.0]),
        start_within_s=chance.choice([0.0, 1.0]),
    )
    names = storm.names
    byzantine = chance.choice(names[1:]) if chance.random() < 0.1 else ""
    how = random.Random(f"how {seed}").random() if byzantine else 1.0
    faults = tuple(_fault(storm, chance) for _ in range(_count(chance)))
    bends, lazy = how < 0.25, 0.25 <= how < 0.4
    return replace(storm, byzantine=byzantine, bends=bends, lazy=lazy, faults=faults, keyed=chance.random() < 0.5)


def _count(chance: random.Random) -> int:
    return 1 + min(int(chance.expovariate(0.35)), 9)


def _fault(storm: Storm, chance: random.Random) -> dict[str, Any]:
    """One `[[fault]]` between the quiet phase and the calm."""
    begin_s = storm.quiet_s + chance.uniform(0.0, 0.8) * storm.storm_s
    end_s = min(begin_s + chance.uniform(0.1, 1.0) * storm.storm_s, storm.conditions.calm_from_s)
    kind = chance.choice([*_LINK_FAULTS, *_PROCESS_FAULTS, "drop", "kill", "kill", "pause"])
    make = _LINK_FAULTS.get(kind) or _PROCESS_FAULTS[kind]
    return {"kind": kind} | make(storm, chance, begin_s, end_s)


def _window(begin_s: float, end_s: float) -> dict[str, Any]:
    return {"from_s": begin_s, "to_s": end_s}


def _aim(storm: Storm, chance: random.Random) -> dict[str, Any]:
    """Some links: all, those of a few peers, or one direction of one."""
    names = storm.names
    match chance.randrange(3):
        case 0:
            return {"link": ["*", "*"]}
        case 1:
            return {"peer": chance.sample(names, chance.randint(1, min(3, storm.peers)))}
        case _:
            return {"link": chance.sample(names, 2)}


def _bent(**settings: Callable[[random.Random], float]) -> Callable[..., dict[str, Any]]:
    def make(storm: Storm, chance: random.Random, begin_s: float, end_s: float) -> dict[str, Any]:
        drawn = {key: draw(chance) for key, draw in settings.items()}
        return _window(begin_s, end_s) | _aim(storm, chance) | drawn

    return make


def _one_way(storm: Storm, chance: random.Random, begin_s: float, end_s: float) -> dict[str, Any]:
    name = chance.choice(storm.names)
    pairs = [chance.sample(storm.names, 2), [name, "*"], ["*", name]]
    return _window(begin_s, end_s) | {"link": chance.choice(pairs)}


def _partition(storm: Storm, chance: random.Random, begin_s: float, end_s: float) -> dict[str, Any]:
    names = list(storm.names)
    chance.shuffle(names)
    cut = chance.randint(1, storm.peers - 1)
    groups: Any = "halves" if chance.random() < 0.3 else [names[:cut], names[cut:]]
    return _window(begin_s, end_s) | {"groups": groups}


def _few(storm: Storm, chance: random.Random) -> list[str]:
    """A few peers; never the first, whose address is the only one that newcomers without a roster know."""
    return chance.sample(storm.names[1:], chance.randint(1, max(1, min(storm.peers // 3, 20))))


def _slow(storm: Storm, chance: random.Random, begin_s: float, end_s: float) -> dict[str, Any]:
    return _window(begin_s, end_s) | {"peer": _few(storm, chance), "factor": chance.uniform(2.0, 20.0)}


def _pause(storm: Storm, chance: random.Random, begin_s: float, end_s: float) -> dict[str, Any]:
    return {"peer": _few(storm, chance), "from_s": begin_s, "to_s": end_s}


def _kill(storm: Storm, chance: random.Random, begin_s: float, end_s: float) -> dict[str, Any]:
    back = {"restart_after_s": end_s - begin_s} if chance.random() < 0.7 else {}
    return {"peer": _few(storm, chance), "at_s": begin_s} | back


def _restart(storm: Storm, chance: random.Random, begin_s: float, end_s: float) -> dict[str, Any]:
    return {"peer": _few(storm, chance), "at_s": begin_s, "restart_after_s": min(end_s - begin_s, 5.0)}


def _clock_jump(storm: Storm, chance: random.Random, begin_s: float, end_s: float) -> dict[str, Any]:
    seconds = chance.choice([chance.uniform(-1.0, -0.1), chance.uniform(0.1, 3.0), chance.uniform(3.0, 100.0)])
    return {"peer": _few(storm, chance), "at_s": begin_s, "seconds": seconds}


_LINK_FAULTS: dict[str, Callable[..., dict[str, Any]]] = {
    "drop": _bent(probability=lambda chance: chance.uniform(0.05, 0.5)),
    "delay": _bent(seconds=lambda chance: chance.uniform(0.05, 0.8)),
    "jitter": _bent(seconds=lambda chance: chance.uniform(0.05, 1.0)),
    "duplicate": _bent(
        probability=lambda chance: chance.uniform(0.05, 0.4), seconds=lambda chance: 10 ** chance.uniform(-2, 1)
    ),
    "reorder": _bent(
        probability=lambda chance: chance.uniform(0.05, 0.4), seconds=lambda chance: 10 ** chance.uniform(-1, 0.7)
    ),
    "corrupt": _bent(probability=lambda chance: chance.uniform(0.02, 0.2)),
    "rate_limit": _bent(bytes_per_s=lambda chance: 10 ** chance.uniform(2.5, 4.5)),
    "one_way": _one_way,
    "partition": _partition,
}
_PROCESS_FAULTS: dict[str, Callable[..., dict[str, Any]]] = {
    "slow": _slow,
    "pause": _pause,
    "kill": _kill,
    "restart": _restart,
    "clock_jump": _clock_jump,
}


# --- a storm blows ----------------------------------------------------------------------------------------------------


class _FaultsDone(Observer):
    """Counts the acts on processes."""

    def __init__(self) -> None:
        self.fired: Counter[str] = Counter()

    def on_fault(self, now_s: float, kind: Any, peer: str) -> None:
        self.fired[kind.value] += 1


def make_world(storm: Storm, observers: Sequence[Observer] = ()) -> World:
    """The world of a storm, with nothing started yet."""
    plan, names = storm.plan(), storm.names
    network = Network(
        Quality(storm.latency_s, storm.jitter_s),
        refusal=storm.refusal,
        refusal_until_s=storm.conditions.calm_from_s,
        faults=LinkFaults(plan, names),
        seed=storm.seed,
    )
    compute = Compute(storm.step_time_s, straggler_share=storm.straggler_share)

    def spawn(launch: Launch) -> Stepper:
        return _learner(storm, compute, launch)

    return World(
        names,
        spawn,
        network,
        ProcessFaults(plan, names),
        storm.limits,
        storm.seed,
        storm.closed,
        observers=observers,
        over_the_wire=storm.over_the_wire,
        clocks_apart_s=storm.clocks_apart_s,
        keyed=storm.keyed,
    )


def _learner(storm: Storm, compute: Compute, launch: Launch) -> Stepper:
    chance = random.Random(f"learner {storm.seed} {launch.name} {launch.incarnation}")
    pace = compute.pace(launch.place, storm.seed)
    if storm.learner == "publisher":
        mode = Mode.PULL if storm.pull else Mode.PUSH
        return Publisher(launch.mailbox, pace, chance, mode, storm.every_steps, fan_out=3)
    if storm.learner == "streamer":
        return Streamer(launch.mailbox, pace, chance, storm.every_steps)
    x = [chance.gauss(0.0, 1.0) for _ in range(2)]
    idle_s = chance.uniform(0.0, storm.conditions.calm_from_s) if chance.random() < 0.1 else 0.0
    steps = int(idle_s / (compute.step_time_s * pace.slowdown)) if launch.incarnation == 1 else 0
    return Walker(
        launch.mailbox, pace, chance, x, every_steps=storm.every_steps, refusal=storm.homing, idle_until_step=steps
    )


def _checkers(storm: Storm) -> list[Checker]:
    """All checkers, except that of mass when a member lies about it (benchmarks/mass_storms.py checks that)."""
    checkers = all_checkers(storm.conditions)
    return [checker for checker in checkers if not (storm.bends and isinstance(checker, MassConserved))]


def blow(storm: Storm, checkers: list[Checker] | None = None, observers: Sequence[Observer] = ()) -> Outcome:
    """Run a storm to its end, or to its first violation."""
    checkers = _checkers(storm) if checkers is None else checkers
    done = _FaultsDone()
    late_messages = LateMessages(storm.seed)
    bender, lazy = (
        Bender(PeerName(storm.byzantine), storm.seed, storm.conditions.calm_from_s),
        Lazy(PeerName(storm.byzantine)),
    )
    liars = [*([bender] if storm.bends else ()), *([lazy] if storm.lazy else ())]
    world = late_messages.world = lazy.world = make_world(storm, [*checkers, done, late_messages, *liars, *observers])
    world.start_all(storm.start_within_s)
    if storm.byzantine:
        byzantine = ByzantinePeer(world, storm.byzantine, storm.seed, storm.conditions.calm_from_s)
    if storm.bends:
        bender.begin(world)
    while world.now < storm.ends_s and not any(checker.violations for checker in checkers):
        world.run_until(min(world.now + 1.0, storm.ends_s))
    if not any(checker.violations for checker in checkers):
        world.finish()
    assert world.network.faults is not None
    fired = done.fired + world.network.faults.fired
    if storm.refusal:
        fired["refused by the socket"] += world.network.refused
    if storm.byzantine:
        fired["lie"] += byzantine.told
    if storm.bends:
        fired["bent message"] += bender.told
    if late_messages.seen:
        fired["greeting of an ended process"] += late_messages.seen
    arrivals = sum(host.messages_received for host in world.hosts.values())
    violations = [violation for checker in checkers for violation in checker.violations]
    return Outcome(storm, violations, fired, world.events_handled, world.now, arrivals)


# --- shrinking --------------------------------------------------------------------------------------------------------


def shrink(storm: Storm, fails: Callable[[Storm], bool], rounds_max: int = 200) -> Storm:
    """A storm that still fails, with fewer faults, peers and other settings. `fails` runs a storm."""
    rounds = 0
    while rounds < rounds_max:
        for smaller in _smaller(storm):
            rounds += 1
            if fails(smaller):
                storm = smaller
                break
            if rounds >= rounds_max:
                break
        else:
            break
    return storm


def _smaller(storm: Storm) -> Iterator[Storm]:
    """Slightly smaller storms, the largest cuts first."""
    for k in range(len(storm.faults)):
        yield replace(storm, faults=(*storm.faults[:k], *storm.faults[k + 1 :]))
    for peers in dict.fromkeys((max(storm.peers // 2, PEERS_MIN), storm.peers - 1)):
        if PEERS_MIN <= peers < storm.peers:
            yield _with_fewer(storm, peers)
    plainer: list[dict[str, Any]] = [
        {"byzantine": "", "bends": False, "lazy": False},
        {"bends": False},
        {"lazy": False},
        {"refusal": 0.0},
        {"jitter_s": 0.0},
        {"homing": 0.0},
        {"straggler_share": 0.0},
        {"over_the_wire": False},
        {"clocks_apart_s": 0.0},
        {"start_within_s": 0.0},
        {"closed": True},
        {"pull": False},
    ]
    for change in plainer:
        if any(getattr(storm, key) != value for key, value in change.items()):
            yield replace(storm, **change)
    for k, fault in enumerate(storm.faults):
        names = fault.get("peer")
        if isinstance(names, list) and len(names) > 1:
            for one in names:
                fewer = fault | {"peer": [name for name in names if name != one]}
                yield replace(storm, faults=(*storm.faults[:k], fewer, *storm.faults[k + 1 :]))


def _with_fewer(storm: Storm, peers: int) -> Storm:
    """The same with only the first `peers` peers; faults without a remaining target are dropped."""
    kept = frozenset(f"p{place}" for place in range(peers)) | {"*"}
    faults: list[dict[str, Any]] = []
    for fault in storm.faults:
        one = dict(fault)
        if isinstance(one.get("peer"), list):
            one["peer"] = [name for name in one["peer"] if name in kept]
            if not one["peer"]:
                continue
        if isinstance(one.get("link"), list) and not set(one["link"]) <= kept:
            continue
        if isinstance(one.get("groups"), list):
            one["groups"] = [group for names in one["groups"] if (group := [n for n in names if n in kept])]
            if len(one["groups"]) < 2:
                continue
        faults.append(one)
    smaller = replace(storm, peers=peers, faults=tuple(faults))
    return smaller if storm.byzantine in kept else replace(smaller, byzantine="", bends=False, lazy=False)
