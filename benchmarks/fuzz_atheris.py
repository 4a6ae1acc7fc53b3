"""The same target under a fuzzer that is guided by coverage (atheris, an optional extra: `pip install .[fuzz]`).

python -m benchmarks.fuzz_atheris [-runs=100000] [-max_len=4096] [libFuzzer options] [CORPUS FOLDER]

The bytes that libFuzzer makes stand for the chances of the mutator, so it learns which spoilings open new branches.
Without atheris it says so and ends with exit code 2.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

EXIT_ABSENT = 2
SAID_EVERY = 1000
"""Executions between two lines about what was thrown."""


def main() -> int:
    """Hand over to libFuzzer, which ends the process itself."""
    try:
        import atheris
    except ImportError:
        print(f"atheris is not installed: pip install 'gossipdistill[fuzz]' (exit code {EXIT_ABSENT})", file=sys.stderr)
        return EXIT_ABSENT
    with atheris.instrument_imports(include=["gossipdistill"]):
        from benchmarks.fuzzing.chances import Chances
        from benchmarks.fuzzing.target import Target

    counts: Counter[str] = Counter()

    def throw(data: bytes) -> None:
        chances = Chances(data[1:])
        target = Target(chances, closed=data[:1] > b"\x7f")
        while not chances.spent():
            target.step()
        counts.update(target.counts)
        counts["executions"] += 1
        if counts["executions"] % SAID_EVERY == 0:  # libFuzzer ends the process without a last word of ours
            print(summary(counts), file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        given = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
        atheris.Setup(sys.argv if given else [*sys.argv, str(_first_corpus(Path(folder)))], throw)
        atheris.Fuzz()
    return 0


def summary(counts: Counter[str]) -> str:
    """One line about what was thrown."""
    frames = max(counts["frames"], 1)
    shares = [f"{counts[name] / frames:.1%} {name}" for name in ("past the header", "received")]
    return f"{counts['executions']:,} executions, {counts['frames']:,} frames, {', '.join(shares)}"


def _first_corpus(folder: Path) -> Path:
    """Without a corpus libFuzzer begins with a byte or two, and a storm of one frame."""
    chance = random.Random(0)
    for index in range(64):
        (folder / str(index)).write_bytes(chance.randbytes(1500))
    return folder


if __name__ == "__main__":
    raise SystemExit(main())
