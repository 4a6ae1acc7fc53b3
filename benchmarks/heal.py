"""Two halves that cannot hear one another for a minute: how soon is everything as before, and is anything lost?

python -m benchmarks.heal [--sizes 8,64,200] [--cut-s 60] [--out FOLDER]
"""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any, NamedTuple

from benchmarks.kit import command
from benchmarks.kit.machine import circumstances, heading
from benchmarks.kit.virtual import ScheduledWalker, walkers
from gossipdistill.events import Event, EventKind
from gossipdistill.messages import DeliveryClass, Parcel, Received, Returned, Slot
from gossipdistill.sim.compute import Compute
from gossipdistill.sim.host import Host
from gossipdistill.sim.observer import Observer
from gossipdistill.sim.world import World

WHOLE_WITHIN_S = 30.0
"""After the heal, whatever the size."""
MASS_ERROR_MAX = 1e-9
BEGINS_S = 30.0


class Outcome(NamedTuple):
    """What becomes of one message."""

    delays_s: tuple[float, ...]
    corrupt: bool = False


class Halves:
    """No message between the first and the second half of the roster while the cut lasts."""

    def __init__(self, names: list[str], from_s: float, to_s: float) -> None:
        self.first, self.from_s, self.to_s = frozenset(names[: len(names) // 2]), from_s, to_s

    def outcome(self, sender: str, to: str, nbytes: int, now_s: float) -> Outcome:
        """Lost, if it would cross the cut."""
        crosses = (sender in self.first) != (to in self.first)
        return Outcome(() if crosses and self.from_s <= now_s < self.to_s else (0.0,))


class Parcels(Observer):
    """Each parcel by (sender, step, recipient): how often it was posted, absorbed and returned; how many parked."""

    def __init__(self) -> None:
        self.posted: Counter[tuple[str, int, str]] = Counter()
        self.used: Counter[tuple[str, int, str]] = Counter()
        self.returned: Counter[tuple[str, int, str]] = Counter()
        self.parked: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()

    def on_post(self, now_s: float, host: Host, slot: Slot, parcel: Parcel) -> None:
        self.posted[host.name, parcel.step, slot.peer] += 1

    def on_received(self, now_s: float, host: Host, received: Received) -> None:
        if isinstance(received, Returned):
            self.returned[host.name, received.step, received.recipient] += 1
        elif received.delivery is DeliveryClass.MASS:
            self.used[received.sender, received.step, host.name] += 1

    def on_event(self, now_s: float, host: Host, event: Event) -> None:
        self.kinds[event.kind.value] += 1


def _whole(world: World) -> bool:
    """Whether everybody counts everybody among the living."""
    names = world.names
    return all(host.peer.view.is_present(name) for host in world.hosts.values() for name in names if name != host.name)


def _steppers(world: World) -> list[ScheduledWalker]:
    return [host.stepper for host in world.hosts.values() if isinstance(host.stepper, ScheduledWalker)]


def _spread(world: World, mean: float) -> float:
    """The largest distance of an estimate x / w from the true mean, in units of the first spread n / sqrt(12)."""
    scale = len(world.names) / math.sqrt(12)
    return max(abs(stepper.x[0] / stepper.w - mean) for stepper in _steppers(world)) / scale


def cut_and_heal(peers: int, cut_s: float, seed: int) -> dict[str, Any]:
    """One run: calm, cut, heal, and calm again."""
    world = walkers(peers, seed, compute=Compute(step_time_s=0.1), every_steps=3)
    names = [str(name) for name in world.names]
    heals_s = BEGINS_S + cut_s
    world.network.faults = Halves(names, BEGINS_S, heals_s)
    parcels = Parcels()
    world.watch([parcels])
    world.start_all()
    # Not yet at one when the cut comes, so that there is something left to agree on.
    for stepper in _steppers(world):
        stepper.idle_until_step = int((BEGINS_S - 2.0) / 0.1)
    world.run_until(heals_s)
    mean = (peers - 1) / 2
    apart, parked = _spread(world, mean), parcels.kinds[EventKind.PARKED.value]
    whole_s = None
    while whole_s is None and world.now < heals_s + 4 * WHOLE_WITHIN_S:
        world.run_for(0.25)
        whole_s = world.now - heals_s if _whole(world) else None
    world.run_for(60.0)
    after = _spread(world, mean)
    for stepper in _steppers(world):
        stepper.every_steps = 1 << 60  # no more sending: what is on the way arrives, and all mass is held
    world.run_for(20.0)
    weight, value = (sum(each) for each in zip(*((s.w, s.x[0]) for s in _steppers(world)), strict=True))
    wrong = [key for key in parcels.posted if parcels.used[key] + parcels.returned[key] != 1]
    in_flight = sum(len(host.peer.reliable_messages.sender.in_flight()) for host in world.hosts.values())
    return {
        "peers": peers,
        "cut_s": cut_s,
        "whole_after_s": whole_s,
        "parked": parked,
        "posted": len(parcels.posted),
        "not_exactly_once": len(wrong),
        "unsettled": in_flight,
        "weight_error": abs(weight - peers),
        "value_error": abs(value - peers * mean) / (peers * mean),
        "apart_at_heal": apart,
        "apart_after": after,
        "written_off": sum(host.peer.reliable_messages.sender.written_off for host in world.hosts.values()),
    }


def report(about: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    """The report in markdown."""
    lines = [
        "# Cut in two, and healed",
        "",
        *heading(about),
        "",
        "Push-sum on the one-peer exponential schedule, three exchanges a second, in virtual time. It begins two "
        "seconds before the cut. *Whole*: everybody may do business with everybody again, seconds after the heal. *Not "
        "exactly once*: parcels that were neither used once nor returned once. *Apart*: the worst estimate's distance "
        "from the true mean, in standard deviations of the first values.",
        "",
        "| peers | cut s | whole after s | bound | parked | posted | not exactly once | error of all weight "
        "| of all x, relative | apart at the heal | a minute later |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        whole = "never" if row["whole_after_s"] is None else f"{row['whole_after_s']:.2f}"
        cells = [
            f"{row['peers']}",
            f"{row['cut_s']:g}",
            whole,
            f"{WHOLE_WITHIN_S:g}",
            f"{row['parked']}",
            f"{row['posted']}",
            f"{row['not_exactly_once']}",
            f"{row['weight_error']:.1e}",
            f"{row['value_error']:.1e}",
            f"{row['apart_at_heal']:.2g}",
            f"{row['apart_after']:.1e}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def good(row: dict[str, Any]) -> bool:
    """Whether this row holds every bound."""
    return (
        row["whole_after_s"] is not None
        and row["whole_after_s"] <= WHOLE_WITHIN_S
        and not row["not_exactly_once"]
        and not row["unsettled"]
        and row["weight_error"] <= MASS_ERROR_MAX
        and row["written_off"] == 0.0
        and row["apart_after"] < 1e-3 < row["apart_at_heal"]
    )


def main() -> int:
    """Measure, print, write; 0 if every bound holds."""
    parser = command.parser(__doc__)
    parser.add_argument("--sizes", default="8,64,200", help="numbers of peers, by commas")
    parser.add_argument("--cut-s", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    about, rows = circumstances("benchmarks.heal"), []
    for size in map(int, asked.sizes.split(",")):
        rows.append(cut_and_heal(size, asked.cut_s, asked.seed))
        print(json.dumps(rows[-1]), flush=True)
    lines = report(about, rows)
    command.keep(asked.out, "heal", lines, {"about": about, "rows": rows})
    return int(not all(good(row) for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
