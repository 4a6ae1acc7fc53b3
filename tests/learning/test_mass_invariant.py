"""The one test of what mass keeps: the sum of x and of w, after each operation, in exact arithmetic."""

from __future__ import annotations

import math

import pytest

from experiments.mass.invariant import Books

OPERATIONS = 4_000


@pytest.mark.parametrize(
    ("seed", "stretches"), [(0, (1.0, 2.0, math.inf)), (1, (2.0,)), (2, (math.inf,))], ids=["mixed", "2", "inf"]
)
def test_the_sum_of_all_mass_is_what_was_brought_after_each_operation(seed: int, stretches: tuple[float, ...]) -> None:
    """A million of them: `python -m experiments.mass.invariant`."""
    books = Books(seed=seed, stretches=stretches)
    for number in range(OPERATIONS):
        books.operate()
        assert books.error <= 1e-12, f"after operation {number} of Books(seed={seed}, stretches={stretches})"
    assert books.counts["kill"] > 0


@pytest.mark.parametrize("spoilt", ["kappa", "residue", "weight"])
def test_it_is_found_when_something_is_lost(spoilt: str) -> None:
    """A planted fault: one peer's books are changed by a millionth of a millionth of what is usual, times ten."""
    books = Books(seed=3, stretches=(2.0,))
    for _ in range(50):
        books.operate()
    mass = books.masses[0]
    if spoilt == "kappa":
        mass.kappa *= 1.0 + 1e-11
    elif spoilt == "weight":
        mass.weight += 1e-11
    else:
        mass.q.write(slice(0, 1), mass.q.read(slice(0, 1)) + 1e-10)
    books._touch(0)
    books.operate()
    assert books.error > 1e-12
