"""The zoo's table: every kind of model under every strategy. About a minute.

    python -m benchmarks.zoo [--only TEXT] [--write]

Ends with 1 where a cell neither works nor is refused as it should be; the table goes to benchmarks/results/zoo.md.
"""

from __future__ import annotations

import argparse
import sys
import time

import torch

from benchmarks.kit.command import RESULTS
from benchmarks.zoo.cells import run_cell
from benchmarks.zoo.kinds import KINDS
from gossipdistill.strategies import STRATEGIES

RESULT = RESULTS / "zoo.md"


def outcome(kind: str, strategy: str) -> str:
    """What a cell holds."""
    try:
        return run_cell(kind, strategy)
    except Exception as error:
        return f"FAILED: {type(error).__name__}: {' '.join(str(error).split())[:200]}"


def table(cells: dict[tuple[str, str], str]) -> str:
    """As Markdown: one row a kind, one column a strategy; what is refused is told below."""
    notes: dict[str, int] = {}
    kinds = list(dict.fromkeys(kind for kind, _ in cells))
    lines = ["| model | " + " | ".join(STRATEGIES) + " |", "| --- |" + " --- |" * len(STRATEGIES)]
    for kind in kinds:
        row = [kind]
        for strategy in STRATEGIES:
            found = cells[kind, strategy]
            row.append(
                "works" if found == "works" else f"{found.split(':')[0]} ({notes.setdefault(found, len(notes) + 1)})"
            )
        lines.append("| " + " | ".join(row) + " |")
    lines += ["", *(f"{number}. {found}" for found, number in notes.items())]
    return "\n".join(lines)


def main() -> int:
    """Run the cells and print, or write, the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="kinds whose name holds this text")
    parser.add_argument("--write", action="store_true", help=f"write {RESULT}")
    given = parser.parse_args()
    torch.set_num_threads(1)
    began_s = time.process_time()
    cells = {(kind, one): outcome(kind, one) for kind in KINDS if given.only in kind for one in STRATEGIES}
    words = [found.split(":")[0] for found in cells.values()]
    counted = ", ".join(f"{words.count(word)} {word}" for word in ("works", "refused", "FAILED"))
    text = (
        "# The zoo\n\n"
        f"`python -m benchmarks.zoo --write`: {len(cells)} cells of {len(STRATEGIES)} strategies: {counted}; "
        f"{time.process_time() - began_s:.0f} s of CPU, torch {torch.__version__}.\n\n"
        "*works*: two peers train and exchange over the wire's bytes, in virtual time; each entry of a model is mixed "
        "once and by its share; what is not mixed keeps its bits; a checkpoint goes on bit for bit in new objects; a "
        "newcomer gets a donor's model bit for bit. What each check is: `benchmarks/zoo/cells.py`. *refused*: before "
        "the first step, with exit code 6 and these words. What a module keeps in a plain attribute (a hidden state, a "
        "generator) is in no `state_dict`, so it does not travel and begins anew after a restart.\n\n"
        + table(cells)
        + "\n"
    )
    print(text)
    if given.write:
        RESULT.write_text(text, encoding="utf-8")
    return 1 if "FAILED" in words else 0


if __name__ == "__main__":
    sys.exit(main())
