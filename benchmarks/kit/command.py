"""How a benchmark is started, and where its report is kept."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "results"


def parser(doc: str | None, note: bool = False) -> argparse.ArgumentParser:
    """One with `--out`, and with `--note` if something can be said about the machine. `doc` is shown as it is."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--out", type=Path, default=RESULTS)
    if note:
        made.add_argument("--note", default="", help="what else there is to say about this machine now")
    return made


def keep(out: Path, name: str, lines: Sequence[str], figures: Any = None, indent: int | None = 1) -> None:
    """Print a report, and write it to `name`.md; the figures, where there are any, to `name`.json."""
    text = "\n".join(lines).rstrip() + "\n"
    print(text, end="")
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.md").write_text(text)
    if figures is not None:
        (out / f"{name}.json").write_text(json.dumps(figures, indent=indent) + "\n")
