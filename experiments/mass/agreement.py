"""How fast push-sum agrees while the network loses.

    python -m experiments.mass.agreement [--seeds 0,1,2] [--losses ...] [--report]

Eight peers that only average, beside float64 running sums (1811.03761, algorithm 3) on the same kind of network, with
the same latency, paces and sending times. Ours is the strategy `sgp`, the worker, the mailbox and the protocol at the
limits and the `exchange.per_second_max` of the product, with an exchange at each step that this allows.

    distance(t)   sqrt(mean over peers of |z_i - mean of all starts|^2), as a share of what it was when it began
    rate          ln(1e4) / seconds until the distance is 1e-4: from the first parcel on, so with all that is learned
    ratio         ours / running sums, of the same seed; the mean over seeds is that of its logarithm

The peers have met before, without loss. Results: `results/agreement.jsonl`, one cell a seed, and
`results/agreement.md`, beside `results/agreement_before.jsonl`: one seed, made when each wait for a receipt was twice
the last and a link carried one parcel. Cells that are there are not made again.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from experiments.common import command
from experiments.common.cells import Cell, Key, fill, known
from experiments.common.quadratic import point_worker, sgd
from experiments.mass.averaging import Vector, starts
from experiments.mass.twins import Textbook64
from gossipdistill.ids import PeerName
from gossipdistill.learning.cadence import Cadence
from gossipdistill.learning.flat import flat_parameters
from gossipdistill.limits import DEFAULT_LIMITS, Limits
from gossipdistill.sim.host import Launch
from gossipdistill.sim.network import Network, Quality
from gossipdistill.sim.world import World
from gossipdistill.strategies import Exchange
from gossipdistill.strategies.base import MassOptions, Strategy
from gossipdistill.strategies.sgp import Sgp
from gossipdistill.topology import Schedule, load_topology
from gossipdistill.topology.schedule import Listed

RESULTS = Path(__file__).parent / "results"
COUNT = 8
NAMES = tuple(f"p{place}" for place in range(COUNT))
MEETING_S = 3.0
LOOK_S = 0.02
GIVEN_UP_S = 300.0
PACES = (0.8, 1.25)
"""Each peer's step takes so many times the stated one, and each single step 0.9 to 1.1 times that."""
FALL = 1e-4
IRREGULAR = ((1, 2, 5), (2,), (3, 6), (0, 4), (5,), (6, 0, 1, 7), (7,), (0, 3))
"""To whom each place sends: strongly connected, one to four recipients, one to three senders."""


class Setting(NamedTuple):
    """One row of the table."""

    graph: str
    step_s: float
    latency_s: float
    loss: float

    @property
    def quality(self) -> Quality:
        """Of every link."""
        return Quality(latency_s=self.latency_s, jitter_s=0.1 * self.latency_s, loss=self.loss)


GRAPHS = ("one_peer_exponential", "complete", "irregular")
STEPS_S, LATENCIES_S, LOSSES = (0.01, 0.2), (0.001, 0.02), (0.0, 0.1, 0.3, 0.5)
SETTINGS = [Setting(*one) for one in itertools.product(GRAPHS, STEPS_S, LATENCIES_S, LOSSES)]


def schedule_of(graph: str) -> Schedule:
    """Who sends to whom, by exchange."""
    if graph != "irregular":
        return load_topology(graph, NAMES)
    links = tuple((NAMES[i], NAMES[j]) for i, row in enumerate(IRREGULAR) for j in row)
    return Listed(kind="edges", peers=NAMES, phases=(links,))


class Pace:
    """When one peer wakes: the same for both schemes."""

    def __init__(self, setting: Setting, seed: int, place: int) -> None:
        self._chance = random.Random(f"pace {seed} {place}")
        self._step_s = setting.step_s * self._chance.uniform(*PACES)
        self.first_s = self._chance.random() * max(self._step_s, 1.0 / Strategy.per_second_max)

    def next_s(self) -> float:
        """Until the next step."""
        return self._step_s * self._chance.uniform(0.9, 1.1)


def cadence() -> Cadence:
    """An exchange at each step, at most `exchange.per_second_max` a second."""
    return Cadence(1, Strategy.per_second_max)


class Fall:
    """The distance over time, until it is small enough."""

    def __init__(self, start: Vector) -> None:
        self.truth: Vector = start.mean(axis=0)
        self.first = self._distance(start)
        self.seconds = math.inf

    def is_over(self, estimates: Vector, since_s: float) -> bool:
        """Whether `estimates` [COUNT, DIM], `since_s` after the beginning, are near, or too late."""
        if self._distance(estimates) <= FALL * self.first:
            self.seconds = since_s
        return self.seconds < math.inf or since_s > GIVEN_UP_S

    def _distance(self, estimates: Vector) -> float:
        return float(np.sqrt(((estimates - self.truth) ** 2).sum(axis=1).mean()))

    @property
    def rate(self) -> float:
        """Per second."""
        return -math.log(FALL) / self.seconds


# --- running sums -----------------------------------------------------------------------------------------------------


def running_sums(setting: Setting, seed: int) -> float:
    """The rate of float64 running sums. As in the product, what came is taken at the next step of its recipient."""
    push, fall = Textbook64(COUNT, seed), Fall(starts(COUNT, seed))
    network, schedule = Network(setting.quality, seed=seed), schedule_of(setting.graph)
    paces = [Pace(setting, seed, place) for place in range(COUNT)]
    cadences = [cadence() for _ in range(COUNT)]
    inboxes: list[list[tuple[int, Any]]] = [[] for _ in range(COUNT)]
    order = itertools.count()
    heap: list[tuple[float, int, int, int, Any]] = [(paces[i].first_s, next(order), i, -1, None) for i in range(COUNT)]
    heap.append((LOOK_S, next(order), -1, -1, None))
    heapq.heapify(heap)
    while True:
        now, _, i, j, message = heapq.heappop(heap)
        if i < 0:
            if fall.is_over(push.x / push.w[:, None], now):
                return fall.rate
            heapq.heappush(heap, (now + LOOK_S, next(order), -1, -1, None))
        elif j >= 0:
            inboxes[j].append((i, message))
        else:
            for sender, total in inboxes[i]:
                push.absorb(sender, i, total)
            inboxes[i].clear()
            number = cadences[i].exchanges
            if cadences[i].due(1, now):
                recipients = [schedule.place(name) for name in schedule.out_neighbours(NAMES[i], number)]
                for k, to in enumerate(recipients):
                    total = push.send(i, to, 1.0 / (len(recipients) + 1 - k))
                    for at_s in network.carry(NAMES[i], NAMES[to], 100, True, now).arrivals_s:
                        heapq.heappush(heap, (at_s, next(order), i, to, total))
            heapq.heappush(heap, (now + paces[i].next_s(), next(order), i, -1, None))


# --- ours -------------------------------------------------------------------------------------------------------------


class Averager:
    """A worker that takes, mixes and publishes, and leaves the training out. It begins with `go`."""

    def __init__(self, launch: Launch, start: Vector, setting: Setting, seed: int) -> None:
        centre = torch.from_numpy(start).float()
        strategy = Sgp(MassOptions(), Exchange(every_steps=1, per_second_max=cadence().per_second_max, encoding="raw"))
        self.worker = point_worker(
            launch.name,
            NAMES,
            centre.repeat(2, 1),
            strategy,
            schedule_of(setting.graph),
            launch.mailbox,
            sgd(0.0),
            centre,
        )
        self.pace, self.began = Pace(setting, seed, launch.place), False

    def step(self, now: float) -> float:
        """One step of the loop; seconds until the next."""
        if now < MEETING_S:
            return MEETING_S - now
        if not self.began:
            self.began = True
            return self.pace.first_s
        self.worker.gossip.begin_step(now)
        self.worker.gossip.end_step(now)
        return self.pace.next_s()


def ours(setting: Setting, seed: int, limits: Limits = DEFAULT_LIMITS) -> float:
    """The rate of conserved parcels."""
    begin, averagers = starts(COUNT, seed), dict[PeerName, Averager]()

    def spawn(launch: Launch) -> Averager:
        averagers[launch.name] = Averager(launch, begin[launch.place], setting, seed)
        return averagers[launch.name]

    calm = Quality(latency_s=setting.latency_s)
    world = World(NAMES, spawn, Network(calm, seed=seed), limits=limits, seed=seed)
    world.start_all()
    world.run_until(MEETING_S)
    world.network.quality = setting.quality
    fall = Fall(begin)
    while True:
        world.run_for(LOOK_S)
        models = [flat_parameters(averagers[PeerName(name)].worker.learner.model) for name in NAMES]
        if fall.is_over(torch.stack(models).double().numpy(), world.now - MEETING_S):
            return fall.rate


# --- the table --------------------------------------------------------------------------------------------------------


def run(key: Key) -> Cell:
    """Both rates of a cell."""
    setting, seed = setting_of(key), key["seed"]
    return {"running_sums": round(running_sums(setting, seed), 4), "ours": round(ours(setting, seed), 4)}


def setting_of(key: Key) -> Setting:
    """Its row of the table."""
    return Setting(*(key[name] for name in Setting._fields))


def ratio(rows: Sequence[Cell]) -> tuple[float, float]:
    """(geometric mean of ours / running sums, its standard error)."""
    logs = np.log([row["ours"] / row["running_sums"] for row in rows])
    mean = float(np.exp(logs.mean()))
    return mean, mean * float(logs.std(ddof=1)) / math.sqrt(len(logs)) if len(logs) > 1 else math.nan


def table(rows: Sequence[Cell], before: Sequence[Cell]) -> str:
    """Markdown: a line for each graph, step and latency, a column for each loss."""
    losses = sorted({row["key"]["loss"] for row in rows})
    heads = ["graph", "step", "latency", *(f"{loss:.0%} loss" for loss in losses)]
    lines = [
        "Ours / running sums: mean over seeds and its standard error; in brackets when waits doubled and a link",
        "carried one parcel.",
        "",
        command.line(heads),
        "| --- | ---: | ---: |" + " ---: |" * len(losses),
    ]
    for graph, step_s, latency_s in itertools.product(GRAPHS, STEPS_S, LATENCIES_S):
        cells = [cell(Setting(graph, step_s, latency_s, loss), rows, before) for loss in losses]
        lines.append(command.line([graph, f"{step_s:g} s", f"{latency_s:g} s", *cells]))
    return "\n".join(lines) + "\n"


def cell(setting: Setting, rows: Sequence[Cell], before: Sequence[Cell]) -> str:
    """What was found of one setting."""
    found, earlier = ([row for row in some if setting_of(row["key"]) == setting] for some in (rows, before))
    text = "{:.2f} +- {:.2f}".format(*ratio(found)) if found else ""
    return text + (f" ({ratio(earlier)[0]:.2f})" if earlier else "")


def main() -> None:
    """See the head of this file."""
    parser = command.parser(__doc__, seeds=(0, 1, 2), jobs=True)
    parser.add_argument("--losses", type=float, nargs="*", default=LOSSES)
    parser.add_argument("--name", default="agreement", help="of the two files in results/")
    asked = command.begin(parser)
    cells, wanted = RESULTS / f"{asked.name}.jsonl", [one for one in SETTINGS if one.loss in asked.losses]
    if not asked.report:
        fill(cells, ({**one._asdict(), "seed": seed} for seed in asked.seeds for one in wanted), run, asked.jobs)
    text = table(known(cells), known(RESULTS / "agreement_before.jsonl"))
    command.write(RESULTS / f"{asked.name}.md", text)


if __name__ == "__main__":
    main()
