"""The event sink of the parts of a driver."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gossipdistill.events import Event, EventKind
from gossipdistill.mailbox import Mailbox


@dataclass(frozen=True, slots=True)
class EventSink:
    """Sends events to the learner's mailbox, with the time of the driver's clock."""

    mailbox: Mailbox
    clock: Callable[[], float]

    def tell(self, kind: EventKind, reason: str, name: str = "", **detail: str) -> None:
        """Send an event; `name` is the peer that it is about, if any."""
        self.mailbox.tell(None, [Event(kind, self.clock(), name, reason, {**detail})])
