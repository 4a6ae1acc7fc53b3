"""100 MB between 2 to 4 peers under keys, all at the same time: beside raw CURVE sockets, and beside hivemind's TLS.

python -m benchmarks.secured [--rounds 7] [--peers 2,3,4] [--hivemind PYTHON] [--quick] [--out FOLDER]

`--hivemind` is a Python in which hivemind 1.1.12 is installed; without one that row says SKIP.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import zmq

from benchmarks.kit import command
from benchmarks.kit.launcher import end_tidily_on_signals
from benchmarks.kit.machine import circumstances, heading
from benchmarks.kit.series import median
from benchmarks.transfer.movers import BODY_BYTES
from benchmarks.transfer.ring import Seat
from gossipdistill.machine.listening import free_ports

RAW_MIN, HIVEMIND_MIN = 0.85, 3.0
NAMES = ("ada", "bo", "cy", "dee")
SCRIPT = Path(__file__).parent / "rivals" / "hivemind_transfer.py"
KINDS = {"raw": "raw CURVE sockets", "state": "gossipdistill, a state, announced and pulled"}
_BETWEEN_S = 0.05
Round = dict[str, float]


def ours(count: int, rounds: int) -> list[dict[str, Round]]:
    """Interleaved rounds of raw sockets and the driver, the order alternating, after one that is not counted."""
    names = NAMES[:count]
    ports = free_ports([*names, *(f"raw {name}" for name in names)], "127.0.0.1", set())
    raw_ports = {name: ports.pop(f"raw {name}") for name in names}
    keys = {name: zmq.curve_keypair() for name in names}
    found = []
    with contextlib.ExitStack() as stack:
        seats = [Seat(name, ports, raw_ports, keys) for name in names]
        for seat in seats:
            stack.callback(seat.end)
        for seat in seats:
            assert seat.result() == "here"
        for kind in ("meet", *KINDS):
            _together(seats, kind)
        for number in range(rounds):
            order = list(KINDS) if number % 2 == 0 else list(KINDS)[::-1]
            found.append({kind: _together(seats, kind) for kind in order})
    return found


def _together(seats: Sequence[Seat], kind: str) -> Round:
    for seat in seats:
        seat.begin(kind)
    answers = [seat.result() for seat in seats]
    time.sleep(_BETWEEN_S)
    wall_s = max(ended_s for _, ended_s, _ in answers) - min(began_s for began_s, _, _ in answers)
    return {"wall_s": wall_s, "cpu_s": sum(cpu_s for *_, cpu_s in answers) / len(answers)}


def theirs(python: Path, count: int, rounds: int) -> list[Round]:
    """All-reduce of 100 MB among so many peers of hivemind; without the time in which a group is looked for."""
    found: list[Round] = []
    with contextlib.ExitStack() as stack:
        peers: list[subprocess.Popen[str]] = []
        first: list[str] = []
        for _ in range(count):
            command = [str(python), str(SCRIPT), str(count), str(rounds + 1), *first]
            peer = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                start_new_session=True,
            )
            stack.callback(_end, peer)
            peers.append(peer)
            first = first or _hear(peer)["address"]
        for peer in peers:
            while "ready" not in _hear(peer):
                pass
        for number in range(rounds + 1):
            for peer in peers:
                _say(peer)
            told = [_hear(peer) for peer in peers]
            assert all(one["group"] == count for one in told), told
            wall_s = max(one["ended_s"] for one in told) - max(one["formed_s"] for one in told)
            if number:
                found.append({"wall_s": wall_s, "cpu_s": sum(one["cpu_s"] for one in told) / count})
    return found


def _hear(peer: subprocess.Popen[str]) -> dict[str, Any]:
    assert peer.stdout is not None
    line = peer.stdout.readline()
    assert line, "a peer of hivemind has ended"
    told: dict[str, Any] = json.loads(line)
    return told


def _say(peer: subprocess.Popen[str]) -> None:
    assert peer.stdin is not None
    peer.stdin.write("go\n")
    peer.stdin.flush()


def _end(peer: subprocess.Popen[str]) -> None:
    with contextlib.suppress(OSError):
        _say(peer)
    try:
        peer.wait(20)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            subprocess.run(["pkill", "-KILL", "-s", str(peer.pid)], check=False)
        peer.wait(5)


def table(found: dict[int, dict[str, Any]]) -> list[str]:
    """Markdown: medians of the rounds, ratios within a round."""
    lines = ["| peers | | MB/s per peer | CPU ms per peer | of raw speed | of hivemind's | |", "| --- " * 7 + "|"]
    for count, one in found.items():
        rival = [each["wall_s"] for each in one["hivemind"]] if isinstance(one["hivemind"], list) else []
        for kind, words in KINDS.items():
            walls = [each[kind]["wall_s"] for each in one["ours"]]
            of_raw = median(each["raw"]["wall_s"] / each[kind]["wall_s"] for each in one["ours"]) or 0.0
            of_rival = (median(rival) or 0.0) / (median(walls) or 1.0) if rival else None
            told = ""
            if kind != "raw":
                met = of_raw >= RAW_MIN and (of_rival is None or of_rival >= HIVEMIND_MIN)
                told = f"{'PASS' if met else 'FAIL'} (>= {RAW_MIN}, >= {HIVEMIND_MIN:g} x)"
            cpu_ms = 1e3 * (median(each[kind]["cpu_s"] for each in one["ours"]) or 0.0)
            times = f"{of_rival:.1f} x" if of_rival is not None else "-"
            lines.append(f"| {count} | {words} | {_speed(walls)} | {cpu_ms:.0f} | {of_raw:.2f} | {times} | {told} |")
        if rival:
            cpu_ms = 1e3 * (median(each["cpu_s"] for each in one["hivemind"]) or 0.0)
            lines.append(f"| {count} | hivemind 1.1.12, all-reduce, TLS | {_speed(rival)} | {cpu_ms:.0f} | - | 1 x | |")
        else:
            lines.append(f"| {count} | hivemind | - | - | - | - | SKIP: {one['hivemind']} |")
    return lines


def _speed(walls_s: Sequence[float]) -> str:
    return f"{BODY_BYTES / 1e6 / (median(walls_s) or float('inf')):.0f}"


def main() -> int:
    """Measure, print, write `secured.md` and `secured.json`; 0 if every target is met."""
    parser = command.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peers", default="2,3,4")
    parser.add_argument("--hivemind", type=Path, help="a Python in which hivemind is installed")
    parser.add_argument("--quick", action="store_true", help="two rounds of two peers")
    asked = parser.parse_args()
    counts, rounds = ([2], 2) if asked.quick else ([int(count) for count in asked.peers.split(",")], asked.rounds)
    end_tidily_on_signals()
    about = circumstances("benchmarks.secured")
    found: dict[int, dict[str, Any]] = {}
    for count in counts:
        rival: Any = "no Python with hivemind was named (--hivemind)"
        if asked.hivemind is not None:
            rival = theirs(asked.hivemind, count, rounds)
        found[count] = {"ours": ours(count, rounds), "hivemind": rival}
        print(f"{count} peers", flush=True)
    lines = [
        "# 100 MB under keys",
        "",
        *heading(about),
        "",
        "Each peer sends 100 MB to the next of a ring, all at the same time, over loopback: from `post` until the last "
        "of them lies in the mailbox of its reader, in one block; raw sockets throw each frame of 4 MB away as it "
        f"comes. Medians of {rounds} rounds, interleaved; the ratio to raw sockets is taken within a round. hivemind's "
        "round is an all-reduce of 25 tensors of 4 MB, encrypted by libp2p, from the moment that the group has formed; "
        "it moves 2 (n - 1) / n of them each way. CPU: all processes of a peer, all threads.",
        "",
        *table(found),
    ]
    command.keep(asked.out, "secured", lines, {"about": about, "found": found})
    return int(any("FAIL" in line for line in lines))


if __name__ == "__main__":
    raise SystemExit(main())
