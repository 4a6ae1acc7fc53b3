"""Mass and streams: once each, whatever the network does, and what becomes of them when somebody dies."""

from __future__ import annotations

import pytest

from gossipdistill.events import EventKind
from gossipdistill.messages import Consignment, Enquiry, Receipt, Settlement, Verdict

from .harness import World, value_of


@pytest.fixture
def world() -> World:
    world = World("ada", "bo", "cy")
    world.run(1.0)
    assert world.all_alive()
    return world


def settle(world: World, name: str, absorbed: bool, reason: str = "") -> None:
    process = world[name]
    last = next(arrival for arrival in reversed(process.arrivals) if not arrival.home)
    process.peer.settle(Settlement(last.sender, last.topic, last.version, absorbed, reason))
    world.run(0.0)
    world._pump(process)


def test_mass_arrives_once_with_its_weight_and_frees_its_link(world: World) -> None:
    world.consign("ada", "bo", 7, 0.25)
    world.run(0.1)
    (arrival,) = world["bo"].arrivals
    assert (value_of(arrival), arrival.weight, arrival.home) == (7, 0.25, False)
    assert len(world["ada"].freed) == 1
    assert not world["ada"].peer.unsettled()


@pytest.mark.parametrize("seed", range(20))
def test_mass_arrives_once_under_loss_duplication_and_reordering(world: World, seed: int) -> None:
    world.random.seed(seed)
    world.loss, world.duplication, world.delay_s = 0.5, 0.3, (0.0, 0.5)
    for value in range(1, 21):
        world.consign("ada", "bo", value, 1.0)
        while world["ada"].peer.unsettled():
            world.run(1.0)
            assert world.now < 2000.0
    assert world["bo"].values("ada") == list(range(1, 21)), f"seed {seed}"


def test_a_body_is_not_sent_again_once_it_is_known_to_be_held(world: World) -> None:
    world["bo"].learning = False
    world.consign("ada", "bo", 7, 0.25)
    world.run(30.0)
    assert len(world.said("ada", "bo", Consignment)) == 2  # the second was answered with "held"
    assert 3 <= len(world.said("ada", "bo", Enquiry)) <= 6  # ever more seldom
    settle(world, "bo", absorbed=True)
    world.run(0.1)
    assert not world["ada"].peer.unsettled()


def test_a_lost_receipt_is_given_again_and_the_mass_is_not(world: World) -> None:
    world.cut.add(("bo", "ada"))
    world.consign("ada", "bo", 7, 0.25)
    world.run(0.5)
    world.cut.clear()
    world.run(3.0)
    assert world["bo"].values("ada") == [7]
    assert [sent.message.verdict for sent in world.said("bo", "ada", Receipt)] == [Verdict.ABSORBED] * 2  # type: ignore[union-attr]
    assert not world["ada"].peer.unsettled()


def test_what_is_refused_goes_home_with_the_reason(world: World) -> None:
    world["bo"].learning = False
    world.consign("ada", "bo", 7, 0.25)
    world.run(0.1)
    settle(world, "bo", absorbed=False, reason="not finite")
    world.run(0.1)
    (home,) = world["ada"].arrivals
    assert home.home
    assert value_of(home) == 7
    assert home.weight == 0.25
    assert home.reason == "refused by bo: not finite"
    assert EventKind.CAME_HOME in world["ada"].kinds("bo")
    assert len(world["ada"].freed) == 1


def test_what_was_on_the_wire_to_a_dead_peer_is_parked_and_goes_on_when_the_same_process_is_back(world: World) -> None:
    world.cut_off("bo")
    world.consign("ada", "bo", 7, 0.25)
    world.run(20.0)
    assert EventKind.PARKED in world["ada"].kinds("bo")
    assert [one.parked for _, one in world["ada"].peer.unsettled()] == [True]
    assert world["ada"].freed == []
    assert world["ada"].arrivals == []
    world.cut.clear()
    world.run(5.0)
    assert world["bo"].values("ada") == [7]
    assert not world["ada"].peer.unsettled()
    assert world["ada"].peer.written_off == 0.0


def test_what_was_on_the_wire_to_a_process_that_has_ended_is_written_off_and_never_reclaimed(world: World) -> None:
    world.kill("bo")
    world.consign("ada", "bo", 7, 0.25)
    world.run(20.0)
    assert len(world["ada"].peer.unsettled()) == 1
    world.start("bo")
    world.run(3.0)
    assert world["bo"].arrivals == []
    assert world["ada"].arrivals == []
    assert world["ada"].peer.written_off == 0.25
    assert EventKind.WRITTEN_OFF in world["ada"].kinds("bo")
    assert len(world["ada"].freed) == 1
    world.consign("ada", "bo", 8, 0.125)
    world.run(0.5)
    assert world["bo"].values("ada") == [8]


def test_what_was_never_on_the_wire_goes_home_when_its_recipient_dies(world: World) -> None:
    world.kill("bo")
    world.run(2.5)  # suspect: nothing is sent to it any more
    world.consign("ada", "bo", 7, 0.25)
    assert not world.said("ada", "bo", Consignment)
    world.run(20.0)
    (home,) = world["ada"].arrivals
    assert home.home
    assert home.weight == 0.25
    assert "bo" in home.reason
    assert world["ada"].peer.written_off == 0.0


def test_what_was_on_the_wire_to_a_peer_that_leaves_is_written_off(world: World) -> None:
    world["bo"].learning = False
    world.consign("ada", "bo", 7, 0.25)
    world.run(0.1)
    world.leave("bo")
    world.run(0.5)
    assert world["ada"].peer.written_off == 0.25
    assert not world["ada"].peer.unsettled()


def test_a_payload_that_no_reader_would_accept_goes_home_at_once(world: World) -> None:
    world["ada"].peer.limits = world.limits
    limits = world.limits.__class__(payload_bytes_max=4)
    world["ada"].peer._consignments.limits = limits
    world.consign("ada", "bo", 7, 0.25)
    (home,) = world["ada"].arrivals
    assert home.home
    assert home.reason.startswith("not sent")
    assert len(world["ada"].freed) == 1


@pytest.mark.parametrize("seed", range(20))
def test_a_stream_arrives_in_order_two_at_a_time(world: World, seed: int) -> None:
    world.random.seed(seed)
    world.loss, world.duplication, world.delay_s = 0.3, 0.3, (0.0, 0.5)
    value = 0
    while value < 20:
        while len(world["ada"].peer.unsettled()) < 2 and value < 20:
            value += 1
            world.consign("ada", "bo", value, 0.0, stream=True)
        world.run(1.0)
    world.run(60.0)
    assert world["bo"].values("ada") == list(range(1, 21)), f"seed {seed}"


def test_a_stream_goes_on_after_frames_were_dropped_for_a_death_that_was_none(world: World) -> None:
    world.cut_off("bo")
    world.consign("ada", "bo", 1, 0.0, stream=True)
    world.consign("ada", "bo", 2, 0.0, stream=True)
    world.run(20.0)
    assert not world["ada"].peer.unsettled()
    assert len(world["ada"].freed) == 2
    world.cut.clear()
    world.run(5.0)
    world.consign("ada", "bo", 3, 0.0, stream=True)
    world.consign("ada", "bo", 4, 0.0, stream=True)
    world.run(1.0)
    assert world["bo"].values("ada") == [3, 4]
