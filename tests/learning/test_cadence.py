"""When a peer publishes."""

from __future__ import annotations

from gossipdistill.learning.cadence import Cadence


def test_the_tighter_of_period_and_cap_holds() -> None:
    steps, second = Cadence(5, 0.0), Cadence(1, 10.0)
    assert [step for step in range(1, 21) if steps.due(step, 0.01 * step)] == [5, 10, 15, 20]
    assert sum(second.due(step, 0.01 * step) for step in range(1, 201)) == 20


def test_what_is_pressed_for_takes_no_exchange_and_no_number() -> None:
    plain, pressed = Cadence(5, 10.0), Cadence(5, 10.0)
    numbers: dict[str, list[int]] = {"plain": [], "pressed": []}
    for step in range(1, 101):
        now = 0.06 * step
        if plain.due(step, now):
            numbers["plain"].append(step)
        if pressed.due(step, now):
            numbers["pressed"].append(step)
        else:
            pressed.may_press(now)
    assert numbers["plain"] == numbers["pressed"]
    assert plain.exchanges == pressed.exchanges == 20
    assert pressed.presses > 20


def test_pressing_does_not_exceed_the_cap_in_the_mean_and_none_catches_up_after_a_pause() -> None:
    cadence = Cadence(7, 10.0)
    times = [0.01 * step for step in range(1, 1001)] + [20.0 + 0.01 * step for step in range(1, 1001)]
    told = [now for step, now in enumerate(times, start=1) if cadence.due(step, now) or cadence.may_press(now)]
    for begin in range(0, 28):
        assert sum(begin <= now < begin + 2 for now in told) <= 21
    assert len(told) >= 190


def test_without_a_cap_it_is_pressed_for_at_each_step() -> None:
    cadence = Cadence(10, 0.0)
    assert sum(cadence.due(step, 0.0) or cadence.may_press(0.0) for step in range(1, 101)) == 100
    assert (cadence.exchanges, cadence.presses) == (10, 90)
