"""The hallway between the training thread and the network thread: newest wins, and nothing newest is lost."""

from __future__ import annotations

import threading
from dataclasses import replace
from itertools import pairwise

from gossipdistill.events import Event, EventKind
from gossipdistill.ids import PeerName, Version
from gossipdistill.limits import DEFAULT_LIMITS, Limits
from gossipdistill.mailbox import Mailbox
from gossipdistill.messages import (
    ArrayLayout,
    Arrival,
    Complaint,
    Content,
    DeliveryClass,
    Intake,
    Neighbourhood,
    Parcel,
    Payload,
    Returned,
    Slot,
)

ADA, BO, CY = PeerName("ada"), PeerName("bo"), PeerName("cy")


def parcel(step: int, *to: PeerName, topic: str = "x", key: str = "") -> Parcel:
    return Parcel(to or (BO,), Content(topic, Payload((), b""), step, step, key=key))


def arrival(step: int, sender: PeerName = BO, topic: str = "x", key: str = "") -> Arrival:
    return Arrival(sender, Version(1, step), Content(topic, Payload((), b""), step, step, key=key), 0.0)


def test_a_parcel_has_one_slot_per_recipient_topic_and_key_and_the_newest_wins() -> None:
    mailbox = Mailbox()
    mailbox.post(parcel(1, BO, CY))
    mailbox.post(parcel(2, BO))
    mailbox.post(parcel(3, BO, topic="y"))
    mailbox.post(parcel(4, BO, key="k"))
    parcels, taken, *_ = mailbox.collect()
    assert {(*slot, one.step) for slot, one in parcels} == {
        ("bo", "x", "", 2),
        ("cy", "x", "", 1),
        ("bo", "y", "", 3),
        ("bo", "x", "k", 4),
    }
    assert taken == []
    assert mailbox.overwritten == 1
    assert mailbox.collect() == ([], [], [], [])


# --- what waits of one sender ----------------------------------------------------------------------------------------

KIB = 1024
NARROW = Limits(sender_bytes_max=100 * KIB)


def heavy(number: int, size: int, sender: PeerName = BO) -> Arrival:
    """A state under a key of its own; what keeps it takes 2 KiB besides its body."""
    body = Payload((ArrayLayout("w", (size,), "int8", size),), bytes(size))
    return Arrival(sender, Version(1, number), Content("x", body, number, number, key=f"k{number}"), 0.0)


def test_of_one_sender_the_oldest_states_give_way_to_the_newest_and_of_others_none() -> None:
    mailbox = Mailbox(limits=NARROW)
    mailbox.deliver(heavy(0, 60 * KIB, CY))
    gave_way = [mailbox.deliver(heavy(number, 30 * KIB)) for number in range(1, 200)]
    assert gave_way == [False] * 3 + [True] * 196
    waiting = mailbox.waiting()
    assert [(one.peer, one.step) for one in waiting] == [(CY, 0), (BO, 197), (BO, 198), (BO, 199)]
    assert sum(one.payload.memory_bytes for one in waiting if one.peer == BO) <= NARROW.sender_bytes_max
    # What gave way counts as taken, so that what is announced after it is asked for.
    assert len(mailbox.collect().taken) == 196
    mailbox.take()
    assert [mailbox.deliver(heavy(number, 30 * KIB)) for number in range(200, 204)] == [False] * 3 + [True]


def test_a_state_that_is_larger_than_all_room_waits_alone() -> None:
    mailbox = Mailbox(limits=NARROW)
    assert not mailbox.deliver(heavy(1, 500 * KIB))
    assert mailbox.deliver(heavy(2, 500 * KIB))
    assert [one.step for one in mailbox.take()] == [2]


def test_a_newer_version_takes_the_room_of_the_older() -> None:
    mailbox = Mailbox(limits=NARROW)
    for step in range(1, 50):
        assert not mailbox.deliver(replace(heavy(1, 60 * KIB), version=Version(1, step)))
    assert [one.version.number for one in mailbox.take()] == [49]


def test_there_is_room_for_four_payloads_as_large_as_my_own() -> None:
    mailbox = Mailbox(limits=NARROW)
    large = Payload((), bytes(200 * KIB))
    mailbox.post(Parcel((BO,), Content("x", large, 1, 1)))
    assert not any(mailbox.deliver(heavy(number, 195 * KIB)) for number in range(1, 5))
    assert mailbox.deliver(heavy(5, 195 * KIB))


def test_many_arrays_without_bytes_take_room_too() -> None:
    mailbox = Mailbox(limits=NARROW)
    empty = Payload(tuple(ArrayLayout(f"w{n}", (0,), "int8", 0) for n in range(50)), b"")
    for number in range(1, 10):
        mailbox.deliver(Arrival(BO, Version(1, number), Content("x", empty, 1, 1, key=f"k{number}"), 0.0))
    assert len(mailbox.waiting()) == 1


def test_mass_never_gives_way_and_takes_no_room_of_states() -> None:
    mailbox = Mailbox(limits=NARROW)
    for number in range(1, 6):
        mailbox.deliver(heavy(number, 90 * KIB).with_content(delivery=DeliveryClass.MASS, topic="m", key=""))
    assert not mailbox.deliver(heavy(7, 90 * KIB))
    assert len(mailbox.take()) == 6


def test_a_learner_has_a_use_for_the_topics_of_its_strategy_for_what_it_posts_and_for_lanes_of_these() -> None:
    mailbox = Mailbox()
    assert mailbox.intake.knows("anything")
    mailbox.intake = Intake(frozenset({"mass"}), 8)
    mailbox.post(parcel(1, topic="own"))
    assert all(map(mailbox.intake.knows, ("mass", "mass.2", "mass.9", "own", "own.2")))
    assert not any(map(mailbox.intake.knows, ("", "mass.1", "mass.10", "mass.", "mass.2.2", ".2", "x", "mass.\u00b2")))
    assert mailbox.intake.largest == 8
    mailbox.post(Parcel((BO,), Content("own", Payload((), bytes(9)), 1, 1)))
    assert mailbox.intake == Intake(frozenset({"mass", "own"}), 9)


def test_the_network_hears_once_whose_payloads_were_refused() -> None:
    mailbox = Mailbox()
    mailbox.complain([Complaint(BO, "shape"), Complaint(CY, "not_finite")])
    assert mailbox.collect().complaints == [Complaint(BO, "shape"), Complaint(CY, "not_finite")]
    assert mailbox.collect().complaints == []


def test_arrivals_come_in_order_the_newest_of_each_slot_once() -> None:
    mailbox = Mailbox()
    for one in arrival(1, BO), arrival(2, CY), arrival(3, BO), arrival(4, BO, topic="y"), arrival(5, BO, key="k"):
        mailbox.deliver(one)
    assert [one.step for one in mailbox.take()] == [2, 3, 4, 5]
    assert mailbox.take() == []


def test_the_network_hears_once_which_slots_were_emptied() -> None:
    mailbox = Mailbox()
    mailbox.deliver(arrival(1, CY))
    mailbox.deliver(arrival(2, BO))
    assert mailbox.collect() == ([], [], [], [])
    mailbox.take()
    mailbox.take()
    assert mailbox.collect() == ([], [Slot(BO, "x", ""), Slot(CY, "x", "")], [], [])
    assert mailbox.collect() == ([], [], [], [])


def test_events_are_bounded_and_the_oldest_go_first() -> None:
    mailbox = Mailbox(events_kept_max=3)
    events = [Event(EventKind.WARNING, float(number), "", "") for number in range(5)]
    mailbox.tell(None, events)
    assert mailbox.drain_events() == events[2:]
    assert mailbox.drain_events() == []


def test_the_neighbourhood_is_the_last_that_was_told() -> None:
    mailbox = Mailbox()
    assert mailbox.neighbourhood() == Neighbourhood()
    told = Neighbourhood(expected=2, alive=frozenset({BO}))
    mailbox.tell(told, [])
    mailbox.tell(None, [])
    assert mailbox.neighbourhood() is told


def test_progress_wakes_the_network_only_when_training_ends() -> None:
    wakes: list[None] = []
    mailbox = Mailbox(wake=lambda: wakes.append(None))
    for step in range(5):
        mailbox.report_progress(step, done=False)
    assert not wakes
    mailbox.report_progress(5, done=True)
    mailbox.report_progress(5, done=True)
    assert len(wakes) == 1
    assert mailbox.progress == (5, True)


class WatchedLock:
    """A lock that knows whether it is held."""

    def __init__(self) -> None:
        self.held = False
        self.count = 0

    def __enter__(self) -> None:
        assert not self.held
        self.held = True
        self.count += 1

    def __exit__(self, *_: object) -> None:
        self.held = False


def test_the_wake_up_is_called_outside_the_lock_and_an_empty_inbox_takes_none() -> None:
    lock = WatchedLock()
    held: list[bool] = []
    mailbox = Mailbox(lock=lock, wake=lambda: held.append(lock.held))
    mailbox.take()
    assert lock.count == 0
    mailbox.post(parcel(1))
    mailbox.deliver(arrival(1))
    mailbox.take()
    assert held == [False]


def test_taking_wakes_the_network_only_when_it_waits_for_that() -> None:
    woken: list[bool] = []
    mailbox = Mailbox(wake=lambda: woken.append(True))
    assert not mailbox.await_taking(False)
    mailbox.deliver(arrival(1))
    mailbox.take()
    assert not woken
    assert mailbox.await_taking(True), "taken just before the asking"
    mailbox.collect()
    assert not mailbox.await_taking(True)
    mailbox.deliver(arrival(2))
    mailbox.take()
    assert woken == [True]


def test_between_two_threads_the_newest_is_never_lost() -> None:
    """A learner posts and takes, a network collects and delivers, each as fast as it can."""
    count = 20_000
    mailbox = Mailbox(lock=threading.Lock())
    collected: list[int] = []
    took: list[int] = []
    delivered = threading.Event()
    posted = threading.Event()

    def network() -> None:
        for step in range(1, count + 1):
            mailbox.deliver(arrival(step))
            collected.extend(one.step for _, one in mailbox.collect()[0])
        delivered.set()
        posted.wait(20.0)
        collected.extend(one.step for _, one in mailbox.collect()[0])

    thread = threading.Thread(target=network)
    thread.start()
    for step in range(1, count + 1):
        mailbox.post(parcel(step))
        took.extend(one.step for one in mailbox.take())
    posted.set()
    assert delivered.wait(20.0)
    took.extend(one.step for one in mailbox.take())
    thread.join(20.0)
    for seen in collected, took:
        assert seen[-1] == count
        assert all(older < newer for older, newer in pairwise(seen))
    assert len(collected) + mailbox.overwritten == count


def test_nothing_settled_wakes_nobody() -> None:
    woken: list[int] = []
    mailbox = Mailbox(wake=lambda: woken.append(1))
    mailbox.settle([])
    assert woken == []


def test_a_parcel_that_is_returned_does_not_replace_one_that_comes() -> None:
    """Both have number 7, mine and the neighbour's, and we were started in the same millisecond. Found by a storm."""
    mailbox = Mailbox()
    contents = [Content("m", Payload((), b""), 1, 1, "", DeliveryClass.MASS, weight) for weight in (0.25, 0.5, 0.125)]
    version = Version(1, 7)
    mass = [
        Returned(BO, version, contents[0], "refused"),
        Arrival(BO, version, contents[1], 0.0),
        Returned(BO, version, contents[2], "refused"),
    ]
    for one in mass:
        mailbox.deliver(one)
    assert mailbox.take() == mass


def test_observers_see_what_the_learner_has_not_taken_and_take_nothing_themselves() -> None:
    mailbox = Mailbox()
    for one in arrival(1, BO), arrival(2, CY), arrival(3, BO):
        mailbox.deliver(one)
    assert [one.step for one in mailbox.waiting()] == [2, 3], "a state that a newer one has replaced waits no more"
    mailbox.waiting().clear()
    assert [one.step for one in mailbox.take()] == [2, 3]
    assert mailbox.waiting() == []
    assert mailbox.collect().taken == [Slot(BO, "x", ""), Slot(CY, "x", "")]


def test_observers_see_how_many_parcels_of_a_link_are_unsettled_until_each_is_freed() -> None:
    mailbox = Mailbox()
    for peer, delivery in (BO, DeliveryClass.STREAM), (BO, DeliveryClass.STREAM), (CY, DeliveryClass.MASS):
        assert mailbox.post(Parcel((peer,), Content("m", Payload((), b""), 1, 1, delivery=delivery)))
    mailbox.post(parcel(1, BO))
    to_bo, to_cy = Slot(BO, "m", ""), Slot(CY, "m", "")
    assert mailbox.room.in_flight() == {to_bo: 2, to_cy: 1}, "a state is never to be settled"
    mailbox.collect()
    mailbox.room.in_flight().clear()
    mailbox.room.free([to_bo, to_cy])
    assert mailbox.room.in_flight() == {to_bo: 1}, "collected is not settled"


def test_to_a_peer_that_loses_messages_mass_goes_in_several_lanes_each_a_topic_of_its_own() -> None:
    mailbox, lanes = Mailbox(), DEFAULT_LIMITS.lanes_max
    bo, cy = PeerName("bo"), PeerName("cy")
    mailbox.tell(Neighbourhood(lossy=frozenset({bo})), [])
    parcels = [
        Parcel((bo,), Content("mass", Payload((), b""), n, n, "", DeliveryClass.MASS, 0.5)) for n in range(lanes)
    ]
    for parcel in parcels:
        assert bo not in mailbox.room.busy("mass", DeliveryClass.MASS)
        assert mailbox.post(parcel)
    assert mailbox.room.busy("mass", DeliveryClass.MASS) == {bo}
    assert not mailbox.post(parcels[0])
    topics = [slot.topic for slot, _ in mailbox.collect().parcels]
    assert topics == ["mass", "mass.2", "mass.3", "mass.4"]
    mailbox.room.free([Slot(bo, "mass.3", "")])
    assert mailbox.post(parcels[0])
    ((slot, parcel),) = mailbox.collect().parcels
    assert (slot.topic, parcel.topic) == ("mass.3", "mass.3")
    to_cy = Parcel((cy,), Content("mass", Payload((), b""), 1, 1, delivery=DeliveryClass.MASS, weight=0.5))
    assert mailbox.post(to_cy)
    assert mailbox.room.busy("mass", DeliveryClass.MASS) == {bo, cy}


def test_what_was_called_free_stays_free_until_it_is_asked_again() -> None:
    mailbox, bo = Mailbox(), PeerName("bo")
    parcel = Parcel((bo,), Content("mass", Payload((), b""), 1, 1, delivery=DeliveryClass.MASS, weight=0.5))
    mailbox.tell(Neighbourhood(lossy=frozenset({bo})), [])
    assert mailbox.post(parcel)
    assert not mailbox.room.busy("mass", DeliveryClass.MASS)
    mailbox.tell(Neighbourhood(), [])
    assert mailbox.post(parcel)
    assert mailbox.room.busy("mass", DeliveryClass.MASS) == {bo}
    assert not mailbox.post(parcel)


def test_of_large_payloads_there_is_one_lane() -> None:
    bo = PeerName("bo")
    mailbox = Mailbox(limits=Limits(lane_bytes_max=3))
    parcel = Parcel((bo,), Content("mass", Payload((), b"1234"), 1, 1, delivery=DeliveryClass.MASS, weight=0.5))
    mailbox.tell(Neighbourhood(lossy=frozenset({bo})), [])
    assert not mailbox.room.busy("mass", DeliveryClass.MASS)
    assert mailbox.post(parcel)
    assert mailbox.room.busy("mass", DeliveryClass.MASS) == {bo}
    assert not mailbox.post(parcel)
