"""A flood of events about one peer fills no log, and takes nothing from what is said of others."""

from __future__ import annotations

import json
from pathlib import Path

from gossipdistill.condensing import Condensed
from gossipdistill.events import Event, EventKind
from gossipdistill.limits import DEFAULT_LIMITS
from gossipdistill.mailbox import Mailbox
from gossipdistill.observe.recorder import FILE, Recorder

AT_ONCE = int(DEFAULT_LIMITS.events_at_once)


def event(at_s: float, peer: str = "eve", kind: EventKind = EventKind.RETURNED, reason: str = "restarted") -> Event:
    return Event(kind, at_s, peer, reason)


def flood(mailbox: Mailbox, per_s: int, seconds: float, look_every_s: float, began_s: float = 0.0) -> list[Event]:
    """What is told of so many events a second, looked at now and then."""
    told = []
    for look in range(round(seconds / look_every_s)):
        begin_s, count = began_s + look * look_every_s, round(per_s * look_every_s)
        mailbox.tell(None, [event(begin_s + number / per_s) for number in range(count)])
        told += mailbox.drain_events(begin_s + look_every_s)
    return told


def times(told: list[Event]) -> int:
    return sum(int(one.detail.get("times", 1)) for one in told)


def test_ten_seconds_of_fifteen_hundred_a_second_are_a_few_lines(tmp_path: Path) -> None:
    mailbox, records = Mailbox(), []
    recorder = Recorder(tmp_path, records.append, 0.0)
    told = flood(mailbox, 1500, 10.0, 0.02)
    told += mailbox.drain_events(float("inf"))
    for one in told:
        recorder.record(one)
    assert times(told) == 15_000
    assert len(told) <= AT_ONCE + 5
    assert (tmp_path / FILE).stat().st_size < 8_000
    lines = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()]
    assert "of these since the last one written" in lines[AT_ONCE]["reason"]
    assert lines[AT_ONCE]["detail"]["times"] > 1000
    assert len(records) == len(told)


def test_a_flood_of_a_day_is_a_few_kilobytes_an_hour() -> None:
    mailbox = Mailbox()
    told = flood(mailbox, 2, 86_400.0, 60.0)
    assert len(told) <= AT_ONCE + 86_400 / DEFAULT_LIMITS.events_again_s + 86_400 / 600 + 20
    hour = flood(mailbox, 2, 3600.0, 60.0, 86_400.0)
    assert sum(len(json.dumps([one.line(), one.detail])) for one in hour) < 10_000


def test_with_steps_of_a_minute_what_is_said_of_others_is_kept_and_in_order() -> None:
    mailbox = Mailbox()
    before, after = event(0.0, "ada", EventKind.JOINED), event(59.0, "ada", EventKind.DEAD)
    mailbox.tell(None, [before])
    mailbox.tell(None, [event(number / 150, kind=kind) for number in range(9000) for kind in list(EventKind)[:8]])
    mailbox.tell(None, [after])
    told = mailbox.drain_events(60.0)
    assert [one for one in told if one.peer == "ada"] == [before, after]
    assert len(told) <= 2 + 8 * (AT_ONCE + 1)
    assert times(told) == 2 + 8 * 9000


def test_what_is_seldom_passes_as_it_is_and_a_calm_gives_back_all() -> None:
    mailbox = Mailbox()
    seldom = [event(61.0 * number) for number in range(1000)]
    for one in seldom:
        mailbox.tell(None, [one])
    assert mailbox.drain_events() == seldom
    flood(mailbox, 1500, 10.0, 0.02, 1e6)
    mailbox.drain_events(float("inf"))
    calm = [event(2e6 + number) for number in range(AT_ONCE)]
    mailbox.tell(None, calm)
    assert mailbox.drain_events(2e6 + 100) == calm


def test_words_of_others_are_cut_and_names_are_bounded() -> None:
    limits = DEFAULT_LIMITS
    condensed = Condensed(limits, 10)
    condensed.add([event(1.0, reason="x" * 100_000)])
    (told,) = condensed.drain(1.0)
    assert len(told.reason) == 400
    condensed.add([event(2.0, f"n{number}") for number in range(limits.peers_max + 1000)])
    assert len(condensed._streams) == limits.peers_max
    assert len(condensed.drain(3.0)) == 10
