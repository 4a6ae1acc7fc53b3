"""What is seen of a run while it goes on: what is waited for, how long it has taken, how long it still takes."""

from __future__ import annotations

import io
from contextlib import suppress
from typing import Any

import pytest
from rich.console import Console

from gossipdistill.observe.busy import busy
from gossipdistill.observe.clock_words import clock_words, left_s
from gossipdistill.observe.display import Display
from gossipdistill.observe.told import decoded as told

PROGRESS: dict[str, Any] = {
    "type": "progress",
    "step": 150,
    "share": 0.5,
    "elapsed_s": 7.0,
    "left_s": 8.0,
    "steps_per_s": 21.4,
    "loss": 0.25,
    "exchanges": 12,
    "alive": 2,
    "expected": 2,
}
SEEN = {"val_accuracy": 0.871, "val_loss": 0.4, "val_rows": 128, "val_step": 140}


class Screen:
    """A display on a terminal of this width, or on none, whose clock stands still unless told."""

    def __init__(self, width: int = 120, terminal: bool = True) -> None:
        self.now_s, self.width = 100.0, width
        self.console = Console(file=io.StringIO(), width=width, height=40, force_terminal=terminal, highlight=False)
        self.display = Display(self.console, "first-light: two peers", clock=lambda: self.now_s)

    def lines(self) -> list[str]:
        console = Console(file=io.StringIO(), width=self.width, height=40)
        console.print(self.display)
        return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]

    def said(self) -> list[str]:
        return self.console.file.getvalue().splitlines()  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("width", [80, 100, 120])
def test_newcomer_16_elapsed_left_and_accuracy_are_shown(width: int) -> None:
    screen = Screen(width)
    for name, pid in (("ada", 11), ("bo", 12)):
        screen.display(name, told({"type": "started", "pid": pid}))
        screen.display(name, told(PROGRESS | SEEN | ({"left_s": 63.0} if name == "bo" else {})))
    screen.now_s = 112.0
    title, times, head, ada, bo = screen.lines()
    assert title == "first-light: two peers"
    assert times == "0:12 since the start, 0:07 of training, about 1:03 left"  # of the last one
    assert "accuracy" in head.split()
    assert head.split()[-1] == "left"
    assert "~87 %" in ada
    assert ada.endswith("0:08")
    assert bo.endswith("1:03")
    assert max(map(len, screen.lines())) <= width


def test_newcomer_16_a_task_without_accuracy_shows_its_validation_loss() -> None:
    screen = Screen()
    screen.display("ada", told(PROGRESS | SEEN | {"val_accuracy": None}))
    _, _, head, ada = screen.lines()
    assert "val. loss" in head
    assert "accuracy" not in head
    assert "~0.400" in ada


def test_before_the_first_look_nothing_is_claimed() -> None:
    screen = Screen()
    screen.display("ada", told(PROGRESS | {"left_s": None}))
    _, times, _, ada = screen.lines()
    assert "%" not in ada
    assert times.endswith("the end is not known yet")


def test_newcomer_16_starting_says_what_it_waits_for() -> None:
    screen = Screen()
    for name in ("ada", "bo", "cy"):
        screen.display(name, told({"type": "started", "pid": 7}))
    screen.display("ada", told({"type": "phase", "text": "importing torch"}))
    screen.display("bo", told({"type": "phase", "text": "reading the data of cifar10"}))
    screen.display("cy", told({"type": "ready"}))
    screen.now_s = 103.0
    _, times, _, ada, bo, cy = screen.lines()
    assert times == "starting for 0:03"
    assert "importing torch" in ada
    assert "reading the data of cifar10" in bo
    assert "ready, waits for ada, bo" in cy
    screen.display(
        "ada", told({"type": "waiting", "text": "1 of 3 peers here; waiting 50 s more for dee", "for": "dee"})
    )
    assert "waits for dee" in screen.lines()[3]


def test_newcomer_16_without_a_terminal_there_is_a_line_every_five_seconds_and_no_more() -> None:
    screen = Screen(terminal=False)
    screen.display("ada", told({"type": "started", "pid": 7}))
    screen.display("ada", told({"type": "phase", "text": "importing torch"}))
    screen.now_s += 5.0
    screen.display.say_progress()
    assert screen.said()[-1] == "0:05 since the start: ada: importing torch"
    before = len(screen.said())
    for _ in range(40):  # ten seconds of records
        screen.now_s += 0.25
        screen.display("ada", told(PROGRESS | SEEN))
    lines = screen.said()[before:]
    assert (
        lines
        == [
            "ada: step 150 (50 %), 21.4 steps/s, loss 0.250, accuracy ~87 %, 12 exchanges, 2 of 2 peers; "
            "0:07 of training, about 0:08 left"
        ]
        * 2
    )


def test_newcomer_16_waiting_is_said_when_it_changes_and_now_and_then() -> None:
    screen = Screen(terminal=False)
    for second in range(12):
        names = "bo" if second >= 3 else "bo, cy"
        text = f"1 of 3 peers here; waiting {60 - second} s more for {names}"
        screen.display("ada", told({"type": "waiting", "text": text, "for": names}))
        screen.now_s += 1.0
    assert [line.split("waiting ")[1] for line in screen.said()] == [
        "60 s more for bo, cy",
        "57 s more for bo",
        "52 s more for bo",
    ]


def test_newcomer_16_many_peers_are_one_line() -> None:
    screen = Screen(terminal=False)
    for number in range(20):
        screen.display(f"peer-{number}", told(PROGRESS | {"share": 0.5 - number / 100}))
    screen.now_s += 6.0
    screen.display.say_progress()
    (line,) = screen.said()
    assert line.startswith("20 peers train; the last of them, peer-19: step 150 (31 %)")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0, "0:00"), (7.4, "0:07"), (59.6, "1:00"), (725, "12:05"), (7389, "2:03:09"), (-3, "0:00")],
)
def test_lengths_of_time(seconds: float, words: str) -> None:
    assert clock_words(seconds) == words


@pytest.mark.parametrize(
    ("steps_left", "pace", "seconds_left", "wanted"),
    [
        (100, 10.0, None, 10.0),
        (100, 10.0, 4.0, 4.0),
        (100, 50.0, 4.0, 2.0),
        (None, 10.0, 4.0, 4.0),
        (100, 0.0, None, None),
        (100, 0.0, 4.0, 4.0),
        (None, 10.0, -1.0, 0.0),
    ],
)
def test_the_nearer_limit_counts(
    steps_left: int | None, pace: float, seconds_left: float | None, wanted: float | None
) -> None:
    assert left_s(steps_left, pace, seconds_left) == wanted


def test_newcomer_16_what_is_done_before_is_one_line_that_goes_again() -> None:
    console = Console(file=io.StringIO(), width=40, force_terminal=True)
    with suppress(ValueError), busy(console, "importing torch") as say:
        say("reading " + "x" * 100)
        raise ValueError("it goes as well when something breaks")
    first, second, last = console.file.getvalue().split("\r\x1b[K")[1:]  # type: ignore[attr-defined]
    assert first == "importing torch ..."
    assert second.startswith("reading xx")
    assert len(second) < 40
    assert last == ""
    plain = Console(file=io.StringIO(), width=40)
    with busy(plain, "importing torch") as say:
        say("reading")
    assert plain.file.getvalue() == ""  # type: ignore[attr-defined]


def test_what_a_worker_says_of_its_phase_is_neither_markup_nor_control() -> None:
    screen = Screen()
    screen.display("ada", told({"type": "phase", "text": "reading the data of [red]x\x1b[31m\n"}))
    _, _, _, ada = screen.lines()
    assert "of [red]x" in ada
    assert "\x1b" not in ada
