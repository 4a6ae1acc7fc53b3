"""How an experiment is started, `python -m experiments.NAME.run [--report]`, and how its table is kept."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch


def parser(doc: str | None, seeds: Sequence[int] | None = None, jobs: bool = False) -> argparse.ArgumentParser:
    """The options that mean the same everywhere.

    Args:
        doc: what is said by `--help`, as it is written.
        seeds: those that are run unless `--seeds` says otherwise; None: there is no such option.
        jobs: whether cells may be run side by side.
    """
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--report", action="store_true", help="run nothing: the table, from the results that are there")
    if seeds is not None:
        made.add_argument("--seeds", type=numbers, default=list(seeds), help="separated by commas")
    if jobs:
        made.add_argument("--jobs", type=int, default=1, help="how many processes run cells side by side")
    return made


def add_store(options: argparse.ArgumentParser) -> None:
    """What `cells.Store.of` reads."""
    options.add_argument("--full", action="store_true", help="more of everything; kept apart")
    options.add_argument("--cpu-minutes", type=float, default=float("inf"), help="begin no cell after so many")


def begin(options: argparse.ArgumentParser) -> argparse.Namespace:
    """What was typed. From now on this process computes with one thread, so that figures do not depend on the rest of
    the machine."""
    torch.set_num_threads(1)
    return options.parse_args()


def words(text: str) -> list[str]:
    """Several names, separated by commas."""
    return text.split(",")


def numbers(text: str) -> list[int]:
    """Several whole numbers, separated by commas."""
    return [int(word) for word in words(text)]


def line(cells: Iterable[str]) -> str:
    """A line of a table in Markdown."""
    return "| " + " | ".join(cells) + " |"


def write(path: Path, text: str) -> None:
    """Keep a table, and show it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    print(text)
