"""Rogues beside two workers that train and exchange, with keys and without: does anything of theirs count?

python -m benchmarks.rogues [--seconds 4] [--only NAME;...] [--modes keyed,open] [--out FOLDER]

Each rogue attacks one of two fresh workers, after a window of the same length without it. In the end both are asked to
end, so a worker that hangs is seen too.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks.kit import command
from benchmarks.kit.launcher import BenchmarkError, end_tidily_on_signals
from benchmarks.kit.machine import circumstances, heading
from benchmarks.rogues.stage import ENDED_WITHIN_S, KEYED_ALONE, ROGUES, STEP_S, Seen, trial

NOBODY = "nobody"
MAY_APPLY = frozenset({"a model of noise", "two processes of one name"})
"""Whose models are of an honest size: of a member they are mixed in, as the others' are, and harm what they can."""
PACE_MIN, EXCHANGES_MIN, ACCURACY_LOST_MAX, MEMORY_BYTES_MAX = 0.8, 0.8, 0.1, 512 << 20
_TERMINATED = 128 + 15
Found = dict[str, dict[str, Seen | str]]
"""By rogue and mode; a text says what went wrong with the trial itself."""


def faults(name: str, seen: Seen, nobody: Seen | None) -> list[str]:
    """What did not hold."""
    found = []
    if seen.exit_codes != [_TERMINATED] * 2:
        found.append(f"exit codes {seen.exit_codes}")
    if seen.ended_within_s > ENDED_WITHIN_S:
        found.append("SIGTERM")
    if min(seen.pace, seen.pace_of_the_other) < PACE_MIN:
        found.append("pace")
    if not seen.exchanges >= EXCHANGES_MIN:
        found.append("exchanges")
    if seen.grown_bytes > MEMORY_BYTES_MAX:
        found.append("memory")
    if seen.applied and name not in MAY_APPLY:
        found.append("applied")
    usual = nobody.accuracy if nobody is not None else None
    if seen.accuracy is None or (usual is not None and seen.accuracy < usual - ACCURACY_LOST_MAX):
        found.append("accuracy")
    return found


def table(found: Found, modes: list[str]) -> list[str]:
    """Markdown, a row for each rogue and mode."""
    lines = [
        "| rogue | run | it did | applied | pace of the attacked, of the other | exchanges | memory | accuracy "
        "| ended in | what the user saw | |",
        "| --- " * 11 + "|",
    ]
    for name, by_mode in found.items():
        for mode in modes:
            one = by_mode.get(mode)
            if isinstance(one, str):
                lines.append(f"| {name} | {mode} | " + " | " * 8 + f"| ERROR: {one} |")
            elif one is not None:
                lines.append(_row(name, mode, one, found.get(NOBODY, {}).get(mode)))
    return lines


def _row(name: str, mode: str, one: Seen, nobody: Seen | str | None) -> str:
    missed = faults(name, one, nobody if isinstance(nobody, Seen) else None)
    done = {k: f"{n / 1e6:.1f} MB" if k == "bytes" else f"{n} {k}" for k, n in one.done.items()}
    told = ", ".join(f"{kind} x{n}" if n > 1 else kind for kind, n in one.told.items())
    accuracy = f"{100 * one.accuracy:.0f} %" if one.accuracy is not None else "-"
    cells = [
        name,
        mode,
        ", ".join(done.values()) or "-",
        str(one.applied),
        f"{one.pace:.2f}, {one.pace_of_the_other:.2f}",
        f"{one.exchanges:.2f}",
        f"{one.grown_bytes / 1e6:+.0f} MB",
        accuracy,
        f"{one.ended_within_s:.1f} s",
        told or "nothing",
        _verdict(name, missed),
    ]
    return "| " + " | ".join(cells) + " |"


def _verdict(name: str, missed: list[str]) -> str:
    if missed == ["accuracy"] and name in MAY_APPLY:
        return "HARM, as a member can: accuracy"
    return f"FAIL: {', '.join(missed)}" if missed else "PASS"


def attempted(name: str, mode: str, seconds: float) -> Seen | str:
    """One trial in a folder of its own; a second one when the first could not be held at all."""
    problem = ""
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            try:
                return trial(None if name == NOBODY else name, mode == "keyed", seconds, Path(folder))
            except (BenchmarkError, AssertionError) as error:
                problem = " ".join(str(error).split())[:200]
    return problem


def main() -> int:
    """Measure, print, write `rogues.md` and `rogues.json`; 0 if all hold."""
    parser = command.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each window")
    parser.add_argument("--only", help="rogues, by semicolons")
    parser.add_argument("--modes", default="keyed,open")
    asked = parser.parse_args()
    names = asked.only.split(";") if asked.only else list(ROGUES)
    if not set(names) <= set(ROGUES):
        parser.error(f"{', '.join(sorted(set(names) - set(ROGUES)))}: not one of {', '.join(ROGUES)}")
    end_tidily_on_signals()
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    about, modes = circumstances("benchmarks.rogues"), asked.modes.split(",")
    found: Found = {}
    for name in [NOBODY, *names]:
        for mode in modes:
            if mode == "keyed" or name not in KEYED_ALONE:
                found.setdefault(name, {})[mode] = attempted(name, mode, asked.seconds)
        print("\n".join(table({NOBODY: found[NOBODY], name: found[name]}, modes)[2:][-len(found[name]) :]), flush=True)
    rows = table(found, modes)
    lines = [
        "# Rogues",
        "",
        *heading(about),
        "",
        f"Two workers on loopback (`gossip_averaging` of digits; `sgp` where a rogue sends mass), steps of "
        f"{1000 * STEP_S:.0f} ms. Each rogue attacks `ada` for {asked.seconds:g} s, in a process of its own and on the "
        "same cores; ratios are to a window of the same length before. Applied are parcels in a rogue's name that were "
        "used, of eve or mallory. What the user saw are the kinds of events about it and what stands in the result.",
        "",
        *rows,
        "",
        f"To reach: nothing applied (but models of an honest size, of a member), both train until they are asked to "
        f"end and end within {ENDED_WITHIN_S:g} s, pace and exchanges at least {PACE_MIN}, memory at most "
        f"+{MEMORY_BYTES_MAX / 1e6:.0f} MB, accuracy at most {100 * ACCURACY_LOST_MAX:.0f} points below that beside "
        "nobody. HARM: a member whose models are of an honest size is mixed in as the others are, and can spoil the "
        "result; `strategy.robust` is against that.",
    ]
    told = {
        name: {mode: one if isinstance(one, str) else asdict(one) for mode, one in of.items()}
        for name, of in found.items()
    }
    command.keep(asked.out, "rogues", lines, {"about": about, "found": told})
    return int(any("FAIL" in line or "ERROR" in line for line in rows))


if __name__ == "__main__":
    raise SystemExit(main())
