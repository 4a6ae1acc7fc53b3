"""A socket that takes nothing, or loses its connection: what was not sent is tried again, or made good by the other
side."""

from __future__ import annotations

import pytest

from gossipdistill.events import EventKind
from gossipdistill.ids import PeerName
from gossipdistill.messages import (
    Announce,
    Confirm,
    Mode,
    ReliableMessage,
    State,
    Transmit,
    Want,
)

from .harness import World

PULL = Mode.PULL


def pair(**options: object) -> World:
    world = World("ada", "bo", **options)  # type: ignore[arg-type]
    world.run(1.0)
    assert world.all_alive()
    world.log.clear()
    return world


@pytest.mark.parametrize("mode", list(Mode))
def test_what_the_socket_does_not_take_is_tried_again_with_the_newest_ever_less_often(mode: Mode) -> None:
    world = pair()
    blocked: list[Transmit] = []
    fly = world._fly

    def full(transmit: Transmit) -> None:
        if isinstance(transmit.envelope.message, State | Announce):
            blocked.append(transmit)
            world["ada"].peer.not_sent(transmit, world.now)
        else:
            fly(transmit)

    world._fly = full  # type: ignore[method-assign]
    world.publish("ada", "bo", 1, mode)
    world.run(1.0)
    world.publish("ada", "bo", 2, mode)
    world.run(9.0)
    assert 10 <= len(blocked) <= 40
    warnings = [event for event in world["ada"].events if event.kind is EventKind.WARNING]
    if mode is Mode.PUSH:
        assert [(event.peer, event.reason[:24]) for event in warnings] == [("bo", "lives, but took no state")]
    world._fly = fly  # type: ignore[method-assign]
    world.run(1.0)
    assert world["bo"].values("ada") == [2]


@pytest.mark.parametrize("kind", [Confirm, Want])
def test_a_confirmation_or_wish_that_the_socket_does_not_take_is_made_good(kind: type) -> None:
    world = pair()
    fly, left = world._fly, [2]

    def full(transmit: Transmit) -> None:
        if isinstance(transmit.envelope.message, kind) and left[0]:
            left[0] -= 1
            world["bo"].peer.not_sent(transmit, world.now)
        else:
            fly(transmit)

    world._fly = full  # type: ignore[method-assign]
    world.publish("ada", "bo", 1, PULL)
    world.run(6.0)
    assert world["bo"].values("ada") == [1]
    world.publish("ada", "bo", 2, PULL)
    world.run(0.1)
    assert world["bo"].values("ada") == [1, 2]


@pytest.mark.parametrize("kind", ["push", "pull", "mass"])
@pytest.mark.parametrize("lost", [True, False], ids=["lost", "arrived"])
def test_what_may_be_lost_with_a_connection_is_said_again_at_once_and_delivered_once(kind: str, lost: bool) -> None:
    """Its own time-outs would be seconds away."""
    world = pair()
    fly = world._fly

    def torn(transmit: Transmit) -> None:
        if not (lost and isinstance(transmit.envelope.message, State | ReliableMessage)):
            fly(transmit)

    world._fly = torn  # type: ignore[method-assign]
    if kind == "mass":
        world.consign("ada", "bo", 7, 0.25)
    else:
        world.publish("ada", "bo", 7, Mode(kind))
    world.run(0.05)
    assert world["bo"].values("ada") == ([] if lost else [7])
    world._fly = fly  # type: ignore[method-assign]
    world["ada"].peer.connection_ended(PeerName("bo"), world.now)
    world._pump(world["ada"])
    world.run(0.05)
    assert world["bo"].values("ada") == [7]
    world.run(5.0)
    assert world["bo"].values("ada") == [7]
    assert not world["ada"].peer.reliable_messages.sender.in_flight()
