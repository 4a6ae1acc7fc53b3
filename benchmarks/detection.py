"""How soon does everybody know that a peer is dead, and is anybody ever called dead who lives?

python -m benchmarks.detection [--sizes 10,100,1000] [--kills 30] [--peer-hours 1000] [--out FOLDER]
"""

from __future__ import annotations

import json
import random
import time
from typing import Any

from benchmarks.kit import command
from benchmarks.kit.machine import circumstances, heading
from benchmarks.kit.virtual import LAN, walkers
from gossipdistill.events import Event, EventKind
from gossipdistill.limits import DEFAULT_LIMITS
from gossipdistill.sim.compute import Compute
from gossipdistill.sim.host import Host
from gossipdistill.sim.observer import Observer

KNOWN_WITHIN_INTERVALS = {10: 20, 100: 40, 1000: 60}
"""By all, in probe intervals; see the docstring of protocol/suspicion.py."""
CALM_S = 30.0


class Deaths(Observer):
    """Who says of whom that it is dead, and when; `false` are those that live."""

    def __init__(self) -> None:
        self.known_s: dict[str, list[float]] = {}
        self.suspected = 0
        self.false: list[tuple[float, str, str, str]] = []
        self.living: set[str] = set()

    def on_start(self, now_s: float, host: Host) -> None:
        self.living.add(host.name)

    def on_end(self, now_s: float, host: Host, how: str) -> None:
        self.living.discard(host.name)

    def on_event(self, now_s: float, host: Host, event: Event) -> None:
        self.suspected += event.kind is EventKind.SUSPECT
        if event.kind is not EventKind.DEAD:
            return
        if event.peer in self.living:
            self.false.append((now_s, host.name, event.peer, event.reason))
        else:
            self.known_s.setdefault(event.peer, []).append(now_s)


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def detect(peers: int, kills: int, seed: int) -> dict[str, Any]:
    """Kill one peer after the other, each after all know of the one before; times in probe intervals."""
    world, deaths, chance = walkers(peers, seed), Deaths(), random.Random(f"kills {seed}")
    world.watch([deaths])
    world.start_all(within_s=1.0)
    world.run_until(CALM_S)
    each: list[float] = []
    last: list[float] = []
    missed = 0
    for _ in range(kills):
        # At any phase of the probe interval.
        world.run_for(chance.uniform(0.0, 2.0))
        victim = chance.choice(sorted(world.hosts))
        killed_s = world.now
        deaths.known_s.pop(victim, None)  # of a death before this one
        world.kill(victim)
        deadline_s = killed_s + 120.0
        while len(deaths.known_s.get(victim, [])) < len(world.hosts) and world.now < deadline_s:
            world.run_for(0.25)
        known = [(at_s - killed_s) / DEFAULT_LIMITS.probe_interval_s for at_s in deaths.known_s.get(victim, [])]
        missed += len(world.hosts) - len(known)
        each += known
        last += [max(known)] if known else []
        world.start(victim)
        world.run_for(CALM_S)
    return {
        "peers": peers,
        "kills": kills,
        "each_median": _quantile(each, 0.5),
        "each_p99": _quantile(each, 0.99),
        "all_median": _quantile(last, 0.5),
        "all_p99": _quantile(last, 0.99),
        "all_max": max(last),
        "never_knew": missed,
        "false_deaths": len(deaths.false),
    }


def false_deaths(peers: int, hours: float, seed: int) -> dict[str, Any]:
    """Nobody dies: 10 % loss, and 5 % of the peers are ten times slower."""
    quality = LAN._replace(loss=0.1)
    compute = Compute(step_time_s=1.0, straggler_share=0.05)
    world, deaths, chance = walkers(peers, seed, compute, quality=quality), Deaths(), random.Random(seed)
    world.watch([deaths])
    world.start_all(within_s=1.0)
    for name in chance.sample(sorted(world.names), max(1, peers // 20)):
        world.at(2.0, lambda name=name: world.slow(name, 10.0))  # type: ignore[misc]
    began_s = time.monotonic()
    while world.now < 3600.0 * hours:
        world.run_for(60.0)
        if time.monotonic() - began_s > 20.0:
            began_s = time.monotonic()
            print(f"  {world.now / 3600:.2f} of {hours:g} h, {len(deaths.false)} false deaths", flush=True)
    return {
        "peers": peers,
        "peer_hours": peers * world.now / 3600,
        "suspicions": deaths.suspected,
        "false_deaths": len(deaths.false),
        "first": deaths.false[:3],
        "events": world.events_handled,
    }


def report(about: dict[str, Any], rows: list[dict[str, Any]], calm: dict[str, Any] | None) -> list[str]:
    """The report in markdown."""
    lines = [
        "# How soon is a death known?",
        "",
        *heading(about),
        "",
        f"Times in probe intervals of {DEFAULT_LIMITS.probe_interval_s:g} s from the kill, in virtual time: until one "
        "peer holds it dead (of all peers and kills), and until all do (of all kills). Killed peers start again before "
        "the next kill.",
        "",
        "| peers | kills | one knows: median | p99 | all know: median | p99 | max | bound | missed | false |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        cells = [f"{row['peers']}", f"{row['kills']}"]
        cells += [f"{row[key]:.1f}" for key in ("each_median", "each_p99", "all_median", "all_p99", "all_max")]
        cells += [f"{KNOWN_WITHIN_INTERVALS.get(row['peers'], '-')}", f"{row['never_knew']}", f"{row['false_deaths']}"]
        lines.append("| " + " | ".join(cells) + " |")
    if calm is not None:
        lines += [
            "",
            f"Nobody dies, {calm['peers']} peers, 10 % of the messages lost, 5 % of the peers ten times slower: "
            f"**{calm['false_deaths']} false deaths** and {calm['suspicions']} suspicions in "
            f"{calm['peer_hours']:.0f} peer-hours ({calm['events']} events).",
        ]
    return lines


def main() -> int:
    """Measure, print, write; 0 if the bounds hold and nobody was called dead who lives."""
    parser = command.parser(__doc__)
    parser.add_argument("--sizes", default="10,100,1000", help="numbers of peers, by commas")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--peer-hours", type=float, default=1000.0, help="without a death; 0: leave out")
    parser.add_argument("--calm-peers", type=int, default=100, help="peers of the world without a death")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    about, rows = circumstances("benchmarks.detection"), []
    for size in map(int, asked.sizes.split(",")):
        rows.append(detect(size, asked.kills if size < 1000 else max(asked.kills // 3, 1), asked.seed))
        print(json.dumps(rows[-1]), flush=True)
    calm = None
    if asked.peer_hours:
        calm = false_deaths(asked.calm_peers, asked.peer_hours / asked.calm_peers, asked.seed)
    lines = report(about, rows, calm)
    command.keep(asked.out, "detection", lines, {"about": about, "rows": rows, "calm": calm})
    good = all(r["all_max"] <= KNOWN_WITHIN_INTERVALS.get(r["peers"], 1e9) and not r["never_knew"] for r in rows)
    return int(not good or any(r["false_deaths"] for r in rows) or bool(calm and calm["false_deaths"]))


if __name__ == "__main__":
    raise SystemExit(main())
