"""The socket driver beside raw sockets: 100 MB end to end, its CPU seconds, and a small question beside a large flow.

python -m benchmarks.throughput [--pairs 5] [--repeats 9] [--quick] [--out FOLDER]
"""

from __future__ import annotations

import time
from typing import Any

import zmq

from benchmarks.kit import command
from benchmarks.kit.launcher import end_tidily_on_signals
from benchmarks.kit.machine import circumstances, heading
from benchmarks.kit.series import median
from benchmarks.transfer.movers import BODY_BYTES, Mover
from gossipdistill.machine.listening import free_ports

SPEED_MIN, CPU_MAX, ANSWER_S_MAX = 0.85, 1.3, 0.010
TARGETS = f">= {SPEED_MIN}, <= {CPU_MAX}"
KINDS = {
    "raw": "raw sockets",
    "joined": "raw sockets, frames joined in one block",
    "state": "a state, announced and pulled",
    "mass": "mass",
}
RAW = ("raw", "joined")
ASK_EVERY_S = 0.001
Pair = tuple[Mover, Mover]


def start(sealed: bool) -> Pair:
    """A writer and a reader who have met."""
    ports = free_ports(["writer", "reader", "raw"], "127.0.0.1", set())
    raw_port = ports.pop("raw")
    keys = {name: zmq.curve_keypair() for name in ports} if sealed else None
    writer, reader = [Mover(name, ports, raw_port, keys) for name in ports]
    for mover in writer, reader:
        assert mover.result() == "here"
    for mover in writer, reader:
        mover.do("meet")
    return writer, reader


def move(pair: Pair, kind: str) -> dict[str, float]:
    """Seconds from the first byte posted to the last one there, and CPU seconds of both processes together."""
    writer, reader = pair
    before = writer.do("cpu") + reader.do("cpu")
    raw = kind in RAW
    reader.begin(*("read_raw", kind == "joined") if raw else ("read",))
    began_s = writer.do("write_raw") if raw else writer.do("write", kind, kind, BODY_BYTES)
    ended_s = reader.result()
    cpu = writer.do("cpu") + reader.do("cpu") - before
    if not raw:
        reader.do("take")
    time.sleep(0.02)  # confirmations and receipts belong to nobody's figure
    return {"wall_s": ended_s - began_s, "cpu_s": cpu}


def questions(pair: Pair, parcels: int) -> dict[str, float]:
    """Round trips of a question, first with nothing else to do, then beside `parcels` states of 100 MB in a row."""
    writer, reader = pair
    reader.begin("read")
    writer.do("write", "probe", "mass", 16)
    reader.result()
    reader.do("take")
    writer.do("ask", ASK_EVERY_S)
    time.sleep(1.0)
    idle = writer.do("answers")
    writer.do("ask", ASK_EVERY_S)
    began_s = time.monotonic()
    for _ in range(parcels):
        reader.begin("read")
        writer.do("write", "state", "state", BODY_BYTES)
        reader.result()
        reader.do("take")
    wall_s = time.monotonic() - began_s
    beside = sorted(writer.do("answers"))
    return {
        "parcels": parcels,
        "wall_s": wall_s,
        "answers": len(beside),
        "idle_p50_s": median(idle) or 0.0,
        "p50_s": percentile(beside, 50),
        "p99_s": percentile(beside, 99),
        "max_s": beside[-1],
    }


def percentile(ascending: list[float], percent: int) -> float:
    """The smallest value that so many percent do not exceed."""
    return ascending[max(0, -(-len(ascending) * percent // 100) - 1)]


def measure(sealed: bool, pairs: int, repeats: int, parcels: int) -> dict[str, Any]:
    """Interleaved repeats of all kinds, the order alternating, after one that is not counted, by each of some pairs of
    processes: how fast one of them is differs by a third, for as long as it lives. Then the questions, by the last."""
    rounds = []
    for number in range(pairs):
        pair = start(sealed)
        try:
            for kind in KINDS:
                move(pair, kind)
            for repeat in range(repeats):
                order = list(KINDS) if repeat % 2 == 0 else list(KINDS)[::-1]
                rounds.append({kind: move(pair, kind) for kind in order})
            if number == pairs - 1:
                asked = questions(pair, parcels)
        finally:
            for mover in pair:
                mover.end()
    return {"rounds": rounds, "questions": asked}


def table(title: str, found: dict[str, Any]) -> list[str]:
    """Markdown: medians, and each target with its verdict."""
    rounds = found["rounds"]
    lines = [f"| {title} | ms | MB/s | of raw speed | CPU ms | of raw CPU | |", "| --- " * 7 + "|"]
    for kind, words in KINDS.items():
        wall_s, cpu = [median(one[kind][figure] for one in rounds) or 0.0 for figure in ("wall_s", "cpu_s")]
        speed = median(one["raw"]["wall_s"] / one[kind]["wall_s"] for one in rounds) or 0.0
        cost = median(one[kind]["cpu_s"] / one["raw"]["cpu_s"] for one in rounds) or 0.0
        verdict = "" if kind in RAW else _verdict(speed >= SPEED_MIN and cost <= CPU_MAX, TARGETS)
        cells = [words, f"{1e3 * wall_s:.1f}", f"{BODY_BYTES / 1e6 / wall_s:.0f}", f"{speed:.2f}", f"{1e3 * cpu:.1f}"]
        lines.append("| " + " | ".join([*cells, f"{cost:.2f}", verdict]) + " |")
    asked = found["questions"]
    lines += [
        "",
        f"{asked['answers']} questions beside {asked['parcels']} x 100 MB in {asked['wall_s']:.2f} s: p50 "
        f"{1e3 * asked['p50_s']:.2f} ms, p99 {1e3 * asked['p99_s']:.2f} ms, longest {1e3 * asked['max_s']:.1f} ms "
        f"(alone: p50 {1e3 * asked['idle_p50_s']:.2f} ms): "
        + _verdict(asked["p99_s"] <= ANSWER_S_MAX, f"p99 <= {1e3 * ANSWER_S_MAX:.0f} ms"),
        "",
    ]
    return lines


def _verdict(met: bool, target: str) -> str:
    return f"{'PASS' if met else 'FAIL'} ({target})"


def main() -> int:
    """Measure, print, write `throughput.md` and `throughput.json`; 0 if every target is met."""
    parser = command.parser(__doc__)
    parser.add_argument("--pairs", type=int, default=5, help="pairs of processes, one after another")
    parser.add_argument("--repeats", type=int, default=9, help="by each pair")
    parser.add_argument("--quick", action="store_true", help="one pair, two repeats, one parcel beside the questions")
    asked = parser.parse_args()
    pairs, repeats, parcels = (1, 2, 1) if asked.quick else (asked.pairs, asked.repeats, 10)
    end_tidily_on_signals()
    about = circumstances("benchmarks.throughput")
    found = {title: measure(title == "CURVE", pairs, repeats, parcels) for title in ("plain", "CURVE")}
    lines = [
        "# The socket driver beside raw sockets",
        "",
        *heading(about),
        f"100 MB from one process to another over loopback, medians of {repeats} interleaved repeats by each of "
        f"{pairs} pairs of processes, one pair after another. Raw: a DEALER and a ROUTER with the driver's options, 25 "
        "frames of 4 MB, each thrown away as it comes; or copied to a block that is used again, which is what an array "
        "needs. The driver: from `post` until the parcel lies in the reader's mailbox, in one block. CPU: both "
        "processes, all threads. Speed and cost: medians of the ratios of each repeat.",
        "",
    ]
    for title, one in found.items():
        lines += table(title, one)
    command.keep(asked.out, "throughput", lines, {"about": about, "found": found})
    return int(any("FAIL" in line for line in lines))


if __name__ == "__main__":
    raise SystemExit(main())
