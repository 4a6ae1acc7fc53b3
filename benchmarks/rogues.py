"""Rogues beside four peers that train and exchange under keys: does anything of theirs count, and who slows down?

python -m benchmarks.rogues [--repeats 3] [--seconds 4] [--only NAME,...] [--quick] [--out FOLDER]

Each rogue acts for a window between two windows of the same peers without it. One peer, ada, is attacked; its pace, and
that of the three others, is compared with the mean of the windows before and after.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

import zmq

from benchmarks.launcher import end_tidily_on_signals
from benchmarks.machine import circumstances, heading
from benchmarks.rogue_cast import CAST, Target, Villain
from benchmarks.rogue_peer import BODY_BYTES, EXCHANGE_EVERY_STEPS, STEP_S, Watched
from benchmarks.series import median
from gossipdistill.launch.environment import free_ports
from gossipdistill.limits import DEFAULT_LIMITS

PEERS = ("ada", "bo", "cy", "dee")
ROGUES = ("eve", "mallory")
"""Who has a key, but no process of ours: eve is allowed, mallory's is revoked."""
PACE_MIN, MEMORY_BYTES_MAX = 0.97, 512 << 20
Figures = dict[str, dict[str, Any]]


def run(names: list[str], seconds: float) -> dict[str, dict[str, Any]]:
    """All these rogues, one after another, against four fresh peers."""
    ports = free_ports(PEERS, "127.0.0.1", set())
    keys = {name: zmq.curve_keypair() for name in (*PEERS, *ROGUES)}
    target = Target("ada", "127.0.0.1", ports["ada"], keys["ada"][0], {name: keys[name] for name in ROGUES})
    found: dict[str, dict[str, Any]] = {}
    with contextlib.ExitStack() as stack:
        peers = [Watched(name, ports, keys) for name in PEERS]
        for peer in peers:
            stack.callback(peer.end)
        for peer in peers:
            peer.ready()
        time.sleep(1.0)
        for name in names:
            villain = Villain(name, target)
            stack.callback(villain.end)
            if name.startswith("revoked"):
                trusted = {whose: pair[0].decode() for whose, pair in keys.items() if whose != "mallory"}
                for peer in peers:
                    peer.do("trust", trusted)
            time.sleep(0.5)
            marks = [_look(peers)]
            _pass(peers, marks, seconds)
            villain.act(seconds)
            _pass(peers, marks, seconds)
            done = villain.end()
            time.sleep(DEFAULT_LIMITS.handshake_timeout_s / 2)
            marks.append(_look(peers))
            _pass(peers, marks, seconds)
            found[name] = {"marks": marks, "done": done}
    return found


def _look(peers: list[Watched]) -> Figures:
    return {peer.name: peer.do("figures") for peer in peers}


def _pass(peers: list[Watched], marks: list[Figures], seconds: float) -> None:
    time.sleep(seconds)
    marks.append(_look(peers))


def judge(found: dict[str, Any]) -> dict[str, Any]:
    """The figures of one rogue in one run: `marks` are before the first quiet window, before the attack, after it,
    before the second quiet window and after that."""
    first, before, after, second, last = found["marks"]
    with_rogue = _rates(before, after)
    beside = [_rates(first, before), _rates(second, last)]

    def ratio(figure: str, who: tuple[str, ...]) -> float:
        now = sum(with_rogue[name][figure] for name in who)
        usual = sum(rates[name][figure] for rates in beside for name in who) / 2
        return now / usual if usual else float("nan")

    ada = {mark: found["marks"][mark]["ada"] for mark in range(5)}
    accepted = sum(ada[3]["traffic"].get(name, 0) - ada[1]["traffic"].get(name, 0) for name in ROGUES)
    refused = {
        kind: {key: count - ada[1][kind].get(key, 0) for key, count in ada[3][kind].items()}
        for kind in ("door", "malformed", "turned_away", "events")
    }
    return {
        "accepted_bytes": accepted + sum(found["marks"][3][name]["foreign"] for name in PEERS),
        "pace_attacked": ratio("steps_per_s", ("ada",)),
        "pace_others": ratio("steps_per_s", PEERS[1:]),
        "cpu_per_step_attacked": ratio("cpu_s_per_step", ("ada",)),
        "exchanges": ratio("exchanges_per_s", PEERS),
        "memory_growth_bytes": max(ada[2]["resident_max"], ada[3]["resident_max"]) - ada[1]["resident_max"],
        "files_max": max(ada[2]["files_max"], ada[3]["files_max"]),
        "refused": {kind: {key: n for key, n in of.items() if n} for kind, of in refused.items()},
        "done": found["done"],
        "windows": {"before": beside[0], "with": with_rogue, "after": beside[1]},
    }


def _rates(begin: Figures, end: Figures) -> dict[str, dict[str, float]]:
    found = {}
    for name, now in end.items():
        was = begin[name]
        wall_s, steps = now["at_s"] - was["at_s"], now["steps"] - was["steps"]
        found[name] = {
            "steps_per_s": steps / wall_s,
            "cpu_s_per_step": (now["cpu_s"] - was["cpu_s"]) / max(steps, 1),
            "exchanges_per_s": (now["exchanges"] - was["exchanges"]) / wall_s,
        }
    return found


def table(runs: list[dict[str, dict[str, Any]]], names: list[str]) -> list[str]:
    """Markdown: medians over the runs, the worst of memory and of accepted bytes, and each target with its verdict."""
    lines = [
        "| rogue | it did | accepted bytes | how it was refused | pace of the attacked | of the others | CPU per step "
        "of the attacked | exchanges | memory, at most | files, at most | |",
        "| --- " * 11 + "|",
    ]
    for name in names:
        all_of_it = [one[name] for one in runs]
        accepted = max(one["accepted_bytes"] for one in all_of_it)
        memory = max(one["memory_growth_bytes"] for one in all_of_it)
        pace, others, cpu, exchanges = (
            median(one[figure] for one in all_of_it) or 0.0
            for figure in ("pace_attacked", "pace_others", "cpu_per_step_attacked", "exchanges")
        )
        met = accepted == 0 and min(pace, others) >= PACE_MIN and memory <= MEMORY_BYTES_MAX
        cells = [
            name, _words(all_of_it[-1]["done"]), str(accepted), _refusals(all_of_it[-1]["refused"]), f"{pace:.3f}",
            f"{others:.3f}", f"{cpu:.2f}", f"{exchanges:.2f}", f"+{memory / 1e6:.0f} MB",
            str(max(one["files_max"] for one in all_of_it)), "PASS" if met else "FAIL",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _words(done: dict[str, int]) -> str:
    text = {key: f"{count / 1e6:.1f} MB" if key == "bytes" else f"{count} {key}" for key, count in done.items()}
    return ", ".join(text.values())


def _refusals(refused: dict[str, dict[str, int]]) -> str:
    usual = ("repeated", "not_for_me", "for_another_process")
    told = [
        f"{key} x{count}"
        for kind in ("door", "malformed", "turned_away")
        for key, count in refused[kind].items()
        if not key.endswith(usual)
    ]
    told += [f"event {kind} x{count}" for kind, count in refused["events"].items() if kind in ("cut_off", "muted")]
    return ", ".join(told) or "by libzmq, unseen"


def main() -> int:
    """Measure, print, write `rogues.md` and `rogues.json`; 0 if every target is met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each window")
    parser.add_argument("--only", help="rogues, by commas")
    parser.add_argument("--quick", action="store_true", help="one repeat with windows of a second: a smoke test")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    asked = parser.parse_args()
    names = asked.only.split(",") if asked.only else list(CAST)
    if not set(names) <= set(CAST):
        parser.error(f"{', '.join(sorted(set(names) - set(CAST)))}: not one of {', '.join(CAST)}")
    repeats, seconds = (1, 1.0) if asked.quick else (asked.repeats, asked.seconds)
    end_tidily_on_signals()
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # of each process: several would spin, and wait for one another
    about = circumstances("benchmarks.rogues")
    runs = []
    for number in range(repeats):
        order = names[number % len(names) :] + names[: number % len(names)]
        runs.append({name: judge(one) for name, one in run(order, seconds).items()})
        print(f"repeat {number + 1} of {repeats}", flush=True)
    lines = [
        "# Rogues",
        "",
        *heading(about),
        "",
        f"Four peers with keys on loopback, steps of {1000 * STEP_S:.0f} ms, {BODY_BYTES / 1e6:.0f} MB to everybody "
        f"each {EXCHANGE_EVERY_STEPS} steps. Each rogue attacks `ada` for {seconds:g} s, in a process of its own and "
        f"on the same cores; ratios are to the mean of the windows before and after, medians of {len(runs)} runs. "
        "Accepted is what was decoded in a rogue's name or came to a learner and is of no peer. The largest memory "
        "and number of files of any run.",
        "",
        *table(runs, names),
        "",
        f"To reach: 0 bytes accepted, pace of all peers at least {PACE_MIN}, memory at most "
        f"+{MEMORY_BYTES_MAX / 1e6:.0f} MB (what comes within a quarter of a second, and "
        f"{DEFAULT_LIMITS.hoard_bytes_max >> 20} MiB).",
    ]
    print("\n".join(lines))
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "rogues.md").write_text("\n".join(lines) + "\n")
    (asked.out / "rogues.json").write_text(json.dumps({"about": about, "runs": runs}, indent=1) + "\n")
    return int(any("FAIL" in line for line in lines))


if __name__ == "__main__":
    raise SystemExit(main())
