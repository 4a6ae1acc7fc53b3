"""The messages of probing, with what is piggybacked on them: my progress, my refutation, an accusation of the
recipient, claims."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from gossipdistill.ids import PeerName
from gossipdistill.messages import Message
from gossipdistill.presence import Ack, Claim, ClaimKind, Nack, Ping, PingRequest
from gossipdistill.protocol.members import Member, Status
from gossipdistill.protocol.piggyback import Piggyback
from gossipdistill.protocol.table import Outbound, Table


@dataclass(slots=True)
class ProbeMessages:
    """Sends messages of probing to members by name."""

    table: Table
    dissemination: Piggyback = field(default_factory=Piggyback)
    incarnation: int = 0
    """My own incarnation: only I raise it, whenever I am called suspect or dead."""
    step: int = 0
    done: bool = False
    _number: int = 0

    def ping(self, to: PeerName) -> int:
        """Ask for a sign of life; returns the number that the answer repeats."""
        self._number += 1
        self.send(to, Ping(self._number, self.step, self.done, self.claims(to), self.incarnation))
        return self._number

    def ask(self, relay: PeerName, number: int, target: PeerName) -> None:
        """Ask a relay to ping `target`."""
        self.send(relay, PingRequest(number, target, self.claims(relay)))

    def answer(self, to: PeerName, number: int, about: str = "", about_boot: int = 0) -> None:
        """Answer that I am here, or that `about` has answered me."""
        self.send(to, Ack(number, self.step, self.done, self.claims(to), about, about_boot, self.incarnation))

    def sync_with(self, to: PeerName, number: int) -> None:
        """Answer that I am here, and name to a new process the members that have ended: it cannot have heard of
        them."""
        room = self.table.limits.claims_per_message_max
        names = list(self.table.dead)
        picked = names if len(names) <= room else self.table.chance.sample(names, room)
        claims = tuple(self._verdict(self.table.rows[name]) for name in picked if name != to)
        self.send(to, Ack(number, self.step, self.done, claims, "", 0, self.incarnation))

    def _verdict(self, member: Member) -> Claim:
        kind = {Status.DEAD: ClaimKind.DEAD, Status.LEFT: ClaimKind.LEFT}.get(member.status, ClaimKind.SUSPECT)
        level = member.suspicion.incarnation if member.suspicion is not None else max(member.incarnation, 0)
        return Claim(member.name, member.boot, level, kind, self.table.me.name)

    def nack(self, to: PeerName, number: int) -> None:
        """Say that the target has not answered me."""
        self.send(to, Nack(number, self.claims(to)))

    def send(self, to: PeerName, message: Message) -> None:
        """Send to the process that I have accepted, or to any of that name."""
        address, member = self.table.address_of(to), self.table.find(to)
        if address is not None and self.table.me.can_dial(address):
            boot = member.boot if member is not None and member.accepted else 0
            self.table.out.append(Outbound(to, boot, address, message))

    def claims(self, to: PeerName) -> tuple[Claim, ...]:
        """The claims for one message: the accusation of `to` itself, so that it can refute, then those that were sent
        least."""
        limits, member = self.table.limits, self.table.find(to)
        room = limits.claims_per_message_max
        accusation: tuple[Claim, ...] = ()
        if member is not None and member.status in (Status.SUSPECT, Status.DEAD, Status.LEFT):
            accusation = (self._verdict(member),)
        if self.dissemination:
            tellings = limits.claim_transmits_factor * math.ceil(math.log10(self.table.expected + 1))
            told = accusation + self.dissemination.pick(room - len(accusation), int(tellings))
        else:
            told = accusation
        return told + self.dissemination.remind(min(limits.reminders_per_message, room - len(told)), self.table.dead)

    def claim_that_i_live(self) -> None:
        """Spread that I live: at the start, and when a peer claimed otherwise."""
        me = self.table.me
        known = self.table.closed
        self.dissemination.tell(
            Claim(
                me.name,
                me.boot,
                self.incarnation,
                ClaimKind.ALIVE,
                me.name,
                None if known else me.address,
                0 if known else me.place,
            )
        )
