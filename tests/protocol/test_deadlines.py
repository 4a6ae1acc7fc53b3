"""Deadlines against a plain dictionary."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gossipdistill.protocol.deadlines import NEVER, Deadlines

acts = st.lists(
    st.one_of(
        st.tuples(st.sampled_from("abc"), st.sampled_from([1.0, 2.0, 3.0, 5.0, 8.0, NEVER])),
        st.tuples(st.just("pop"), st.sampled_from([1.0, 2.5, 6.0])),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(acts)
def test_the_earliest_is_known_and_what_is_due_comes_once(acts: list[tuple[str, float]]) -> None:
    deadlines: Deadlines[str] = Deadlines()
    plain: dict[str, float] = {}
    for what, at_s in acts:
        if what == "pop":
            due = deadlines.pop_due(at_s)
            assert sorted(due) == sorted(key for key, due_s in plain.items() if due_s <= at_s)
            assert due == sorted(due, key=lambda key: plain[key])
            plain = {key: due_s for key, due_s in plain.items() if due_s > at_s}
        else:
            deadlines.set(what, at_s)
            plain[what] = at_s
            plain = {key: due_s for key, due_s in plain.items() if due_s < NEVER}
        assert deadlines.next_s() == min(plain.values(), default=NEVER)


def test_a_deadline_that_moves_for_ever_takes_no_memory() -> None:
    deadlines: Deadlines[str] = Deadlines()
    for turn in range(10_000):
        deadlines.set("a", 2.0 + turn / 1000)
        deadlines.set("b", 1.0 + turn / 1000)
    assert len(deadlines._heap) <= 20
