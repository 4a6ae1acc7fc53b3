"""A strategy of fewer than 60 lines, written as CONTRIBUTING.md says, keeps what every strategy promises."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gossipdistill.strategies import STRATEGIES

from . import elastic_pull, test_contract

LIKE_IT = "gossip_averaging"
"""A strategy of the product that publishes and needs the same: the new one gets the same cases."""


def cases() -> Iterator[tuple[Callable[..., None], dict[str, Any]]]:
    """The contract's tests with the new strategy in place of `LIKE_IT`."""
    for test in vars(test_contract).values():
        marks = [mark.args for mark in getattr(test, "pytestmark", ()) if mark.name == "parametrize"]
        if not any(names == "name" and LIKE_IT in values for names, values in marks):
            continue
        others = [[(names, value) for value in values] for names, values in marks if names != "name"]
        for chosen in itertools.product(*others):
            yield test, {"name": elastic_pull.ElasticPull.name} | dict(chosen)


CASES = list(cases())


@pytest.mark.parametrize(("test", "given"), CASES, ids=lambda part: getattr(part, "__name__", "")[5:])
def test_it_keeps_the_contract(
    test: Callable[..., None], given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(STRATEGIES, elastic_pull.ElasticPull.name, elastic_pull.ElasticPull)
    test(**given)


def test_it_is_short_and_the_contract_is_long() -> None:
    assert len(inspect.getsource(elastic_pull).splitlines()) < 60
    assert len({test.__name__ for test, _ in CASES}) >= 10
