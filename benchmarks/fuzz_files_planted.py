"""Planted bugs of readers: each breaks one line, and the fuzz of files must find it within its mutants.

A fuzzer that finds nothing may look at nothing. A bug is a piece of source that is replaced in one function; `python -m
benchmarks.fuzz_files --planted` hunts them all.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.file_kinds import KINDS
from benchmarks.fuzz_files import FoundError, Fuzz, shares
from gossipdistill import files, printable, toml
from gossipdistill.faults import plan
from gossipdistill.keys import secrets
from gossipdistill.learning import checkpoint_content
from gossipdistill.observe import records, story
from gossipdistill.topology import load

BUDGET = 100_000
"""Mutants of all kinds of files: a bug is looked for among those of the kinds that it may show in."""


@dataclass(frozen=True)
class Bug:
    """`old` is replaced by `new` in the source of a function of `module`, where it stands exactly once."""

    name: str
    module: ModuleType
    function: str
    old: str
    new: str
    kinds: tuple[str, ...]
    """Of file, in which it is looked for."""

    @contextmanager
    def planted(self) -> Iterator[None]:
        """The package with this bug in it, wherever the function was imported."""
        sound = getattr(self.module, self.function)
        source = textwrap.dedent(inspect.getsource(sound))
        if source.count(self.old) != 1:
            raise ValueError(f"{self.name}: {self.old!r} stands {source.count(self.old)} times in {self.function}")
        made: dict[str, Any] = {}
        exec("from __future__ import annotations\n" + source.replace(self.old, self.new), vars(self.module), made)
        users = [other for name, other in sys.modules.items() if name.startswith(("gossipdistill", "benchmarks"))]
        changed = [(other, name) for other in users for name, value in list(vars(other).items()) if value is sound]
        for other, name in changed:
            setattr(other, name, made[self.function])
        try:
            yield
        finally:
            for other, name in changed:
                setattr(other, name, sound)


BUGS = (
    Bug("a number of 5,000 digits goes through the reader of JSON", files, "parse_json",
        "except ValueError:", "except UnicodeError:", ("summary.json", "result.json")),
    Bug("lists without end go through the reader of JSON", files, "parse_json",
        "except RecursionError:", "except UnicodeError:", ("boots.json", "summary.json")),
    Bug("NaN is a number", files, "parse_json", "nonfinite: bool = False", "nonfinite: bool = True",
        ("summary.json", "config.json")),
    Bug("numbers are of any size, and may be infinite", files, "refuse_extremes", "level, depth = [value], 0",
        "level, depth = [], 0", ("run file", "topology", "summary.json")),
    Bug("lists without end go through the reader of TOML", toml, "parse_toml",
        "except RecursionError:", "except UnicodeError:", ("roster", "secret key")),
    Bug("a number of 5,000 digits goes through the reader of TOML", toml, "parse_toml",
        "except ValueError:", "except UnicodeError:", ("run file", "roster")),
    Bug("bytes that are no text go through", files, "decoded", "except UnicodeDecodeError as error:",
        "except UnicodeTranslateError as error:", ("fault plan", "secret key")),
    Bug("the shape of a record is not checked: a list where a text is meant", records, "read_record",
        "check_shape(shape, value)", "pass", ("summary.json", "compare.json")),
    Bug("a kind of fault may be a list", plan, "_fault", "not isinstance(kind, str) or kind not in KINDS",
        "kind not in KINDS", ("fault plan",)),
    Bug("a fault needs no kind", plan, "_fault", 'if "kind" not in table:', "if False:", ("fault plan",)),
    Bug("a kind of topology may be a list", load, "_from_toml", "not isinstance(kind, str) or kind not in KINDS",
        "kind not in KINDS", ("topology",)),
    Bug("a refusal does not say which file it is about", load, "_from_toml",
        "raise ConfigError(error.problem, file=file, key=error.key,", "raise ConfigError(error.problem, key=error.key,",
        ("topology",)),
    Bug("a key in a secret file may be missing", secrets, "read_secret",
        "except UnusableError:", "except UnicodeError:", ("secret key",)),
    Bug("what is in a text acts on the terminal", printable, "printable",
        'return "".join(character if character.isprintable() else _visible(character) for character in text)',
        "return text", ("events.jsonl", "roster")),
    Bug("the reason of an event is told as it is written", story, "_told", "map(printable,", "map(str,",
        ("events.jsonl",)),
    Bug("content of a checkpoint may be of any shape", checkpoint_content, "refuse_malformed",
        "check_shape(_OlderContent", "(lambda kind, one: None)(_OlderContent", ("checkpoint, JSON",)),
    Bug("states of generators are not tried", checkpoint_content, "refuse_malformed",
        "            attempt()", "            pass", ("checkpoint, JSON",)),
    Bug("tensors that are none go through", checkpoint_content, "read_tensors", "except Exception as error:",
        "except KeyError as error:", ("checkpoint, tensors",)),
    Bug("outputs that are none go through", records, "read_outputs", "except Exception as error:",
        "except MemoryError as error:", ("validation.safetensors",)),
)  # fmt: skip


def hunt(bug: Bug, seed: int = 0, budget: int = BUDGET) -> tuple[str, int, str] | None:
    """(kind of file, number of the mutant, what came out) of the first that shows the bug; None if none does."""
    with bug.planted():
        for kind in KINDS:
            if kind.name not in bug.kinds:
                continue
            for number in range(shares(budget)[kind.name]):
                try:
                    Fuzz(seed).run(kind, [number])
                except FoundError as found:
                    return kind.name, number, _in_short(str(found))
    return None


def _in_short(text: str) -> str:
    lines = [line for line in text.split("\n") if line and not line.startswith((" ", "b'", "Again", "Traceback"))]
    return lines[-1][:110].replace("|", "\\|")


def hunt_all(seed: int, result: Path | None, say: Callable[[str], None] = print) -> int:
    """Hunt them all; exit code 1 when one gets away."""
    rows, missed = [], 0
    for bug in BUGS:
        found = hunt(bug, seed)
        missed += found is None
        told = f"{found[0]} | {found[1]} | {found[2]}" if found else "**not found** | - | -"
        rows.append(f"| {bug.name} | `{bug.module.__name__}.{bug.function}` | {told} |")
        say(rows[-1])
    if result is not None:
        head = (
            "# Planted bugs of readers\n\n`python -m benchmarks.fuzz_files --planted --write`: each bug breaks one "
            f"line. The mutants are those of `--mutants {BUDGET} --seed {seed}`.\n\n"
            f"{len(rows) - missed} of {len(rows)} were found.\n\n"
            "| bug | where | found in | number of the mutant | what came out |\n| --- | --- | --- | ---: | --- |\n"
        )
        result.write_text(head + "\n".join(rows) + "\n", encoding="utf-8")
    return 1 if missed else 0
