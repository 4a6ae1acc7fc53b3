"""One turn of the network: mailbox -> protocol -> sockets -> mailbox.

    turn(peer, mailbox, now, send)      the whole turn, of which the two halves are
    feed(peer, mailbox, now)            what the learner has left goes to the peer
    drain(peer, mailbox, now, send)     what the peer has to send is sent, and what it has for the learner is delivered

Rules of this file
1. Every owner of a peer and its mailbox takes its turns here: the socket driver, the simulator, the tests.
2. `send` hands one message to a socket. It calls `peer.not_sent` when no socket takes the message: the mass in it then
   reaches the learner in the same turn.
3. `Turn` says what the learner was told. The time of the next turn is asked of `peer.next_timeout()`, after everything
   else that the owner does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from gossipdistill.events import Event
from gossipdistill.mailbox import Collected, Mailbox
from gossipdistill.messages import Neighbourhood, Received, Slot, Transmit
from gossipdistill.protocol.peer import Peer

Send = Callable[[Transmit], object]
"""A function that hands one message to a socket."""


class Turn(NamedTuple):
    """What one turn has told the learner."""

    received: Sequence[Received]
    """These arrivals were put into its inbox."""
    freed: Sequence[Slot]
    """The links that have room for one more parcel of mass or of a stream."""
    events: Sequence[Event]
    """These events happened since the last turn."""
    neighbourhood: Neighbourhood | None
    """The new snapshot of the others; None means unchanged."""
    again: bool
    """This says whether another turn is due at once: the learner took something during this one, and the peer waits for
    that."""


_NOTHING = Turn((), (), (), None, again=False)


def turn(peer: Peer, mailbox: Mailbox, now: float, send: Send) -> Turn:
    """Take one whole turn; what is due at `now` is done in it."""
    feed(peer, mailbox, now)
    if now >= peer.next_timeout():
        peer.handle_timeout(now)
    return drain(peer, mailbox, now, send)


def feed(peer: Peer, mailbox: Mailbox, now: float) -> Collected:
    """Give the peer what the learner has left in the mailbox, which is returned."""
    collected = mailbox.collect()
    for slot in collected.taken:
        peer.states.receiver.taken(slot, now)
    for settlement in collected.settlements:
        peer.reliable_messages.receiver.settle(settlement)
    peer.payloads.complain(collected.complaints, now)
    for slot, parcel in collected.parcels:
        peer.publish(slot, parcel, now)
    peer.reliable_messages.receiver.intake = mailbox.intake
    peer.membership.report_progress(*mailbox.progress, now)
    return collected


def drain(peer: Peer, mailbox: Mailbox, now: float, send: Send) -> Turn:
    """Send what the peer has to send, then tell the learner what the peer has for it."""
    for transmit in peer.transmits():
        send(transmit)
    received = peer.received()
    for one in received:
        if mailbox.deliver(one):
            peer.payloads.crowded(one.peer, now)
    freed = peer.freed()
    if freed:
        mailbox.room.free(freed)
    again = mailbox.await_taking(peer.states.receiver.awaits_taking())
    events, neighbourhood = peer.events(), peer.neighbourhood()
    if events or neighbourhood is not None:
        mailbox.tell(neighbourhood, events)
    if received or freed or events or neighbourhood is not None or again:
        return Turn(received, freed, events, neighbourhood, again)
    return _NOTHING
