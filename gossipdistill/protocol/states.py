"""Delivery of the *state* class: newest wins, keyed (peer, topic, key), paced by confirmation.

Small states are pushed. Large ones are announced, and sent when the reader asks, which it does once its learner has
taken the previous version: a slow reader is never sent more than it can use.

Rules of this file
1. At most `unconfirmed_max` versions of a slot are on the wire to one peer (one, if it is pulled), and at most one
   announcement is open. Socket buffers are large, and what waits in them arrives stale.
2. Only the newest version is kept for sending. Loss, duplication, reordering and slow readers are harmless.
3. Nothing is sent to a peer that is not alive; when it returns it is sent the newest version at once, unless it has it.
4. A pushed state is confirmed by the next state in the other direction, at the latest after `confirm_delay_s`; at once
   when a second version arrives before that. This saves half of all messages and wake-ups.
5. Only the sender has timeouts. Whatever is lost (an announcement, a request, a state, a confirmation), it repeats its
   last message after the timeout: as long as this peer's confirmations usually take, at most `confirm_timeout_s`. The
   reader answers each announcement, with a confirmation, or with a request as soon as its learner is ready.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gossipdistill.ids import PeerName
from gossipdistill.limits import Limits
from gossipdistill.protocol.members import Member
from gossipdistill.protocol.owed_confirmations import OwedConfirmations
from gossipdistill.protocol.parcels import StateOutbox
from gossipdistill.protocol.state_receiver import StateReceiver
from gossipdistill.protocol.state_sender import StateSender


@dataclass(slots=True)
class States:
    """Both directions of the state class. `partners` are the peers that may be sent to now."""

    limits: Limits
    partners: Mapping[PeerName, Member]
    box: StateOutbox = field(init=False)
    sender: StateSender = field(init=False)
    receiver: StateReceiver = field(init=False)

    def __post_init__(self) -> None:
        self.box = StateOutbox(OwedConfirmations(self.limits.confirm_delay_s))
        self.sender = StateSender(self.limits, self.partners, self.box)
        self.receiver = StateReceiver(self.limits, self.partners, self.box)

    def next_timeout(self) -> float:
        """The time at which something is overdue."""
        return min(self.sender.next_timeout(), self.box.owed.next_s())

    def handle_timeout(self, now: float) -> None:
        """Send the confirmations that have waited for long enough; then repeat what is overdue."""
        self.box.out += self.box.owed.overdue(now)
        self.sender.handle_timeout(now)
