"""The zoo: models that nobody thought of, under strategies in turn. All cells: `python -m benchmarks.zoo`."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import pytest
from torch import Tensor, nn

from benchmarks.zoo.__main__ import RESULT, table
from benchmarks.zoo.cells import run_cell
from benchmarks.zoo.kinds import KINDS
from gossipdistill.learning.shared_arrays import SharedArrays
from gossipdistill.learning.snapshot import load_arrays
from gossipdistill.strategies import STRATEGIES

PER_KIND = 2
"""Strategies of each kind; each strategy has its turn with several kinds."""
TURNS = itertools.cycle(STRATEGIES)
CHOSEN = [(kind, next(TURNS)) for kind in KINDS for _ in range(PER_KIND)]
ALWAYS = [
    (kind, strategy)
    for kind in ("tied", "complex parameters", "keeps activations", "old weight_norm", "observer", "large counters")
    for strategy in ("gossip_averaging", "codistill_checkpoints", "sgp")
]


@pytest.mark.parametrize(("kind", "strategy"), sorted({*CHOSEN, *ALWAYS}))
def test_it_works_or_is_refused_by_name(kind: str, strategy: str) -> None:
    assert run_cell(kind, strategy).split(":")[0] in ("works", "refused")


def test_every_strategy_has_its_turn_with_several_kinds() -> None:
    for strategy in STRATEGIES:
        assert len({kind for kind, one in CHOSEN if one == strategy}) >= 5, strategy


def test_the_written_table_has_every_cell_and_none_that_fails() -> None:
    text = RESULT.read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    assert rows[0] == "| model | " + " | ".join(STRATEGIES) + " |"
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows[1:]] == list(KINDS)
    assert all(row.count(" | ") == len(STRATEGIES) for row in rows)
    assert "FAILED" not in "\n".join(rows)


def test_a_table_says_what_fails() -> None:
    found = table({("plain", strategy): "FAILED: AssertionError: no" for strategy in STRATEGIES})
    assert "FAILED (1)" in found
    assert "1. FAILED: AssertionError: no" in found


# --- the zoo can fail: each of these faults was, or could be, in the package ----------------------------------------


def _apart(model: nn.Module) -> SharedArrays:
    """As if each name had memory of its own."""
    seen = SOUND(model)
    return replace(seen, names=(*seen.names, *seen.aliases), parameters=(*seen.parameters, *seen.aliases), aliases={})


def _everything(model: nn.Module) -> SharedArrays:
    """As if constants that are not finite could travel."""
    seen = SOUND(model)
    return replace(seen, names=(*seen.names, *seen.left_out), left_out={})


@contextmanager
def _one_mode(model: nn.Module) -> Iterator[None]:
    """As if all modules had the mode of the whole."""
    was = model.training
    model.eval()
    yield
    model.train(was)


def _without_counters(model: nn.Module, arrays: Mapping[str, Tensor]) -> None:
    load_arrays(model, {name: array for name, array in arrays.items() if array.is_floating_point()})


def _refusing_nothing(*about: object, **more: object) -> None:
    return None


SOUND = SharedArrays.of
FAULTS = {
    "tied weights are mixed once per name": (
        "tied",
        "gossip_averaging",
        "gossipdistill.learning.shared_arrays.SharedArrays.of",
        staticmethod(_apart),
    ),
    "a constant that is not finite turns gossip off": (
        "mask of -inf",
        "gossip_averaging",
        "gossipdistill.learning.shared_arrays.SharedArrays.of",
        staticmethod(_everything),
    ),
    "modes are put back for the whole model": (
        "frozen batch norm",
        "codistill_predictions",
        "gossipdistill.learning.learner.evaluating",
        _one_mode,
    ),
    "a live model is copied": (
        "keeps activations",
        "codistill_checkpoints",
        "gossipdistill.learning.model_teachers.frozen_clone",
        copy.deepcopy,
    ),
    "a teacher does not get whole numbers": (
        "large counters",
        "codistill_checkpoints",
        "gossipdistill.learning.model_teachers.load_arrays",
        _without_counters,
    ),
    "a newcomer does not get whole numbers": (
        "large counters",
        "sgp",
        "gossipdistill.training.joining.load_arrays",
        _without_counters,
    ),
    "nothing is refused": ("sparse buffer", "sgp", "gossipdistill.assembly.building.refuse_unfit", _refusing_nothing),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_zoo_finds(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, strategy, where, faulty = FAULTS[fault]
    assert run_cell(kind, strategy)
    monkeypatch.setattr(where, faulty)
    with pytest.raises(Exception):  # noqa: B017, PT011 - an assertion of the zoo, or whatever the fault leads to
        run_cell(kind, strategy)
