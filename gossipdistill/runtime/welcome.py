"""Whether the others take this process in, and what proves that it has been replaced.

No word of one other ends a peer: it goes on as long as one takes it in, and it ends for want of company only when most
of those whom it knows have refused it, and nobody has come in between. A process that runs already, and exchanges, is
not ended by refusals at all: the one who came later goes.
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
"""From the first refusal on: so long others may still take it in."""
NAME_GRACE_S = 20.0
"""The same where its name is in use: the process that has it may be dead, which takes others a moment to find out."""
ANSWER_S = 1.5
"""How long a newer process of this name may take to answer, if there is one."""


class SupersededError(IdentityError):
    """A newer process of the same name has taken over; this one ends."""


class OutgrownError(IdentityError):
    """Before the first step: others know a higher boot of this name, and no process with it answers."""

    def __init__(self, boot: int) -> None:
        super().__init__(f"others know a later start of this peer, numbered {boot}, that does not answer")
        self.boot = boot


@dataclass(slots=True)
class Welcome:
    """What the events of one process `name` say of that. Times are monotonic seconds."""

    name: str
    boot: int
    outgrow_max: int = 0
    """Before the first step it may begin anew above a boot that others know, up to this one; 0: it does not."""
    accepted: bool = False
    refusals: dict[str, GossipdistillError] = field(default_factory=dict)
    _since_s: float = math.inf
    _grace_s: float = GRACE_S
    _outgrow: tuple[float, int] | None = None
    _superseded: SupersededError | None = None

    def hear(self, event: Event, now: float) -> None:
        """Whatever the protocol tells."""
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
        """Whether it is to be waited a moment before the first step: there may be a newer process of this name."""
        return self._outgrow is not None

    def end(self, others: Collection[str], training: bool, now: float) -> GossipdistillError | None:
        """Why this process ends now, if it does. `others` are those that are known by name, here or not."""
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
        # The one who came later goes: else a newcomer with a wrong setting could end a run that is under way.
        if not event.detail.get("i_am_newer") and not name_in_use:
            return
        self._since_s = min(self._since_s, now)
        self._grace_s = NAME_GRACE_S if name_in_use else self._grace_s
        self.refusals[event.peer] = _in_words(event, code, name_in_use)


def _in_words(event: Event, code: object, name_in_use: bool) -> GossipdistillError:
    if event.kind is EventKind.REFUSED:
        return ConfigError(event.reason)  # a release before wire version 3 could only say so in its own version
    text = f"refused by {event.peer}: {_from_my_side(event.reason, event.peer)}"
    if name_in_use or code == RefusalCode.ENROLMENT:
        return IdentityError(text)
    if "strategy:" not in event.reason and ("model:" in event.reason or "initial weights:" in event.reason):
        return NeedsError(text)
    return ConfigError(text)


def _from_my_side(reason: str, other: str) -> str:
    """A refusal speaks of "here" and "there" as its sender sees them: name the two instead. Without a roster the place
    of a peer is its shard."""
    reason = re.sub(
        r"^place (\d+/(\d+)) is (.*)'s$", r"shard \1 is \3's already; give this peer another: --shard K/\2", reason
    )
    reason = re.sub(
        r"^place (\d+/(\d+)) does not exist$", r"there are \2 shards, and \1 is none of them: --shard K/\2", reason
    )
    return re.sub(r"(: [^;]*?) here, ([^;]*?) there", rf"\1 at {other}, \2 at this peer", reason)
