"""A member that greets without end costs a bounded share, and fills no log."""

from __future__ import annotations

import pytest

from gossipdistill.events import EventKind
from gossipdistill.ids import Boot
from gossipdistill.limits import DEFAULT_LIMITS
from gossipdistill.mailbox import Mailbox
from gossipdistill.messages import Envelope
from gossipdistill.presence import Address, Greeting

from .harness import FINGERPRINT, World, address_of

SECONDS, PER_S = 10, 1500
LOOKED_AT = DEFAULT_LIMITS.greetings_at_once_max + SECONDS * DEFAULT_LIMITS.greetings_per_s_max


def greet(world: World, name: str, boot: int, address: Address, place: int) -> None:
    """To ada, in the name of another."""
    greeting = Greeting(address, place, FINGERPRINT, (), reply_wanted=True)
    world.inject("ada", Envelope(world[name].peer.me.name, Boot(boot), "ada", 0, greeting))


def flood(world: World, address: Address) -> tuple[int, int]:
    """Fifteen thousand greetings of ever newer processes of cy; how many replies and events of ada came of it."""
    boot, ada = world["cy"].peer.me.boot, world["ada"]
    before, events = len(world.said("ada", "cy", Greeting)), len(ada.events)
    for number in range(SECONDS * PER_S):
        greet(world, "cy", boot + 1 + number, address, 2)
        if not number % 15:
            world.run(15 / PER_S)
    about = [event for event in ada.events[events:] if event.peer == "cy"]
    return len(world.said("ada", "cy", Greeting)) - before, len(about)


def test_a_member_that_starts_anew_for_ever_takes_a_parcel_with_each_start_that_is_believed() -> None:
    world = World("ada", "bo", "cy")
    world.run(1.0)
    ada, cy = world["ada"], world["cy"].peer.me
    world.kill("cy")
    greeting = Greeting(address_of(2), 2, FINGERPRINT, (), reply_wanted=True)
    for number in range(1, SECONDS * PER_S):
        world.inject("ada", Envelope(cy.name, Boot(cy.boot + number), "ada", ada.peer.me.boot, greeting))
        if ada.peer.view.is_alive(cy.name) and not ada.peer.reliable_messages.sender.in_flight():
            world.consign("ada", "cy", number, 0.1)
        if not number % 15:
            world.run(15 / PER_S)
    lost = [event for event in ada.events if event.kind is EventKind.WRITTEN_OFF]
    assert 3 <= len(lost) <= DEFAULT_LIMITS.starts_max + SECONDS / DEFAULT_LIMITS.start_again_s
    assert ada.peer.reliable_messages.sender.written_off == pytest.approx(0.1 * len(lost))
    assert ada.peer.scores.turned_away_in_words["cy: starts"] > 50


def test_a_restart_is_believed_at_once_and_one_after_many_within_the_bound() -> None:
    world = World("ada", "bo", "cy")
    world.run(1.0)
    waited_s = []
    for _ in range(6):
        world.kill("cy")
        world.start("cy")
        waited_s.append(0.0)
        while world["ada"].peer.view.boot_of(world["cy"].peer.me.name) != world["cy"].peer.me.boot:
            world.run(0.1)
            waited_s[-1] += 0.1
    assert max(waited_s[:3]) <= 0.3
    assert max(waited_s) <= DEFAULT_LIMITS.start_again_s + DEFAULT_LIMITS.greet_interval_max_s + 0.2


def test_greetings_of_ever_newer_processes_are_mostly_not_looked_at() -> None:
    world = World("ada", "bo", "cy")
    world.run(1.0)
    world.kill("cy")
    world.start("cy")
    replies, events = flood(world, address_of(2))
    assert events <= LOOKED_AT + 5
    assert replies <= 3 * LOOKED_AT
    assert world["ada"].peer.scores.turned_away_in_words["cy: greetings"] >= SECONDS * PER_S - LOOKED_AT
    mailbox = Mailbox()
    mailbox.tell(None, world["ada"].events)
    told = [event for event in mailbox.drain_events(world.now) if event.kind is EventKind.RETURNED]
    assert len(told) <= DEFAULT_LIMITS.events_at_once + 1
    assert world["ada"].peer.view.is_alive(world["bo"].peer.me.name)


def test_who_calls_from_elsewhere_takes_no_greeting_from_the_name_that_it_uses() -> None:
    world = World("ada", "bo", "cy")
    world.run(1.0)
    boot = world["cy"].peer.me.boot
    for number in range(500):
        greet(world, "cy", boot - 1, Address("10.0.0.9", 9000 + number % 7), 2)
    assert world["ada"].peer.scores.turned_away_in_words["cy: greetings"] >= 400
    world.kill("cy")
    world.run(5.0)
    world.start("cy")
    world.run(2.0)
    assert world["ada"].peer.view.is_alive(world["cy"].peer.me.name)
