"""Each recording as an object that can be compared with what is recorded, and recorded anew."""

from __future__ import annotations

import difflib
import json
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.recordings import FOLDER, help_texts, losses, run_files, storms, words

_OF_EVERY_STRATEGY = ("PEER/result.json", "PEER/events.jsonl", "PEER/boots.json", "summary.json", "compare.json")


class Recording(Protocol):
    """One of the table in the text of this package."""

    def differences(self) -> list[str]:
        """What is not as recorded, a line each."""

    def record(self) -> None:
        """Write what is found now."""


@dataclass
class Storms:
    """The storms of these seeds, so many at a time; by default of all seeds that are recorded."""

    seeds: Iterable[int] = ()
    jobs: int = 1

    def differences(self) -> list[str]:
        """Seeds whose digests differ."""
        known = storms.recorded(FOLDER)
        found = storms.taken([seed for seed in self.seeds or known if seed in known], self.jobs)
        return [f"storm {seed} is {now}, and was {known[seed]}" for seed, now in found if now != known[seed]]

    def record(self) -> None:
        """After each storm, so that what was done is kept; other seeds stay as they are."""
        path = FOLDER / storms.FILE
        known = storms.recorded(FOLDER) if path.exists() else {}
        for seed, now in storms.taken(self.seeds or list(known), self.jobs):
            known[seed] = now
            path.write_text("".join(f"{one} {' '.join(both)}\n" for one, both in sorted(known.items())))


@dataclass
class Text:
    """One text, line by line."""

    file: str
    taken: Callable[[], str]

    def differences(self) -> list[str]:
        """Lines that are gone (-) and lines that are new (+)."""
        before, after = (FOLDER / self.file).read_text("utf-8").splitlines(), self.taken().splitlines()
        return list(difflib.unified_diff(before, after, "recorded", "found", lineterm="", n=0))

    def record(self) -> None:
        """Write it."""
        (FOLDER / self.file).write_text(self.taken(), "utf-8")


@dataclass
class RunFiles:
    """Keys of all files; `launchers`: also of `run` and `compare`, which takes minutes."""

    launchers: bool = True

    def differences(self) -> list[str]:
        """Keys that are new, gone or of another type."""
        return run_files.differences(recorded_keys(), self._taken())

    def record(self) -> None:
        """Write them."""
        (FOLDER / run_files.FILE).write_text(run_files.as_text(self._taken()), "utf-8")

    def _taken(self) -> run_files.Keys:
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
            found = run_files.taken(Path(one))
            return run_files.merged([found, run_files.taken_of_launchers(Path(other))]) if self.launchers else found


class Losses:
    """All strategies on all tasks."""

    def differences(self) -> list[str]:
        """Runs that come to something else."""
        return losses.differences(json.loads((FOLDER / losses.FILE).read_text()), self._taken())

    def record(self) -> None:
        """Write them, a run per line."""
        taken = self._taken()
        tasks = [
            f'  "{task}": {{\n' + ",\n".join(f'   "{name}": {json.dumps(run)}' for name, run in runs.items()) + "\n  }"
            for task, runs in taken["figures"].items()
        ]
        text = f'{{\n "kernels": {json.dumps(taken["kernels"])},\n "figures": {{\n' + ",\n".join(tasks) + "\n }\n}\n"
        (FOLDER / losses.FILE).write_text(text)

    def _taken(self) -> dict[str, object]:
        with tempfile.TemporaryDirectory() as folder:
            return losses.taken(Path(folder))


def recordings(seeds: Iterable[int] = (), jobs: int = 1, launchers: bool = True) -> dict[str, Recording]:
    """All of them by name. What forks comes before what trains in this process."""
    return {
        "words": Text(words.FILE, words.as_text),
        "help_without_sentences": Text(help_texts.BARE, help_texts.bare),
        "help": Text(help_texts.READ, help_texts.read),
        "run_files": RunFiles(launchers),
        "losses": Losses(),
        "storms": Storms(seeds, jobs),
    }


def recorded_keys() -> run_files.Keys:
    """Keys of the files of a run as they are recorded."""
    return run_files.of_text((FOLDER / run_files.FILE).read_text("utf-8"))


def differences_of_run(folder: Path, command: str) -> list[str]:
    """What this run, written by `run` or `compare`, has otherwise in the files that are alike for all strategies."""
    found = run_files.keys_of_run(folder, command)
    return run_files.differences(
        recorded_keys(), {key: types for key, types in found.items() if key[0] in _OF_EVERY_STRATEGY}
    )
