"""What several peers say alike is told once, with all their names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

HOLD_S = 0.3
"""How long a line waits for other peers that say the same."""
AGAIN_AFTER_S = 10.0
"""What another peer repeats within this time after it was told is not told again."""


class Notice(NamedTuple):
    """One line and the peers that said it; `at_s` is when the first did, on the clock of its run, and None for the
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
    """Lines on their way to the user. The owner passes the time, and prints what is `due`."""

    _waiting: dict[str, _Waiting] = field(default_factory=dict)
    _told: dict[str, tuple[float, frozenset[str]]] = field(default_factory=dict)

    def add(self, now_s: float, at_s: float | None, name: str, line: str) -> None:
        """The peer `name` says this line."""
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
        """What has waited long enough, in the order in which it was first said."""
        ready = {line: one for line, one in self._waiting.items() if now_s - one.since_s >= HOLD_S}
        self._waiting = {line: one for line, one in self._waiting.items() if line not in ready}
        self._told |= {line: (now_s, frozenset(one.names)) for line, one in ready.items()}
        return [Notice(one.at_s, tuple(one.names), line) for line, one in ready.items()]


def merged(said: Iterable[tuple[str, str]], everybody: int) -> list[str]:
    """Pairs (name, text) as lines `names: text`, each text once; "all peers" where all of more than two say it."""
    names: dict[str, list[str]] = {}
    for name, text in said:
        if name not in names.setdefault(text, []):
            names[text].append(name)
    return [f"{_who(of, everybody)}: {text}" for text, of in names.items()]


def _who(names: list[str], everybody: int) -> str:
    return f"all {everybody} peers" if len(names) == everybody > 2 else ", ".join(names)
