"""Callers with unknown keys, in a run with a join secret: whose messages are judged first. A value machine.

Rules of this file
1. A new key is let in, however many came before it; so no number of them keeps out the one that has the secret.
2. Places are few. A new key takes one; a key whose proof was wrong loses its place first, then the oldest of the
   address with the most. So a flood from one address displaces its own keys, and not those of others.
3. The first few messages of a key that has a place are judged before anything that is counted against all strangers
   together: the proof is among them. Each further message counts against the rate limit of strangers.
4. A key whose proof was wrong is not let in again while it is remembered.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

_WORDS = 4
"""This many messages of one key are judged first: a record, its greeting, and the same again."""


@dataclass(slots=True)
class Place:
    """The place of one key. `since_s` is the time when it was let in, `words` the number of its messages that were
    judged, `failed` says whether one was a wrong proof."""

    host: str
    since_s: float
    words: int = 0
    failed: bool = False


@dataclass(slots=True)
class Newcomers:
    """Places by key, the oldest first. With `places_max` = 0 enrolment is off."""

    places_max: int = 0
    place_s: float = 30.0
    """A key may keep its place for this many seconds."""
    by_key: dict[str, Place] = field(default_factory=dict)
    displaced: int = 0
    """The number of keys that lost their place to another before their time."""

    def let_in(self, key: str, host: str, now: float) -> bool:
        """Whether an unknown key from this IP address may send a message."""
        if not self.places_max:
            return False
        place = self.by_key.get(key)
        if place is not None and now - place.since_s <= self.place_s:
            return not place.failed
        self._forget(now)
        if len(self.by_key) >= self.places_max:
            del self.by_key[self._least()]
            self.displaced += 1
        self.by_key[key] = Place(host, now)
        return True

    def is_heard_first(self, key: str) -> bool:
        """Whether a message under this key is judged at once; it then counts as one of the few."""
        place = self.by_key.get(key)
        if place is None or place.failed or place.words >= _WORDS:
            return False
        place.words += 1
        return True

    def failed(self, key: str) -> None:
        """Note that the key sent no valid proof."""
        place = self.by_key.get(key)
        if place is not None:
            place.failed = True

    def enrolled(self, key: str) -> None:
        """Note that the key is enrolled."""
        self.by_key.pop(key, None)

    def _forget(self, now: float) -> None:
        for key, place in list(self.by_key.items()):
            if now - place.since_s <= self.place_s:
                break
            del self.by_key[key]

    def _least(self) -> str:
        """The key that loses its place to the next one."""
        failed = next((key for key, place in self.by_key.items() if place.failed), None)
        if failed is not None:
            return failed
        host = Counter(place.host for place in self.by_key.values()).most_common(1)[0][0]
        return next(key for key, place in self.by_key.items() if place.host == host)
