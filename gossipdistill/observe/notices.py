"""Merges equal lines of several peers into one line with all their names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

HOLD_S = 0.3
"""A line waits this many seconds for other peers with the same line."""
AGAIN_AFTER_S = 10.0
"""A line that another peer repeats within this many seconds after it was shown is not shown again."""


class Notice(NamedTuple):
    """One line and the peers that sent it. `at_s` is the time (s) of the first, on the clock of its run; None for the
    reason that ended a peer."""

    at_s: float | None
    names: tuple[str, ...]
    line: str


@dataclass
class _Waiting:
    since_s: float
    at_s: float | None
    names: list[str]


@dataclass
class Notices:
    """Lines that wait to be shown. The caller passes the time, and prints what is `due`."""

    _waiting: dict[str, _Waiting] = field(default_factory=dict)
    _told: dict[str, tuple[float, frozenset[str]]] = field(default_factory=dict)

    def add(self, now_s: float, at_s: float | None, name: str, line: str) -> None:
        """Add a line of the peer `name`."""
        waiting = self._waiting.get(line)
        if waiting is not None:
            if name not in waiting.names:
                waiting.names.append(name)
            return
        told_s, names = self._told.get(line, (-AGAIN_AFTER_S, frozenset()))
        if now_s - told_s < AGAIN_AFTER_S and name not in names:
            self._told[line] = (told_s, names | {name})
            return
        self._waiting[line] = _Waiting(now_s, at_s, [name])

    def due(self, now_s: float) -> list[Notice]:
        """The lines that have waited long enough, in the order in which they were first added."""
        ready = {line: one for line, one in self._waiting.items() if now_s - one.since_s >= HOLD_S}
        self._waiting = {line: one for line, one in self._waiting.items() if line not in ready}
        self._told |= {line: (now_s, frozenset(one.names)) for line, one in ready.items()}
        return [Notice(one.at_s, tuple(one.names), line) for line, one in ready.items()]


def merged(said: Iterable[tuple[str, str]], everybody: int) -> list[str]:
    """Pairs (name, text) as lines `names: text`, each text once; "all peers" if all of more than two peers have it."""
    names: dict[str, list[str]] = {}
    for name, text in said:
        if name not in names.setdefault(text, []):
            names[text].append(name)
    return [f"{_who(of, everybody)}: {text}" for text, of in names.items()]


def _who(names: list[str], everybody: int) -> str:
    return f"all {everybody} peers" if len(names) == everybody > 2 else ", ".join(names)
