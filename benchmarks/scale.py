"""How many peers fit into one process, and does a peer cost more when there are more of them?

python -m benchmarks.scale [--sizes 10,100,1000,5000,10000] [--virtual-seconds 60] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.kit import command
from benchmarks.kit.machine import circumstances, heading
from benchmarks.kit.virtual import walkers

EVENT_US_MAX = 40.0
GIB_MAX = 1.0
JUDGED_PEERS = 5000


def measure(peers: int, virtual_seconds: float) -> dict[str, Any]:
    """One world in this process: CPU seconds, events, memory and traffic. The first ten seconds, when everybody greets
    its neighbours, are reported apart."""
    before_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    wall_s, cpu_s = time.monotonic(), time.process_time()
    world = walkers(peers, timed=True)
    world.start_all(within_s=1.0)
    warm_s = min(10.0, virtual_seconds / 2)
    world.run_until(warm_s)
    sent = sum(host.messages_sent for host in world.hosts.values())
    sent_bytes = sum(host.bytes_sent for host in world.hosts.values())
    events, learner_s, cpu_warm_s = world.events_handled, world.learner_s, time.process_time() - cpu_s
    world.run_until(virtual_seconds)
    cpu_s = time.process_time() - cpu_s
    rest_s = virtual_seconds - warm_s
    hosts = world.hosts.values()
    return {
        "peers": peers,
        "virtual_s": virtual_seconds,
        "wall_s": time.monotonic() - wall_s,
        "cpu_s": cpu_s,
        "learner_s": world.learner_s,
        "events": world.events_handled,
        "event_us": 1e6 * (cpu_s - world.learner_s) / world.events_handled,
        "event_us_after_start": 1e6
        * (cpu_s - cpu_warm_s - world.learner_s + learner_s)
        / (world.events_handled - events),
        "events_per_s": world.events_handled / cpu_s,
        "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before_mib,
        "messages_per_peer_s": (sum(host.messages_sent for host in hosts) - sent) / peers / rest_s,
        "bytes_per_peer_s": (sum(host.bytes_sent for host in hosts) - sent_bytes) / peers / rest_s,
        "exchanges_per_peer_s": sum(getattr(host.stepper, "exchanges", 0) for host in hosts) / peers / virtual_seconds,
        "kinds": dict(world.kinds_sent.most_common()),
    }


def report(about: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    """The report in markdown."""
    lines = [
        "# How many peers fit into one process?",
        "",
        *heading(about),
        "",
        "Push-sum walkers on the one-peer exponential schedule, an exchange of 16 numbers a second each, one shared "
        "roster, all on one core in virtual time. An event is one turn of a peer (a message, a time-out, what its "
        "learner left) or of its learner; the learners' own time is taken off. Messages and bytes a second are after "
        "the first ten seconds. Memory is what the process grew by.",
        "",
        "| peers | virtual s | wall s | events | events/s | us per event | learners' s | MiB | KiB per peer "
        "| messages/s per peer | bytes/s per peer |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        cells = [
            f"{row['peers']}",
            f"{row['virtual_s']:g}",
            f"{row['wall_s']:.1f}",
            f"{row['events']}",
            f"{row['events_per_s']:.0f}",
            f"{row['event_us']:.1f}",
            f"{row['learner_s']:.1f}",
            f"{row['mib']:.0f}",
            f"{1024 * row['mib'] / row['peers']:.0f}",
            f"{row['messages_per_peer_s']:.2f}",
            f"{row['bytes_per_peer_s']:.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    for row in rows:
        if row["peers"] == JUDGED_PEERS:
            good = row["event_us"] <= EVENT_US_MAX and row["mib"] <= 1024 * GIB_MAX
            lines += [
                "",
                f"{JUDGED_PEERS} peers: {row['event_us']:.1f} us per event (at most {EVENT_US_MAX:g}), "
                f"{row['mib']:.0f} MiB (at most {1024 * GIB_MAX:.0f}): {'yes' if good else '**no**'}.",
            ]
    return lines


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Cost per peer over the number of peers."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(11, 3.2))
    sizes = [row["peers"] for row in rows]
    shown = [
        ("messages/s per peer", [row["messages_per_peer_s"] for row in rows]),
        ("bytes/s per peer", [row["bytes_per_peer_s"] for row in rows]),
        ("KiB per peer", [1024 * row["mib"] / row["peers"] for row in rows]),
    ]
    for axis, (label, values) in zip(axes, shown, strict=True):
        axis.semilogx(sizes, values, marker="o")
        axis.set(xlabel="peers", ylabel=label, ylim=(0, 1.3 * max(values)))
        axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> int:
    """Measure each size in a process of its own; 0 if the bounds hold."""
    parser = command.parser(__doc__)
    parser.add_argument("--sizes", default="10,100,1000,5000,10000", help="numbers of peers, by commas")
    parser.add_argument("--virtual-seconds", type=float, default=60.0)
    parser.add_argument("--alone", type=int, default=0, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.alone:
        print(json.dumps(measure(asked.alone, asked.virtual_seconds)))
        return 0
    about, rows = circumstances("benchmarks.scale"), []
    for size in asked.sizes.split(","):
        alone = [sys.executable, "-m", "benchmarks.scale", "--alone", size]
        alone += ["--virtual-seconds", str(asked.virtual_seconds)]
        done = subprocess.run(alone, stdout=subprocess.PIPE, check=True, text=True)
        rows.append(json.loads(done.stdout))
        print(f"{size} peers: {rows[-1]['wall_s']:.1f} s, {rows[-1]['event_us']:.1f} us per event", flush=True)
    lines = report(about, rows)
    command.keep(asked.out, "scale", lines, {"about": about, "rows": rows})
    draw(rows, asked.out / "scale.png")
    return int(lines[-1].endswith("**no**."))


if __name__ == "__main__":
    raise SystemExit(main())
