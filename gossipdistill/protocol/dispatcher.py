"""Which part handles a message: membership gets its own, the rest is exchange."""

from __future__ import annotations

from dataclasses import dataclass, field

from gossipdistill.ids import PeerName
from gossipdistill.messages import Envelope
from gossipdistill.presence import Ack, Enrolments, Greeting, Leave, Nack, Ping, PingRequest, Refusal
from gossipdistill.protocol.callers import Callers
from gossipdistill.protocol.delivery import Delivery
from gossipdistill.protocol.key_distribution import KeyDistribution
from gossipdistill.protocol.members import Identity, Member, Status
from gossipdistill.protocol.membership import Membership
from gossipdistill.protocol.unreadable import Unreadable


@dataclass(slots=True)
class Dispatcher:
    """Dispatches every message. One that is not for this process, or that it may not accept, is counted and dropped."""

    me: Identity
    membership: Membership
    delivery: Delivery
    key_distribution: KeyDistribution
    unreadable: Unreadable
    _callers: Callers = field(init=False)

    def __post_init__(self) -> None:
        self._callers = Callers(self.membership.limits)

    def is_business(self, envelope: Envelope, now: float) -> bool:
        """Whether a message is one of delivery, from a member that may be listened to. Any other message is handled
        here."""
        sender, boot, message = envelope.sender, envelope.boot, envelope.message
        if self.unreadable.is_too_far(sender, boot, now):
            if isinstance(message, Greeting):
                caller = Member(sender, message.address, message.place, boot=boot)
                self.membership.refusals.clock(caller, self.membership.boots.clock(now))
            return False
        if isinstance(message, Greeting):
            self._greeted(envelope, message, now)
            return False
        if isinstance(message, Enrolments):
            self.key_distribution.heard(sender, message, now)
            return False
        if envelope.to not in ("", self.me.name):
            self._turn_away(sender, "not_for_me", now)  # but for a peer that had this address before
            return False
        if envelope.to_boot not in (0, self.me.boot):
            self._turn_away(sender, "for_another_process", now)
            if envelope.to_boot < self.me.boot:
                self.membership.addressed_to_my_predecessor(sender, now)
            return False
        if isinstance(message, Refusal):
            if not self.membership.refusals.refused_by(sender, boot, message, now):
                self._turn_away(sender, "contradiction", now)
            return False
        if isinstance(message, Ping | PingRequest | Ack | Nack | Leave):
            self.membership.probe_word(envelope, message, now)
            if isinstance(message, Leave) and self.membership.view.status_of(sender) is Status.LEFT:
                self.delivery.reliable_messages.sender.parted(sender, boot, message.absorbed, now)
            return False
        if self.membership.heard(envelope, now) is None:
            self._turn_away(sender, "not_admitted", now)
            return False
        return True

    def _greeted(self, envelope: Envelope, greeting: Greeting, now: float) -> None:
        sender, known = envelope.sender, self.membership.table.address_of(envelope.sender)
        at, unheard = greeting.address, ""
        if known is not None:
            unheard = self._callers.turn_away(sender, envelope.boot, at, known, now)
        if unheard:
            self._turn_away(sender, unheard, now)
        else:
            self.membership.greeted(envelope, greeting, now)

    def _turn_away(self, sender: PeerName, reason: str, now: float) -> None:
        self.unreadable.scores.turn_away(self.membership.view.member_name(sender), reason, now)
