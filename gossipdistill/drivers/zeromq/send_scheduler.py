"""Large outgoing bodies: links take turns, one piece each, so that none can starve another.

The life of a body here

    begun --a piece per turn--> ... --last piece--> ended      (what a socket does not take is offered again, unchanged)
    begun --the first piece is not taken--> refused            (the protocol is told, and tries again with the newest)

Rules of this file
1. Per recipient and delivery class one body is in transfer. A state that is posted meanwhile is refused, since a newer
   one may be worth sending by then; mass and streams wait here in order, as references that the protocol holds anyway.
2. A state that is overtaken by a newer one is still sent to its end; otherwise a fast publisher would never complete
   one.
3. All pieces of a body go the same way. When that way ends, so does the body: half a body never arrives, so it counts
   as not sent.
4. Pure, apart from the outlet that it is given.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from gossipdistill.drivers.zeromq.faulty import Flip
from gossipdistill.limits import Limits
from gossipdistill.messages import DeliveryClass, Envelope, ReliableMessage, State, Transmit
from gossipdistill.wire.pieces import split

Way = TypeVar("Way")


class Outlet(Protocol[Way]):
    """The outlet of messages: in a driver, its `Sending`."""

    def put(self, transmit: Transmit, way: Way | None, flip: Flip | None = None, /) -> Way | None:
        """Offer a message to one way (None: any); returns the way that accepted it, or None. `flip` changes its
        frames."""

    def sent(self, transmit: Transmit, /) -> None:
        """Note that a message was handed over to its last piece."""


@dataclass(slots=True)
class Transfer(Generic[Way]):
    """One body in transfer: `part` is offered next (None once all was accepted); `way` is where the last part went."""

    whole: Transmit
    parts: Iterator[Envelope]
    part: Envelope | None
    way: Way | None = None
    quiet: bool = False
    """This is a second copy or a late one, whose result is not reported."""


@dataclass(slots=True)
class Lane(Generic[Way]):
    """The queue to one recipient: the bodies in transfer, next turn first, and those that wait for them."""

    transfers: deque[Transfer[Way]] = field(default_factory=deque)
    waiting: deque[Transmit] = field(default_factory=deque)


@dataclass(slots=True)
class SendScheduler(Generic[Way]):
    """All outgoing bodies."""

    limits: Limits
    outlet: Outlet[Way]
    lanes: dict[str, Lane[Way]] = field(default_factory=dict)

    def add(self, transmit: Transmit, quiet: bool = False, flip: Flip | None = None) -> bool:
        """Accept a message of the data channel. False means not sent: try again later.

        A message that fits into one piece is sent at once, between the pieces of larger ones; so is a first piece.
        """
        name = transmit.envelope.to
        self._drop_former(name, transmit.envelope.to_boot)
        parts = split(transmit.envelope, self.limits)
        first = next(parts)
        if first is transmit.envelope:
            if self.outlet.put(transmit, None, flip) is None:
                return False
            self.outlet.sent(transmit)
            return True
        lane = self.lanes.get(name, Lane())
        before = [*(one.whole for one in lane.transfers), *lane.waiting]
        if any(_number(one) == _number(transmit) for one in before):
            return True  # sent again while it is still in transfer
        delivery = _delivery(transmit)
        if any(_delivery(one) is delivery for one in before):
            waits = delivery is not DeliveryClass.STATE and not quiet
            if waits:
                lane.waiting.append(transmit)
            return waits
        transfer = Transfer[Way](transmit, parts, first, quiet=quiet)
        if not self._offer(transfer, flip):
            return False
        lane.transfers.append(transfer)
        self.lanes[name] = lane
        return True

    def pump(self) -> bool:
        """Take turns, one piece per recipient in each, until nothing is accepted any more or the turn's share is used
        up. Returns whether there may be more to do at once."""
        left = self.limits.turn_messages_max
        going = deque(self.lanes)
        while going and left > 0:
            name = going.popleft()
            if not self._turn(name):
                continue
            left -= 1
            if name in self.lanes:
                self.lanes[name] = self.lanes.pop(name)  # behind the others, also at the beginning of the next call
                going.append(name)
        return bool(going)

    def drop(self, name: str) -> list[Transmit]:
        """Give up what is in transfer to a recipient; returns what was given up, none of which has arrived."""
        lane = self.lanes.pop(name, Lane())
        return [*(transfer.whole for transfer in lane.transfers if not transfer.quiet), *lane.waiting]

    def drop_way(self, way: Way) -> list[Transmit]:
        """Give up what was in transfer on this way, which has ended."""
        ended = [name for name, lane in self.lanes.items() if any(one.way is way for one in lane.transfers)]
        return [transmit for name in ended for transmit in self.drop(name)]

    def _turn(self, name: str) -> bool:
        """Offer one piece to this recipient: of the body whose turn it is, or of another if that is not taken."""
        lane = self.lanes[name]
        for transfer in list(lane.transfers):
            if not self._offer(transfer):
                continue
            lane.transfers.remove(transfer)
            if transfer.part is not None:
                lane.transfers.append(transfer)
            else:
                self.outlet.sent(transfer.whole)
                self._follow(name, lane, _delivery(transfer.whole))
            return True
        return False

    def _follow(self, name: str, lane: Lane[Way], delivery: DeliveryClass) -> None:
        """Start what waited for the end of a body of this class."""
        following = next((one for one in lane.waiting if _delivery(one) is delivery), None)
        if following is not None:
            lane.waiting.remove(following)
            parts = split(following.envelope, self.limits)
            lane.transfers.append(Transfer(following, parts, next(parts)))
        if not lane.transfers:
            del self.lanes[name]

    def _offer(self, transfer: Transfer[Way], flip: Flip | None = None) -> bool:
        assert transfer.part is not None
        way = self.outlet.put(_with_envelope(transfer.whole, transfer.part), transfer.way, flip)
        if way is None:
            return False
        transfer.way, transfer.part = way, next(transfer.parts, None)
        return True

    def _drop_former(self, name: str, to_boot: int) -> None:
        """Drop bodies to a former process; the protocol starts afresh with its successor."""
        lane = self.lanes.get(name)
        if lane is not None and any(one.whole.envelope.to_boot != to_boot for one in lane.transfers):
            self.drop(name)


def _with_envelope(transmit: Transmit, envelope: Envelope) -> Transmit:
    """The same transmit with another message."""
    return transmit if envelope is transmit.envelope else Transmit(transmit.address, envelope)


def _delivery(transmit: Transmit) -> DeliveryClass:
    message = transmit.envelope.message
    return message.delivery if isinstance(message, ReliableMessage) else DeliveryClass.STATE


def _number(transmit: Transmit) -> tuple[str, str, int, DeliveryClass]:
    message = transmit.envelope.message
    assert isinstance(message, State | ReliableMessage)
    key = message.key if isinstance(message, State) else ""
    return (message.topic, key, message.number, _delivery(transmit))
