"""Names and numbers that every floor shares."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipdistill.ids import Version, is_peer_name, next_boot


@pytest.mark.parametrize("name", ["ada", "a", "0", "peer-13", "a.b_c-d", "a" * 64])
def test_what_may_be_a_name(name: str) -> None:
    assert is_peer_name(name)


@pytest.mark.parametrize("name", ["", "Ada", ".a", "-a", "_a", "a/b", "a b", "a\n", "ä", "a" * 65, "..", "../x"])
def test_what_may_not_be_a_name(name: str) -> None:
    assert not is_peer_name(name)


@given(st.floats(0, 4e9), st.integers(0, 2**53))
def test_a_boot_is_above_all_that_were_heard_and_follows_the_clock(wall_clock_s: float, highest: int) -> None:
    boot = next_boot(wall_clock_s, highest)
    assert boot > highest
    assert boot >= int(wall_clock_s * 1000)


def test_a_restarted_peer_is_always_newer() -> None:
    assert Version(2, 1) > Version(1, 10**9)
    assert Version(1, 2) > Version(1, 1)
