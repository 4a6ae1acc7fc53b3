"""Mutated frames into codec, assembly and peer: is anything raised, does anything grow?

python -m benchmarks.fuzz [--frames 1000000] [--seed 0] [--quick] [--out FOLDER]
"""

from __future__ import annotations

import random
import resource
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from benchmarks.fuzzing.target import Target
from benchmarks.kit import command
from benchmarks.kit.machine import circumstances, heading

HEADER_SHARE_MIN = 0.5
ENTRIES_RATIO_MAX = 1.25
MEMORY_GROWTH_MAX_MIB = 32.0
_LIFE_FRAMES = 10_000
"""Of the targets that are replaced by fresh ones; two others live through the whole run."""
_TURN_FRAMES = 500
_SILENT_S = 2.0


class FoundError(Exception):
    """Something came out that should not have. The text says how to see it again."""


@dataclass(slots=True)
class Storm:
    """A run of the fuzzer: two targets that live long, and a pair that is replaced again and again."""

    seed: int
    counts: Counter[str] = field(default_factory=Counter)
    entries: list[int] = field(default_factory=list)
    """Of the two that live long, together, after each round."""
    lives: int = 0

    def run(self, frames: int) -> None:
        """Throw this many frames, at least.

        Raises:
            FoundError: at the first exception out of a target.
        """
        old = [self._target(f"old-{closed}", closed) for closed in (True, False)]
        young: list[Target] = []
        progress = Progress(frames)
        while (thrown := sum(t.counts["frames"] for t in old + young) + self.counts["frames"]) < frames:
            progress.show(thrown)
            if not young or young[0].counts["frames"] >= _LIFE_FRAMES:
                self._bury(young)
                self.lives += 1
                young = [self._target(f"young-{self.lives}-{closed}", closed) for closed in (True, False)]
            for target in old + young:
                self._throw(target, min(_TURN_FRAMES, frames))
            self.entries.append(sum(target.entries() for target in old))
        progress.end(thrown)
        self._bury(old + young)

    def _target(self, name: str, closed: bool) -> Target:
        return Target(random.Random(f"{self.seed}/{name}"), closed)  # a text seeds alike under any PYTHONHASHSEED

    def _throw(self, target: Target, frames: int) -> None:
        until = target.counts["frames"] + frames
        while target.counts["frames"] < until:
            try:
                target.step()
            except Exception as error:
                place = f"frame {target.counts['frames']} of a target (closed={target.closed}), seed {self.seed}"
                raise FoundError(f"{type(error).__name__} at {place}: {error}\n{traceback.format_exc()}") from error

    def _bury(self, targets: list[Target]) -> None:
        for target in targets:
            self.counts.update(target.counts)


@dataclass(slots=True)
class Progress:
    """A line on stderr, for whoever waits longer than two seconds."""

    frames: int
    started_s: float = field(default_factory=time.monotonic)
    shown_s: float = 0.0

    def show(self, thrown: int) -> None:
        """Say how far it is, at most once a second."""
        lasted_s = time.monotonic() - self.started_s
        if lasted_s >= max(_SILENT_S, self.shown_s + 1.0):
            self.shown_s = lasted_s
            left_s = lasted_s * (self.frames - thrown) / max(thrown, 1)
            text = f"{thrown:,} of {self.frames:,} frames, {thrown / lasted_s:,.0f}/s, about {left_s:.0f} s left"
            print(f"\r{text:<78}", end="" if sys.stderr.isatty() else "\n", file=sys.stderr, flush=True)

    def end(self, thrown: int) -> None:
        """Finish the line."""
        if self.shown_s and sys.stderr.isatty():
            print(f"\r{f'{thrown:,} frames':<78}", file=sys.stderr)


def resident_peak_mib() -> float:
    """The most memory that this process has had, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def measure(frames: int, seed: int) -> dict[str, Any]:
    """Warm up with a tenth, then throw the frames; what was seen."""
    Storm(seed + 1).run(frames // 10)
    before_mib, started_s = resident_peak_mib(), time.monotonic()
    storm = Storm(seed)
    storm.run(frames)
    half = len(storm.entries) // 2
    first, second = max(storm.entries[: max(half, 1)]), max(storm.entries[half:])
    counts = dict(sorted(storm.counts.items()))
    return {
        "seed": seed,
        "seconds": time.monotonic() - started_s,
        "targets": 2 + 2 * storm.lives,
        "counts": counts,
        "past_the_header": counts["past the header"] / counts["frames"],
        "entries_first_half": first,
        "entries_second_half": second,
        "memory_growth_mib": resident_peak_mib() - before_mib,
    }


def report(found: dict[str, Any]) -> list[str]:
    """Markdown lines: what was asked, what was seen, and the verdicts."""
    counts, frames = found["counts"], found["counts"]["frames"]
    share, growth = found["past_the_header"], found["memory_growth_mib"]
    ratio = found["entries_second_half"] / max(found["entries_first_half"], 1)
    rows = [
        ("frames", f"{frames:,}", ""),
        ("exceptions", "0", "PASS (0)"),
        ("past the header check", f"{share:.1%}", _verdict(share >= HEADER_SHARE_MIN, f">= {HEADER_SHARE_MIN:.0%}")),
        ("understood, and received by the peer", f"{counts['received'] / frames:.1%}", ""),
        ("of these from peers it holds alive", f"{counts['received from the living'] / counts['received']:.1%}", ""),
        ("messages that the peers sent", f"{counts['transmits']:,}", ""),
        ("arrivals that learners got", f"{counts['arrivals']:,}", ""),
        (
            "entries in all tables, most of the second half over most of the first",
            f"{found['entries_second_half']:,} / {found['entries_first_half']:,} = {ratio:.2f}",
            _verdict(ratio <= ENTRIES_RATIO_MAX, f"<= {ENTRIES_RATIO_MAX}"),
        ),
        (
            "growth of the resident peak after the warm-up",
            f"{growth:.1f} MiB",
            _verdict(growth <= MEMORY_GROWTH_MAX_MIB, f"<= {MEMORY_GROWTH_MAX_MIB:g} MiB"),
        ),
        ("frames per second", f"{frames / found['seconds']:,.0f}", ""),
    ]
    lines = ["| | | |", "| --- | --- | --- |", *(f"| {' | '.join(row)} |" for row in rows), ""]
    for title, prefix in (
        ("Refused by the codec", "decode: "),
        ("Refused by the assembly", "assembly: "),
        ("Received", "kind "),
    ):
        parts = [f"{name.removeprefix(prefix)} {n:,}" for name, n in counts.items() if name.startswith(prefix)]
        lines += [f"{title}: {', '.join(parts)}.", ""]
    return lines[:-1]


def _verdict(holds: bool, bound: str) -> str:
    return f"{'PASS' if holds else 'FAIL'} ({bound})"


def main() -> int:
    """Throw, print, write `fuzz.md` and `fuzz.json`; 0 if nothing was raised and every bound held."""
    parser = command.parser(__doc__)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="20,000 frames: a smoke test")
    asked = parser.parse_args()
    if asked.frames < 1:
        parser.error("--frames is at least 1")
    about = circumstances("benchmarks.fuzz")
    try:
        found = measure(20_000 if asked.quick else asked.frames, asked.seed)
    except FoundError as error:
        print(f"FAIL: {error}\nAgain with: {about['command']}", file=sys.stderr)
        return 1
    lines = [
        "# Mutated frames into codec, assembly and peer",
        "",
        *heading(about),
        f"Seed {found['seed']}; {found['targets']} targets, two of which live through the whole run.",
        "",
        *report(found),
    ]
    command.keep(asked.out, "fuzz", lines, {"about": about, "found": found})
    return int(any("FAIL" in line for line in lines))


if __name__ == "__main__":
    raise SystemExit(main())
