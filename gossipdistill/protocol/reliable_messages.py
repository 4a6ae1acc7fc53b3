"""Delivery of *mass* and *streams*: exactly once, settled by the learner, with a bound on what is unsettled.

The life of a reliable message, as its sender sees it

    queued --taken by the socket--> sent --receipt "held"--> held       (from then on queried, never sent again)
    sent or held --"absorbed"--> gone        sent or held --"refused"--> returned: its mass is the sender's again
    queued --recipient dead or gone, or no socket takes it--> returned (a stream waits for a socket that does)
    sent or held --recipient dead--> parked --the same process is back--> sent
                                     parked --a new process, or the name leaves--> written off
    unsettled --recipient's last message names what it has absorbed--> gone or returned

Rules of this file
1. At most `in_flight_mass_max` (`in_flight_stream_max`) of one link and topic are unsettled; the mailbox then reports
   the link as busy. To a lossy peer the mailbox uses more topics.
2. Numbers count from 1 per link, topic, process of the sender and process of the recipient. A number that was settled
   is answered with the same verdict again, and never delivered again.
3. What was on the wire to a process that died is never reclaimed: that process may have absorbed it. It is written off,
   with its weight, when that process is certain not to return. So every estimate stays a weighted mean of true values.
4. Streams carry no weight: what would be in doubt or returned is dropped instead. A dropped frame may still wait for
   the recipient's learner, and nothing else is accepted in its place.
5. A parcel without a receipt is sent again after the retransmission timeout of this peer, and a held one is queried
   after the timeout of its learner: see protocol/resending.py.
6. If the learner does not settle within `held_after_s`, the receipt "held" is sent for it. So a lost parcel is sent
   again after a round trip, not after a step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gossipdistill.ids import Boot, PeerName
from gossipdistill.limits import Limits
from gossipdistill.protocol.members import Member
from gossipdistill.protocol.parcels import Outbox
from gossipdistill.protocol.reliable_receiver import ReliableReceiver
from gossipdistill.protocol.reliable_sender import ReliableSender


@dataclass(slots=True)
class ReliableMessages:
    """Both directions of mass and streams. `partners` are the peers that may be sent to now."""

    limits: Limits
    boot: Boot
    partners: Mapping[PeerName, Member]
    box: Outbox = field(default_factory=Outbox)
    sender: ReliableSender = field(init=False)
    receiver: ReliableReceiver = field(init=False)

    def __post_init__(self) -> None:
        self.sender = ReliableSender(self.limits, self.boot, self.partners, self.box)
        self.receiver = ReliableReceiver(self.limits, self.box)

    def next_timeout(self) -> float:
        """The time at which something is to be sent next."""
        return min(self.sender.next_timeout(), self.receiver.next_timeout())

    def handle_timeout(self, now: float) -> None:
        """Send what is due: first for my learner, then what is in flight."""
        self.receiver.handle_timeout(now)
        self.sender.handle_timeout(now)
