"""A few hundred mutated files into each reader; and that the fuzz finds what is planted."""

from __future__ import annotations

import random

import pytest

from benchmarks.fuzz_files import PAST_MIN, FoundError, Fuzz, shares
from benchmarks.fuzzing.file_kinds import KINDS, Kind
from benchmarks.fuzzing.file_mutator import Spoiler
from benchmarks.fuzzing.planted_files import BUGS, ReaderBug, hunt

MUTANTS = 150
"""Of each kind. A failure says the command that shows it again."""
QUICK = (
    "a kind of topology may be a list",
    "a key in a secret file may be missing",
    "NaN is a number",
    "the shape of a record is not checked: a list where a text is meant",
    "the reason of an event is told as it is written",
    "states of generators are not tried",
)


@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
def test_no_reader_raises_anything_but_a_refusal(kind: Kind) -> None:
    fuzz = Fuzz(0)
    fuzz.run(kind, range(MUTANTS))
    counted = fuzz.counts[kind.name]
    assert counted["mutants"] == MUTANTS == counted["read"] + counted["refused"]
    assert counted["read"]  # a reader that refuses everything would pass as well
    assert counted["past"] >= (PAST_MIN * MUTANTS if kind.name != "idx file" else 1)


def test_a_mutant_is_what_its_kind_seed_and_number_say() -> None:
    for kind in KINDS:
        one, same, other = (kind.make(Spoiler(random.Random(text))) for text in ("a", "a", "b"))
        assert one == same
        assert one != other or kind.name in ("boots.json", "idx file")
    counted = shares(100_000)
    assert sum(counted.values()) >= 100_000
    assert set(counted) == {kind.name for kind in KINDS}


@pytest.mark.parametrize("bug", [bug for bug in BUGS if bug.name in QUICK], ids=lambda bug: bug.name)
def test_planted_bugs_are_found(bug: ReaderBug) -> None:
    assert hunt(bug) is not None


def test_what_is_found_says_how_to_see_it_again() -> None:
    bug = next(bug for bug in BUGS if bug.name.startswith("a kind of topology"))
    kind = next(kind for kind in KINDS if kind.name == "topology")
    with bug.planted(), pytest.raises(FoundError) as caught:
        Fuzz(0).run(kind, range(1000))
    *_, again = str(caught.value).split("\n")
    number = int(again.rpartition(" ")[2])
    assert again == f'Again with: python -m benchmarks.fuzz_files --only "topology" --seed 0 --number {number}'
    with bug.planted(), pytest.raises(FoundError):
        Fuzz(0).run(kind, [number])
    Fuzz(0).run(kind, [number])
