"""Finished cells of an experiment, one per line of a file, so that an interrupted series goes on where it was."""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

Key = dict[str, Any]
Cell = dict[str, Any]
"""A line: its `key`, and its figures beside it."""


def known(path: Path) -> list[Cell]:
    """The cells that are there; a line that was cut short is none."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]


def add(path: Path, key: Key, figures: Cell) -> Cell:
    """One more line; the cell that it holds."""
    cell = {"key": key, **figures}
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = not path.exists() or path.read_bytes()[-1:] in (b"", b"\n")
    with path.open("a", encoding="utf-8") as file:
        file.write(("" if whole else "\n") + json.dumps(cell) + "\n")
    return cell


def missing(path: Path, wanted: Iterable[Key]) -> Iterator[Key]:
    """Those of the wanted cells that are not there."""
    done = {text_of(cell["key"]) for cell in known(path)}
    return (key for key in wanted if text_of(key) not in done)


def text_of(key: Key) -> str:
    """The same for equal keys, in whichever order their entries are."""
    return json.dumps(key, sort_keys=True)


def fill(path: Path, wanted: Iterable[Key], run: Callable[[Key], Cell], jobs: int = 1) -> list[Cell]:
    """Run what is missing of these cells in their order, `jobs` of them side by side. Each gets the processor time (s)
    that it took as `cpu_s`. All cells that are there afterwards.

    Args:
        run: the figures of a cell; with several jobs a function of a module.
    """
    keys = list(missing(path, wanted))
    for number, (key, figures) in enumerate(_each(keys, run, jobs), start=1):
        print(f"{number} of {len(keys)}: {json.dumps(add(path, key, figures))[:300]}", flush=True)
    return known(path)


def _each(keys: Sequence[Key], run: Callable[[Key], Cell], jobs: int) -> Iterator[tuple[Key, Cell]]:
    """The figures of each cell as soon as they are there."""
    if jobs == 1:
        yield from ((key, _timed(run, key)) for key in keys)
        return
    alone = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, alone, torch.set_num_threads, (1,)) as pool:
        started = {pool.submit(_timed, run, key): key for key in keys}
        yield from ((started[done], done.result()) for done in as_completed(started))


def _timed(run: Callable[[Key], Cell], key: Key) -> Cell:
    began_s = time.process_time()
    figures = run(key)
    return {**figures, "cpu_s": round(time.process_time() - began_s, 2)}


class NotThereError(Exception):
    """A cell is missing, and none is to be run."""


@dataclass
class Store:
    """Cells by need: those that are in the file are read, others are run, as long as `runs` says so."""

    path: Path
    runs: bool
    cpu_s_max: float = math.inf
    """Beyond this processor time of the process no further cell is begun."""
    cells: dict[str, Cell] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.cells = {text_of(cell["key"]): cell for cell in known(self.path)}

    @classmethod
    def of(cls, results: Path, asked: argparse.Namespace) -> Store:
        """As `--report`, `--full` and `--cpu-minutes` say."""
        return cls(results / ("full.jsonl" if asked.full else "cells.jsonl"), not asked.report, 60 * asked.cpu_minutes)

    def cell(self, key: Key, run: Callable[[], Cell]) -> Cell:
        """The cell, from the file or anew.

        Raises:
            NotThereError: it is missing, and none is to be run, or no time is left.
        """
        found = self.cells.get(text_of(key))
        if found is None:
            if not self.runs or time.process_time() > self.cpu_s_max:
                raise NotThereError(key)
            found = self.cells[text_of(key)] = add(self.path, key, run())
            print(json.dumps(found)[:300], flush=True)
        return found
