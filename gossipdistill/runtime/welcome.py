"""Decides whether the others accept this process, and whether a newer process has replaced it.

A refusal by one peer does not end a process. It goes on as long as one peer accepts it. It ends only when most of the
peers that it knows have refused it and none has accepted it meanwhile. Refusals never end a process that already trains
and exchanges: the later process ends.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import dataclass, field

from gossipdistill.errors import ConfigError, GossipdistillError, IdentityError, NeedsError
from gossipdistill.events import Event, EventKind
from gossipdistill.presence import RefusalCode

GRACE_S = 2.0
"""After the first refusal, others have this many seconds to accept it."""
NAME_GRACE_S = 20.0
"""The same in seconds where its name is in use: the process that has the name may be dead, which others detect only
later."""
ANSWER_S = 1.5
"""A newer process of this name, if there is one, has this many seconds to answer."""


class SupersededError(IdentityError):
    """A newer process of the same name has taken over; this one ends."""


class OutgrownError(IdentityError):
    """Raised before the first step: others know a higher boot number of this name, and no process with it answers."""

    def __init__(self, boot: int) -> None:
        super().__init__(f"others know a later start of this peer, numbered {boot}, that does not answer")
        self.boot = boot


@dataclass(slots=True)
class Welcome:
    """Follows the events of the process `name`. Times are monotonic seconds."""

    name: str
    boot: int
    outgrow_max: int = 0
    """Before the first step, the process may begin again with a boot number above one that others know, if that is at
    most this; 0 means never."""
    accepted: bool = False
    refusals: dict[str, GossipdistillError] = field(default_factory=dict)
    _since_s: float = math.inf
    _grace_s: float = GRACE_S
    _outgrow: tuple[float, int] | None = None
    _superseded: SupersededError | None = None

    def hear(self, event: Event, now: float) -> None:
        """Take in an event of the protocol."""
        if event.kind is EventKind.JOINED:
            self.accepted = True
        elif event.kind is EventKind.SUPERSEDED:
            self._superseded = SupersededError(f"{self.name}: {event.reason}; this process ends")
        elif event.kind is EventKind.WARNING and event.detail.get("code") == RefusalCode.SUPERSEDED:
            newer = int(event.detail.get("newer_boot", 0))
            until_s, known = self._outgrow or (now + ANSWER_S, self.boot)
            if known < newer < self.outgrow_max:
                self._outgrow = (until_s, newer)
        elif event.kind in (EventKind.REFUSED_BY, EventKind.REFUSED) and not self.accepted:
            self._refused(event, now)

    def in_flight(self) -> bool:
        """Whether to wait before the first step, because there may be a newer process of this name."""
        return self._outgrow is not None

    def end(self, others: Collection[str], training: bool, now: float) -> GossipdistillError | None:
        """Why this process ends now; None if it goes on. `others` are the peers known by name, present or not."""
        if self._superseded is not None:
            return self._superseded
        if self._outgrow is not None and not training and now >= self._outgrow[0]:
            return OutgrownError(self._outgrow[1])
        if self.accepted or now < self._since_s + self._grace_s:
            return None
        known = set(others) | set(self.refusals)
        return next(iter(self.refusals.values())) if 2 * len(self.refusals) > len(known) else None

    def _refused(self, event: Event, now: float) -> None:
        code, name_in_use = event.detail.get("code"), bool(event.detail.get("name_in_use"))
        if event.kind is EventKind.REFUSED and code != RefusalCode.WIRE_VERSION:
            return
        # The later process ends: else a newcomer with a wrong setting could end a running one.
        if not event.detail.get("i_am_newer") and not name_in_use:
            return
        self._since_s = min(self._since_s, now)
        self._grace_s = NAME_GRACE_S if name_in_use else self._grace_s
        self.refusals[event.peer] = _in_words(event, code, name_in_use)


def _in_words(event: Event, code: object, name_in_use: bool) -> GossipdistillError:
    if event.kind is EventKind.REFUSED:
        return ConfigError(event.reason)  # releases before wire version 3 send it in a form that is unreadable here
    text = f"refused by {event.peer}: {_from_my_side(event.reason, event.peer)}"
    if name_in_use or code == RefusalCode.ENROLMENT:
        return IdentityError(text)
    if "strategy:" not in event.reason and ("model:" in event.reason or "initial weights:" in event.reason):
        return NeedsError(text)
    return ConfigError(text)


def _from_my_side(reason: str, other: str) -> str:
    """Replace "here" and "there", which a refusal uses from its sender's side, by names. Without a roster the place of
    a peer is its shard."""
    reason = re.sub(
        r"^place (\d+/(\d+)) is (.*)'s$", r"shard \1 is \3's already; give this peer another: --shard K/\2", reason
    )
    reason = re.sub(
        r"^place (\d+/(\d+)) does not exist$", r"there are \2 shards, and \1 is none of them: --shard K/\2", reason
    )
    return re.sub(r"(: [^;]*?) here, ([^;]*?) there", rf"\1 at {other}, \2 at this peer", reason)
