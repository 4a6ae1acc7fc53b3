"""Where the parts of a driver say what happened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gossipdistill.events import Event, EventKind
from gossipdistill.mailbox import Mailbox


@dataclass(frozen=True, slots=True)
class EventSink:
    """Events go to the learner's mailbox, with the time of the driver's clock."""

    mailbox: Mailbox
    clock: Callable[[], float]

    def tell(self, kind: EventKind, reason: str, name: str = "", **detail: str) -> None:
        """`name` is the peer that it is about, if it is about one."""
        self.mailbox.tell(None, [Event(kind, self.clock(), name, reason, {**detail})])
