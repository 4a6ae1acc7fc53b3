"""Messages of delivery from members that exchange with me: what is accepted, and what is turned away."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gossipdistill.ids import PeerName
from gossipdistill.limits import Limits
from gossipdistill.messages import (
    Announce,
    Complaint,
    Confirm,
    Envelope,
    Receipt,
    ReliableMessage,
    State,
    StatusQuery,
    Want,
)
from gossipdistill.protocol.delivery import Delivery
from gossipdistill.protocol.peer_scores import PeerScores
from gossipdistill.protocol.view import View


@dataclass(slots=True)
class PayloadReceiver:
    """Passes acceptable messages to delivery; the rest is counted, and what no honest peer does is an offence."""

    limits: Limits
    view: View
    delivery: Delivery
    scores: PeerScores

    def receive(self, envelope: Envelope, now: float) -> None:
        """Handle a message of a member that may be listened to."""
        sender, boot, message = envelope.sender, envelope.boot, envelope.message
        states, reliable = self.delivery.states, self.delivery.reliable_messages
        match message:
            case State():
                for confirm in message.confirms:
                    states.sender.confirmed(sender, confirm, now)
                if not self.turns_down(sender, message.topic, now) and not self.drop_muted(sender, now):
                    self._note_arrival(sender, states.receiver.arrived(sender, boot, message, now), now)
            case Announce():
                unknown = self.turns_down(sender, message.topic, now)
                if not unknown and not self._is_oversize(sender, message, now) and not self.drop_muted(sender, now):
                    states.receiver.announced(sender, boot, message, now)
            case Want():
                states.sender.wanted(sender, message, now)
            case Confirm():
                states.sender.confirmed(sender, message, now)
            case ReliableMessage():
                if not self.turns_down(sender, message.topic, now):
                    unwanted = "its sender is muted" if self.drop_muted(sender, now) else ""
                    self._note_arrival(sender, reliable.receiver.arrived(sender, boot, message, now, unwanted), now)
            case Receipt():
                reliable.sender.receipt(sender, message, now)
            case StatusQuery():
                if not self.turns_down(sender, message.topic, now):
                    reliable.receiver.enquired(sender, boot, message)

    def turns_down(self, sender: PeerName, topic: str, now: float) -> bool:
        """Whether my learner cannot use this topic, so that nothing of it is kept; if so, one is counted. Its sender
        retransmits it as often as it likes."""
        if self.delivery.reliable_messages.receiver.intake.knows(topic):
            return False
        self.scores.turn_away(sender, "topic", now, f"sends {topic[:80]!r}, of which the strategy knows nothing")
        return True

    def drop_muted(self, sender: PeerName, now: float) -> bool:
        """Whether this sender is muted, so that its states and pieces are dropped unread; if so, one is counted."""
        if not self.scores.mutes(sender, now):
            return False
        self.scores.drop(sender, now)
        return True

    def crowded(self, sender: PeerName, now: float) -> None:
        """Note that older states of this sender were dropped for its newest: too many bytes of it wait."""
        problem = "has more waiting for a slow learner than it may: its oldest states give way to its newest"
        self.scores.turn_away(sender, "crowded", now, problem)

    def complain(self, complaints: Iterable[Complaint], now: float) -> None:
        """Handle payloads that the learner has refused and has reported itself."""
        for name, reason in ((one.sender, one.reason) for one in complaints if self.view.member_name(one.sender)):
            windows = self.delivery.reliable_messages.receiver.windows.items()
            mass = any(slot.peer == name and not window.stream for slot, window in windows)
            weight = self.limits.penalty_with_mass if mass else 1
            self.scores.offend(name, reason, now, weight)

    def _note_arrival(self, sender: PeerName, became: str, now: float) -> None:
        """Count an arrival that delivery did not hand to the learner; `became` is the reason, empty if it did."""
        if became == "repeated":
            self.scores.repeat(sender, now)
        elif became == "full":
            self.scores.turn_away(sender, became, now)
        elif became == "slots":
            problem = f"has used up its share of {self.limits.slots_per_peer_max} topics and keys"
            self.scores.turn_away(sender, became, now, problem)

    def _is_oversize(self, sender: PeerName, announce: Announce, now: float) -> bool:
        size, size_max = announce.payload_bytes, self.limits.payload_bytes_max
        if size <= size_max:
            return False
        problem = f"announces {announce.topic[:80]} of {size} bytes, and a payload has at most {size_max}"
        self.scores.turn_away(sender, "oversize", now, problem)
        self.scores.offend(sender, "oversize", now)
        return True
