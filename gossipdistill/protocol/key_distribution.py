"""How enrolments spread: my own record goes before each greeting, an accepted one is passed on, a newcomer is sent all.
Without a book none of this happens.

Rules of this file
1. A newcomer whose key is not known may send one thing: the record of that key, under that name.
2. A peer that accepts a record passes it on once, to the peers that it exchanges with; so it spreads to all by gossip.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from gossipdistill.events import Event, EventKind
from gossipdistill.ids import PeerName
from gossipdistill.messages import Envelope
from gossipdistill.presence import Enrolment, Enrolments, Greeting, Refusal, RefusalCode
from gossipdistill.protocol.enrolment import Book, Objection
from gossipdistill.protocol.table import Outbound, Table

_IN_WORDS = {
    Objection.OTHER_RUN: "it enrols in another run",
    Objection.WRONG_PROOF: "it does not have the join secret of this run",
    Objection.NAME_HAS_ANOTHER_KEY: "its name has another key already",
    Objection.KEY_HAS_ANOTHER_NAME: "its key has another name already",
    Objection.REVOKED: "it is revoked",
    Objection.NOT_OWN_KEY: "it has shown no record of its own name and key",
    Objection.FULL: "there is no room for more",
}


@dataclass(slots=True)
class KeyDistribution:
    """Enrolments on behalf of a table. `refused` counts by objection."""

    table: Table
    book: Book | None = None
    refused: Counter[str] = field(default_factory=Counter)
    _changed: bool = False
    _said: set[tuple[str, str]] = field(default_factory=set)

    def prove_senders(self) -> None:
        """From now on every message is proved to come from the holder of the key of its sender's name."""
        self.table.proven = True

    def newcomer(self, key: str, envelope: Envelope, now: float) -> Refusal | None:
        """Handle the first message under an unknown key. Returns why it is turned away, or None if it is enrolled
        now."""
        message = envelope.message
        if self.book is not None and isinstance(message, Enrolments):
            own = next((one for one in message.records if (one.name, one.key) == (envelope.sender, key)), None)
            if own is not None:
                return _in_words(self._accept(message.run, own, "", now))
        self._note(envelope.sender, Objection.NOT_OWN_KEY, "", now)
        return _in_words(Objection.NOT_OWN_KEY)

    def heard(self, sender: PeerName, message: Enrolments, now: float) -> None:
        """Handle records from a peer that may take part."""
        for record in message.records if self.book is not None else ():
            self._accept(message.run, record, sender, now)

    def tell_all(self, name: PeerName) -> None:
        """Send all records to a peer that now exchanges with me, and may not know them all."""
        member = self.table.find(name)
        if self.book is not None and member is not None:
            for page in self.book.pages():
                self.table.say(member, page)

    def before(self, outbound: Outbound) -> Iterator[Outbound]:
        """The messages that are sent before this one."""
        if self.book is not None and self.book.mine is not None and isinstance(outbound.message, Greeting):
            yield outbound._replace(message=Enrolments(self.book.run, (self.book.mine,)))

    def changed_keys(self) -> dict[str, str] | None:
        """Public keys by name, if they have changed since the last call."""
        if self.book is None or not self._changed:
            return None
        self._changed = False
        return self.book.keys()

    def _accept(self, run: str, record: Enrolment, by: str, now: float) -> Objection | None:
        assert self.book is not None
        before = self.book.keys()
        objection = self.book.hear(run, record)
        if objection is not None:
            self._note(record.name, objection, by, now)
            return objection
        if record.name not in before:
            self._changed = True
            how = f"told by {by}" if by else "it has the join secret"
            self.table.note(EventKind.ENROLLED, record.name, how, now)
            for name in self.table.partners:
                if name not in (by, record.name):
                    self.table.say(self.table.rows[name], Enrolments(run, (record,)))
        return None

    def _note(self, name: str, objection: Objection, by: str, now: float) -> None:
        self.refused[objection.value] += 1
        if (name, objection.value) not in self._said and len(self._said) < self.table.limits.strangers_max:
            self._said.add((name, objection.value))
            words = _IN_WORDS[objection] + (f", by what {by} tells" if by else "")
            self.table.events.append(Event(EventKind.REFUSED, now, name, words, {"code": objection.value}))


def _in_words(objection: Objection | None) -> Refusal | None:
    if objection is None:
        return None
    return Refusal(RefusalCode.ENROLMENT, f"{objection.value}: {_IN_WORDS[objection]}")
