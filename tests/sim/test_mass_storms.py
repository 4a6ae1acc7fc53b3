"""Storms in which a member cheats with mass: nothing is violated, and the checkers would see it."""

from __future__ import annotations

import pytest

from benchmarks.mass_storms import STRATEGIES, blow, mass_storm_of
from benchmarks.planted_bugs import BUGS, StormBug, hunt
from gossipdistill.sim.cheat import Trick

_SEEDS = range(8)
_CAUGHT_IN = {
    "the size of what comes is not judged": 1,
    "the weight of a parcel is not bounded": 0,
    "who never gives is given for ever": 2,
    "starts are believed without end": 11,
}
"""A seed for each planted bug, so that the hunt is short."""


@pytest.mark.parametrize("seed", _SEEDS)
def test_no_checker_finds_anything_while_a_member_cheats_with_mass(seed: int) -> None:
    violations = blow(mass_storm_of(seed))
    assert not violations, (mass_storm_of(seed), violations[0])


def test_every_trick_is_played_at_every_strategy() -> None:
    storms = [mass_storm_of(seed) for seed in range(100)]
    assert {storm.trick for storm in storms} == set(Trick)
    assert {storm.trick for storm in storms[: len(_SEEDS)]} == set(Trick)
    assert {storm.strategy for storm in storms} == set(STRATEGIES)


@pytest.mark.parametrize("bug", [bug for bug in BUGS if bug.by_mass], ids=lambda bug: bug.name)
def test_a_bug_in_what_is_done_about_it_is_caught(bug: StormBug) -> None:
    caught = hunt(bug, storms=2, first_seed=_CAUGHT_IN[bug.name])
    assert caught is not None
