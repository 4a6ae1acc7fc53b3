"""The hallway between the training thread and the network thread: newest wins, and nothing newest is lost."""

from __future__ import annotations

import threading
from itertools import pairwise

from gossipdistill.events import Event, EventKind
from gossipdistill.ids import PeerName, Version
from gossipdistill.mailbox import Mailbox
from gossipdistill.messages import Arrival, Complaint, DeliveryClass, Neighbourhood, Parcel, Payload, Slot

ADA, BO, CY = PeerName("ada"), PeerName("bo"), PeerName("cy")


def parcel(step: int, *to: PeerName, topic: str = "x", key: str = "") -> Parcel:
    return Parcel(to or (BO,), topic, Payload((), b""), step, step, key=key)


def arrival(step: int, sender: PeerName = BO, topic: str = "x", key: str = "") -> Arrival:
    return Arrival(sender, topic, Version(1, step), step, step, Payload((), b""), 0.0, key)


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
    assert mailbox.progress() == (5, True)


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


def test_a_parcel_that_comes_home_does_not_replace_one_that_comes() -> None:
    """Both have number 7, mine and the neighbour's, and we were started in the same millisecond. Found by a storm."""
    mailbox = Mailbox()
    mass = [
        Arrival(BO, "m", Version(1, 7), 1, 1, Payload((), b""), 0.0, delivery=DeliveryClass.MASS, weight=w, home=home)
        for w, home in ((0.25, True), (0.5, False), (0.125, True))
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
        assert mailbox.post(Parcel((peer,), "m", Payload((), b""), 1, 1, delivery=delivery))
    mailbox.post(parcel(1, BO))
    to_bo, to_cy = Slot(BO, "m", ""), Slot(CY, "m", "")
    assert mailbox.unsettled() == {to_bo: 2, to_cy: 1}, "a state is never to be settled"
    mailbox.collect()
    mailbox.unsettled().clear()
    mailbox.free([to_bo, to_cy])
    assert mailbox.unsettled() == {to_bo: 1}, "collected is not settled"
