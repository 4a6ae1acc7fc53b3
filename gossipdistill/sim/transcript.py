"""The messages and events of a world as text, one line each, or their hash.

A transcript is reviewed as a diff. Equal seeds give equal transcripts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Container

from gossipdistill.events import Event
from gossipdistill.faults import ActKind
from gossipdistill.messages import (
    Announce,
    Confirm,
    Envelope,
    Message,
    Receipt,
    Received,
    ReliableMessage,
    Returned,
    Settlement,
    State,
    StatusQuery,
    Transmit,
    Want,
    word_of,
)
from gossipdistill.presence import Ack, Claim, Greeting, Leave, Nack, Ping, PingRequest, Refusal
from gossipdistill.sim.host import Host
from gossipdistill.sim.observer import Observer


class Transcript(Observer):
    """Lines are kept, unless `hashed`: then only their hash is. `silent` names kinds of messages that are left out;
    without `heard` only sent messages are written, and not arrivals.

    A boot is written as the number of the process among those of its name: the boot itself tells a reader nothing.
    """

    def __init__(self, hashed: bool = False, silent: Container[str] = (), heard: bool = True) -> None:
        self.lines: list[str] = []
        self._hash = hashlib.blake2b(digest_size=16)
        self._write: Callable[[str], None] = self._update if hashed else self.lines.append
        self._silent, self._heard = silent, heard
        self._processes: dict[tuple[str, int], int] = {}

    @property
    def digest(self) -> str:
        """The hash of all lines, in hexadecimal."""
        return self._hash.hexdigest()

    def text(self) -> str:
        """All lines."""
        return "\n".join(self.lines) + "\n"

    def note(self, now_s: float, text: str) -> None:
        """Write a line that is not a message or an event."""
        self._write(f"{now_s:8.3f}  -- {text}")

    def _update(self, line: str) -> None:
        self._hash.update(line.encode() + b"\n")

    def on_start(self, now_s: float, host: Host) -> None:
        self._processes[host.name, host.boot] = host.incarnation
        self.note(now_s, f"{host.name} starts" + (f" again, process {host.incarnation}" * (host.incarnation > 1)))

    def on_end(self, now_s: float, host: Host, how: str) -> None:
        self.note(now_s, f"{host.name} is {how}" if how != "left" else f"{host.name} ends")

    def on_fault(self, now_s: float, kind: ActKind, peer: str) -> None:
        self.note(now_s, f"{kind.value} {peer}")

    def on_transmit(self, now_s: float, host: Host, transmit: Transmit) -> None:
        envelope = transmit.envelope
        if word_of(envelope.message) not in self._silent:
            self._write(f"{now_s:8.3f}  {host.name} > {envelope.to or transmit.address}: {self._said(envelope)}")

    def on_deliver(self, now_s: float, host: Host, envelope: Envelope) -> None:
        if self._heard and word_of(envelope.message) not in self._silent:
            message = word_of(envelope.message)
            self._write(f"{now_s:8.3f}      {host.name} hears {message} of {envelope.sender}")

    def on_received(self, now_s: float, host: Host, received: Received) -> None:
        what = f"{received.topic} {received.version.number}"
        if isinstance(received, Returned):
            self._write(f"{now_s:8.3f}      {host.name} has {what} for {received.recipient} back: {received.reason}")
        else:
            self._write(f"{now_s:8.3f}      {host.name} hands its learner {what} of {received.sender}")

    def on_settle(self, now_s: float, host: Host, settlement: Settlement) -> None:
        verdict = "absorbs" if settlement.absorbed else f"refuses ({settlement.reason})"
        what = f"{settlement.topic} {settlement.version.number} of {settlement.sender}"
        self._write(f"{now_s:8.3f}      the learner of {host.name} {verdict} {what}")

    def on_event(self, now_s: float, host: Host, event: Event) -> None:
        self._write(f"{now_s:8.3f}    * {host.name}: {event.line()}")

    def _said(self, envelope: Envelope) -> str:
        words = self._words(envelope.message)
        process = self._processes.get((envelope.to, envelope.to_boot))
        return words if process in (None, 1) else f"(process {process}) {words}"

    def _words(self, message: Message) -> str:
        match message:
            case Ping():
                return f"ping {message.number}{self._claimed(message.claims)}"
            case Ack():
                about = f", of {message.about}" if message.about else ""
                return f"ack {message.number}{about}{self._claimed(message.claims)}"
            case PingRequest():
                return f"ask {message.target} for me, {message.number}{self._claimed(message.claims)}"
            case Nack():
                return f"no answer yet, {message.number}{self._claimed(message.claims)}"
            case Greeting():
                contacts = ", ".join(contact.name for contact in message.contacts)
                return ("greeting" if message.reply_wanted else "greeting back") + (
                    f"; knows {contacts}" * bool(contacts)
                )
            case State():
                confirms = "".join(f", confirms {one.topic} {one.number}" for one in message.confirms)
                return f"state {message.topic} {message.number}{confirms}"
            case ReliableMessage():
                weight = f", weight {message.weight:.6g}" if message.weight else ""
                return f"{message.delivery} {message.topic} {message.number}{weight}"
            case Receipt():
                return f"{message.topic} {message.number} is {message.verdict.value}" + f": {message.reason}" * bool(
                    message.reason
                )
            case StatusQuery() | Confirm() | Announce() | Want():
                return f"{word_of(message).lower()} {message.topic} {message.number}"
            case Refusal():
                return f"refused ({message.code.value}): {message.detail}"
            case Leave():
                return f"leaves: {message.reason}"
            case _:
                return word_of(message)

    def _claimed(self, claims: tuple[Claim, ...]) -> str:
        said = ", ".join(f"{claim.name} {claim.kind.value} {claim.incarnation} (by {claim.by})" for claim in claims)
        return f"; says: {said}" if said else ""
