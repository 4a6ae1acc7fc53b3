"""Mutated files into every reader: is anything but a refusal raised, is anything shown that should not be?

python -m benchmarks.fuzz_files [--mutants 100000] [--seed 0] [--only KIND [--number N]] [--planted] [--write]

A mutant is a good file changed with knowledge of its structure (or its bytes), read as the package reads it. What comes
out is what a user would see, or a refusal of the reader's own kind that names the file. Two mutants of one kind, seed
and number are the same.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.fuzzing.file_kinds import KINDS, Kind
from benchmarks.fuzzing.file_mutator import Spoiler
from benchmarks.kit.command import RESULTS
from benchmarks.kit.machine import circumstances, heading

RESULT = RESULTS / "fuzz_files.md"
PLANTED_RESULT = RESULT.with_name("fuzz_files_planted.md")
PAST_MIN = 0.3
SLOW_S = 5.0
"""CPU seconds in which any small file is read or refused."""


class FoundError(Exception):
    """Something came out that should not have. The text says how to see it again."""


@dataclass(slots=True)
class Fuzz:
    """Counts by kind: `mutants`, `past` the first parser, `read`, `refused`."""

    seed: int
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(default_factory=dict)

    def run(self, kind: Kind, numbers: Sequence[int]) -> None:
        """These mutants of one kind.

        Raises:
            FoundError: at the first that breaks a promise.
        """
        counted = self.counts.setdefault(kind.name, Counter())
        began_s = time.process_time()
        with _scratch() as scratch:
            for number in numbers:
                folder = scratch / "mine"
                folder.mkdir()
                counted.update(self._one(kind, number, folder))
                shutil.rmtree(folder)
        self.cpu_s[kind.name] = self.cpu_s.get(kind.name, 0.0) + time.process_time() - began_s

    def _one(self, kind: Kind, number: int, folder: Path) -> list[str]:
        content = kind.make(Spoiler(random.Random(f"{self.seed}/{kind.name}/{number}")))
        outcome = ["mutants"] + ["past"] * kind.parses(content)
        began_s = time.process_time()
        try:
            said = kind.read(folder, content)
            outcome.append("read")
        except kind.refusals as refusal:
            said = str(refusal)
            outcome.append("refused")
            if str(folder) not in said and folder.name not in said:
                raise self._found(kind, number, content, f"a refusal that names no file: {said}") from refusal
        except Exception as error:
            raise self._found(kind, number, content, traceback.format_exc(limit=-6)) from error
        if not all(line.isprintable() for line in said.split("\n")):
            raise self._found(kind, number, content, f"a control character is shown: {said!r}")
        if (spent_s := time.process_time() - began_s) > SLOW_S:
            raise self._found(kind, number, content, f"{spent_s:.1f} s of CPU for {len(content)} bytes")
        return outcome

    def _found(self, kind: Kind, number: int, content: bytes, what: str) -> FoundError:
        again = f'python -m benchmarks.fuzz_files --only "{kind.name}" --seed {self.seed} --number {number}'
        return FoundError(f"{kind.name}, mutant {number}: {what}\n{content[:400]!r}\nAgain with: {again}")


@contextmanager
def _scratch() -> Iterator[Path]:
    """In memory, where there is such a place: a hundred thousand files are nothing for a disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as made:
        yield Path(made)


def shares(mutants: int) -> dict[str, int]:
    """How many mutants of each kind; at least as many as asked for, all together."""
    whole = sum(kind.share for kind in KINDS)
    return {kind.name: int(mutants * kind.share / whole) + 1 for kind in KINDS}


def report(fuzz: Fuzz) -> list[str]:
    """Markdown lines: what was read and what refused, by kind, and the verdicts."""
    rows = [
        "| file | mutants | past the first parser | read | refused | CPU ms each |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    total: Counter[str] = Counter()
    for name, counted in fuzz.counts.items():
        total.update(counted)
        rows.append(_row(name, counted, fuzz.cpu_s[name]))
    rows.append(_row("all", total, sum(fuzz.cpu_s.values())))
    share = total["past"] / total["mutants"]
    verdict = "PASS" if share >= PAST_MIN else "FAIL"
    return [
        *rows,
        "",
        "Exceptions that are no refusals, refusals that name no file, control characters: 0. PASS (0)",
        "",
        f"Past the first parser: {share:.1%}. {verdict} (>= {PAST_MIN:.0%})",
    ]


def _row(name: str, counted: Counter[str], cpu_s: float) -> str:
    mutants = counted["mutants"]
    return (
        f"| {name} | {mutants:,} | {counted['past'] / mutants:.1%} | {counted['read']:,} | {counted['refused']:,} "
        f"| {1000 * cpu_s / mutants:.2f} |"
    )


def main() -> int:
    """Read, print, write; 0 if every promise was kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=[kind.name for kind in KINDS], help="one kind of file")
    parser.add_argument("--number", type=int, help="one mutant of that kind")
    parser.add_argument("--planted", action="store_true", help="plant bugs into the readers; each must be found")
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}, or {PLANTED_RESULT.name}")
    asked = parser.parse_args()
    if asked.planted:
        from benchmarks.fuzzing.planted_files import hunt_all

        return hunt_all(asked.seed, PLANTED_RESULT if asked.write else None)
    about, fuzz = circumstances("benchmarks.fuzz_files"), Fuzz(asked.seed)
    try:
        for kind in KINDS:
            if asked.only in (None, kind.name):
                count = asked.mutants if asked.only else shares(asked.mutants)[kind.name]
                fuzz.run(kind, range(count) if asked.number is None else [asked.number])
                print(_row(kind.name, fuzz.counts[kind.name], fuzz.cpu_s[kind.name]), file=sys.stderr, flush=True)
    except FoundError as error:
        print(f"FAIL: {error}", file=sys.stderr)
        return 1
    lines = ["# Mutated files into every reader", "", *heading(about), f"Seed {fuzz.seed}.", "", *report(fuzz)]
    print("\n".join(lines))
    if asked.write:
        RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return int(any("FAIL" in line for line in lines))


if __name__ == "__main__":
    sys.exit(main())
