"""Rumours: what is told, how often, and what is kept of what has been replaced."""

from __future__ import annotations

from gossipdistill.ids import PeerName
from gossipdistill.presence import Claim, ClaimKind
from gossipdistill.protocol.piggyback import Piggyback


def claim(about: str, incarnation: int = 0) -> Claim:
    return Claim(PeerName(about), 1, incarnation, ClaimKind.SUSPECT, PeerName("ada"))


def test_what_has_been_told_least_goes_first_and_each_claim_so_often() -> None:
    dissemination = Piggyback()
    dissemination.tell(claim("bo"))
    assert dissemination.pick(1, 3) == (claim("bo"),)
    dissemination.tell(claim("cy"))
    told = [[one.name for one in dissemination.pick(1, 3)] for _ in range(6)]
    assert told == [["cy"], ["bo"], ["cy"], ["bo"], ["cy"], []]
    assert not dissemination


def test_of_two_claims_about_one_member_the_newer_alone_is_told() -> None:
    dissemination = Piggyback()
    dissemination.tell(claim("bo", 1))
    dissemination.tell(claim("cy"))
    dissemination.tell(claim("bo", 2))
    assert set(dissemination.pick(8, 1)) == {claim("bo", 2), claim("cy")}
    assert dissemination.pick(8, 1) == ()


def test_a_quarrel_about_one_member_keeps_no_more_than_its_last_word() -> None:
    """Accused and cleared thousands of times between two messages of mine, as in a storm."""
    dissemination = Piggyback()
    for other in "cy", "dee":
        dissemination.tell(claim(other))
    for number in range(10_000):
        dissemination.tell(claim("bo", number))
    assert len(dissemination._queue) <= 2 * len(dissemination) + 16
    picked = dissemination.pick(32, 3)
    assert set(picked) == {claim("bo", 9999), claim("cy"), claim("dee")}
    assert len(picked) == 3
