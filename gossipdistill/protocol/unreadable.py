"""Messages that are not received: bytes that are no message, more than a sender may send, another wire version."""

from __future__ import annotations

from dataclasses import dataclass, field

from gossipdistill.events import Event, EventKind
from gossipdistill.ids import Boot, PeerName
from gossipdistill.presence import Refusal, RefusalCode
from gossipdistill.protocol.membership import Membership
from gossipdistill.protocol.peer_scores import PeerScores


@dataclass(slots=True)
class Unreadable:
    """The owner of a peer reports them here. `proven` says that this sender sent it, and nobody in its name."""

    membership: Membership
    scores: PeerScores
    events: list[Event] = field(default_factory=list)
    _malformed: dict[tuple[str, str], int] = field(default_factory=dict)

    def malformed(self, sender: str, code: str, problem: str, now: float, proven: bool = False) -> None:
        """Count bytes that were no message. They are reported once per (sender, code), and are an offence of a proven
        sender."""
        if self._count(sender, code) == 1:
            self.events.append(Event(EventKind.MALFORMED, now, sender, problem, {"code": code}))
        if proven and self.membership.view.member_name(sender):
            self.scores.offend(PeerName(sender), code, now)

    def too_much(self, sender: str, reason: str, problem: str, now: float, proven: bool = False) -> None:
        """Note that something was dropped unread because its sender exceeded its rate."""
        name = self.membership.view.member_name(sender)
        self.scores.turn_away(name, reason, now, problem)
        if proven and name:
            self.scores.offend(name, reason, now)

    def other_version(self, sender: str, boot: int, theirs: int, mine: int, now: float) -> Refusal | None:
        """Handle a well-formed first frame of another wire version. Returns the answer to send on the same connection
        if its sender is no member, so that I know no address of it. Without a `sender` nothing shows who it is."""
        me = self.membership.me.name
        speaks = f"{sender or 'the caller'} speaks wire version {theirs} and {me} {mine}"
        refusal = Refusal(
            RefusalCode.WIRE_VERSION, f"{speaks}: install the same gossipdistill on both", wire_version=theirs
        )
        self._count(sender, "version")
        if self.is_too_far(PeerName(sender), boot, now):
            return refusal
        is_member = self.membership.refusals.version(PeerName(sender), Boot(boot), refusal, now)
        return None if is_member else refusal

    def is_too_far(self, sender: PeerName, boot: int, now: float) -> bool:
        """Whether no process can have this boot, so that its message is void; reported once for each member."""
        if not self.membership.boots.is_too_far(sender, boot, now):
            return False
        ahead = f"numbers itself {boot}, more than 400 days ahead of the clocks here: a wrong clock, or somebody else"
        self.scores.turn_away(self.membership.view.member_name(sender), "boot", now, ahead)
        return True

    @property
    def counts(self) -> dict[str, int]:
        """The number of messages that were not understood, per code."""
        totals: dict[str, int] = {}
        for (_, code), count in self._malformed.items():
            totals[code] = totals.get(code, 0) + count
        return totals

    def _count(self, sender: str, code: str) -> int:
        key = (sender, code)
        if key not in self._malformed and len(self._malformed) >= self.membership.limits.strangers_max:
            key = ("", code)
        self._malformed[key] = self._malformed.get(key, 0) + 1
        return self._malformed[key]
