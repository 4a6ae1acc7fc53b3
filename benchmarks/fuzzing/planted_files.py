"""Planted bugs of readers: each breaks one line, and the fuzz of files must find it within its mutants.

A fuzzer that finds nothing may look at nothing. `python -m
benchmarks.fuzz_files --planted` hunts them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fuzz_files import FoundError, Fuzz, shares
from benchmarks.fuzzing.file_kinds import KINDS
from benchmarks.kit.planting import Bug
from gossipdistill import files, printable, toml
from gossipdistill.faults import plan
from gossipdistill.keys import secrets
from gossipdistill.learning import checkpoint_content
from gossipdistill.observe import outputs, record, story
from gossipdistill.topology import load

BUDGET = 100_000
"""Mutants of all kinds of files: a bug is looked for among those of the kinds that it may show in."""


@dataclass(frozen=True)
class ReaderBug(Bug):
    """A bug of what reads files."""

    kinds: tuple[str, ...]
    """The kinds of file in which it is looked for."""


BUGS = (
    ReaderBug(
        "a number of 5,000 digits goes through the reader of JSON",
        files,
        "except ValueError:",
        "except UnicodeError:",
        ("summary.json", "result.json"),
    ),
    ReaderBug(
        "lists without end go through the reader of JSON",
        files,
        "except RecursionError:",
        "except UnicodeError:",
        ("boots.json", "summary.json"),
    ),
    ReaderBug(
        "NaN is a number",
        files,
        "(text: str, nonfinite: bool = False",
        "(text: str, nonfinite: bool = True",
        ("summary.json", "config.json"),
    ),
    ReaderBug(
        "numbers are of any size, and may be infinite",
        files,
        "level, depth = [value], 0",
        "level, depth = [], 0",
        ("run file", "topology", "summary.json"),
    ),
    ReaderBug(
        "lists without end go through the reader of TOML",
        toml,
        "except RecursionError:",
        "except UnicodeError:",
        ("roster", "secret key"),
    ),
    ReaderBug(
        "a number of 5,000 digits goes through the reader of TOML",
        toml,
        "except ValueError:",
        "except UnicodeError:",
        ("run file", "roster"),
    ),
    ReaderBug(
        "bytes that are no text go through",
        files,
        "except UnicodeDecodeError as error:",
        "except UnicodeTranslateError as error:",
        ("fault plan", "secret key"),
    ),
    ReaderBug(
        "the shape of a record is not checked: a list where a text is meant",
        record,
        "check_shape(shape, read_object(path))",
        "shape.model_construct(**read_object(path))",
        ("summary.json", "compare.json"),
    ),
    ReaderBug(
        "a kind of fault may be a list",
        plan,
        "not isinstance(kind, str) or kind not in KINDS",
        "kind not in KINDS",
        ("fault plan",),
    ),
    ReaderBug("a fault needs no kind", plan, 'if "kind" not in table:', "if False:", ("fault plan",)),
    ReaderBug(
        "a kind of topology may be a list",
        load,
        "not isinstance(kind, str) or kind not in KINDS",
        "kind not in KINDS",
        ("topology",),
    ),
    ReaderBug(
        "a refusal does not say which file it is about",
        load,
        "raise ConfigError(error.problem, file=file, key=error.key,",
        "raise ConfigError(error.problem, key=error.key,",
        ("topology",),
    ),
    ReaderBug(
        "a key in a secret file may be missing",
        secrets,
        "parse_toml(text))\n    except UnusableError:",
        "parse_toml(text))\n    except UnicodeError:",
        ("secret key",),
    ),
    ReaderBug(
        "what is in a text acts on the terminal",
        printable,
        'return "".join(character if character.isprintable() else _visible(character) for character in text)',
        "return text",
        ("events.jsonl", "roster"),
    ),
    ReaderBug(
        "the reason of an event is told as it is written", story, "map(printable,", "map(str,", ("events.jsonl",)
    ),
    ReaderBug(
        "content of a checkpoint may be of any shape",
        checkpoint_content,
        "check_shape(_OlderContent",
        "(lambda kind, one: None)(_OlderContent",
        ("checkpoint, JSON",),
    ),
    ReaderBug(
        "states of generators are not tried",
        checkpoint_content,
        "            attempt()",
        "            pass",
        ("checkpoint, JSON",),
    ),
    ReaderBug(
        "tensors that are none go through",
        checkpoint_content,
        "return load(data)\n    except Exception as error:",
        "return load(data)\n    except KeyError as error:",
        ("checkpoint, tensors",),
    ),
    ReaderBug(
        "outputs that are none go through",
        outputs,
        "except Exception as error:",
        "except MemoryError as error:",
        ("validation.safetensors",),
    ),
)


def hunt(bug: ReaderBug, seed: int = 0, budget: int = BUDGET) -> tuple[str, int, str] | None:
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
        rows.append(f"| {bug.name} | `gossipdistill.{bug.place}` | {told} |")
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
