"""What a scene needs of a network, whatever that network is; learners are mailboxes on all of them."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from gossipdistill.events import Event, EventKind
from gossipdistill.ids import PeerName
from gossipdistill.limits import Limits
from gossipdistill.mailbox import Mailbox
from gossipdistill.messages import (
    ArrayLayout,
    Arrival,
    Content,
    DeliveryClass,
    Mode,
    Parcel,
    Payload,
    Returned,
    Settlement,
)

LIMITS = Limits(
    probe_interval_s=0.2,
    probe_timeout_s=0.1,
    greet_interval_s=0.02,
    greet_interval_max_s=0.1,
    confirm_timeout_s=0.5,
    consign_timeout_s=0.3,
    flush_s=0.05,
    piece_bytes_max=64 * 1024,
)
NAMES = ("ada", "bo", "cy")
WITHIN_S = 10.0


def body_of(value: int, size: int) -> bytes:
    return value.to_bytes(4, "big") + random.Random(value).randbytes(size - 4)


class Learner:
    """The training side of one peer, as far as its mailbox goes. `refuses` is the reason why it takes no mass."""

    def __init__(self, mailbox: Mailbox) -> None:
        self.mailbox = mailbox
        self.refuses = ""
        self._events: list[Event] = []
        self._arrivals: list[Arrival] = []
        self.returned: list[Returned] = []

    def post(
        self,
        to: str,
        value: int,
        size: int = 8,
        mode: Mode = Mode.PUSH,
        delivery: DeliveryClass = DeliveryClass.STATE,
        weight: float = 0.0,
    ) -> bool:
        """A parcel of the topic that is called as its class."""
        payload = Payload((ArrayLayout("x", (size,), "raw", size),), body_of(value, size))
        content = Content(delivery.value, payload, value, value, "", delivery, weight)
        return self.mailbox.post(Parcel((PeerName(to),), content, mode))

    def arrivals(self) -> list[Arrival]:
        """Everything that came so far. What came is taken, and settled where that is wanted."""
        for received in self.mailbox.take():
            if isinstance(received, Returned):
                self.returned.append(received)
                continue
            self._arrivals.append(received)
            if received.delivery is not DeliveryClass.STATE:
                verdict = (not self.refuses, self.refuses)
                self.mailbox.settle([Settlement(received.sender, received.topic, received.version, *verdict)])
        return self._arrivals

    def values(self, sender: str) -> list[int]:
        """What came from this sender, after a look at each byte of it."""
        found = [one for one in self.arrivals() if one.sender == sender]
        assert all(bytes(one.payload.body) == body_of(one.step, one.payload.nbytes) for one in found)
        return [one.step for one in found]

    def events(self, about: str) -> list[Event]:
        """What the network said of this peer so far."""
        self._events += self.mailbox.drain_events()
        return [event for event in self._events if event.peer == about]

    def heard(self, kind: EventKind, about: str) -> list[str]:
        """The reasons of all events of this kind about this peer."""
        return [event.reason for event in self.events(about) if event.kind is kind]

    def sees(self, *others: str) -> bool:
        """Whether all of these are alive."""
        alive = self.mailbox.neighbourhood().alive
        return all(PeerName(other) in alive for other in others)


class Cluster(ABC):
    """Up to three peers, `NAMES`, and the network between them."""

    def __init__(self) -> None:
        self.learners: dict[str, Learner] = {}

    def __getitem__(self, name: str) -> Learner:
        return self.learners[name]

    @abstractmethod
    def start(self, name: str, boot: int = 1, run: str = "scene", reachable: bool = True) -> Learner:
        """A process begins, over whatever ran under that name."""

    @abstractmethod
    def kill(self, name: str) -> None:
        """A process ends without a last word."""

    @abstractmethod
    def leave(self, name: str, reason: str, crashed: bool = False) -> None:
        """A process says its last word and ends."""

    @abstractmethod
    def say(self, identity: str, to: str, frames: list[bytes]) -> None:
        """A connection of this routing id says something to the control socket of a peer."""

    @abstractmethod
    def until(self, holds: Callable[[], Any]) -> None:
        """Let time pass until it holds; at most `WITHIN_S`."""

    @abstractmethod
    def close(self) -> None:
        """End everything."""

    def start_all(self, *names: str, **options: Any) -> list[Learner]:
        """Start these, and wait until each sees the others."""
        for name in names:
            self.start(name, **options)
        self.until(lambda: all(self[name].sees(*(set(names) - {name})) for name in names))
        return [self[name] for name in names]
