"""Newcomers with keys that are in no roster: a process with the run's join secret may take part, and all peers are
told.

A record says "the key of NAME is KEY, in the run RUN", and proves with an HMAC that its author has the run's join
secret. Each peer sends its own record before its first message to any other. A peer that accepts a record passes it on
once, tells newcomers all that it knows, and checks every record itself. A book holds the accepted records.

Rules of this file
1. A roster has precedence over any record; and a revoked peer cannot come back by a record.
2. A name keeps its first key, and a key has one name. So the join secret admits peers, and takes no peer's place.
3. A refusal has a reason from `Objection`.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice

from gossipdistill.ids import PeerName
from gossipdistill.limits import Limits
from gossipdistill.presence import Enrolment, Enrolments

_CONTEXT = "gossipdistill enrolment 1"


class Objection(StrEnum):
    """Why a record is not accepted. Append only: the words are on the wire and in events."""

    OTHER_RUN = "other_run"
    WRONG_PROOF = "wrong_proof"
    NAME_HAS_ANOTHER_KEY = "name_has_another_key"
    KEY_HAS_ANOTHER_NAME = "key_has_another_name"
    REVOKED = "revoked"
    NOT_OWN_KEY = "not_own_key"
    FULL = "full"


def proof_of(secret: bytes, run: str, name: str, key: str, boot: int) -> str:
    """HMAC-SHA-256 (RFC 2104) over all fields of a record, in hexadecimal."""
    said = "\n".join((_CONTEXT, run, name, key, str(boot)))  # no entry has a line break: the wire refuses them
    return hmac.new(secret, said.encode("utf-8"), hashlib.sha256).hexdigest()


@dataclass(slots=True)
class Book:
    """The keys of all names: the keys `given` to me (my own, and that of the peer to enrol with), those of the roster
    (`fixed`), and those of records.

    `secret` is the join secret of the run, None where joining by a secret is not possible.
    """

    run: str
    me: PeerName
    given: Mapping[str, str]
    fixed: Mapping[str, str] = field(default_factory=dict)
    secret: bytes | None = field(default=None, repr=False)
    limits: Limits = field(default_factory=Limits)
    mine: Enrolment | None = None
    revoked: Set[str] = frozenset()
    """These names of the roster have keys that are not trusted any more."""
    records: dict[PeerName, Enrolment] = field(default_factory=dict)

    def enrol_myself(self, key: str, boot: int) -> None:
        """Write my own record, if there is a join secret."""
        if self.secret is not None:
            self.mine = Enrolment(self.me, key, boot, proof_of(self.secret, self.run, self.me, key, boot))
            self.records[self.me] = self.mine

    def keys(self) -> dict[str, str]:
        """Public keys by name, of all peers that may take part now."""
        known = {str(name): record.key for name, record in self.records.items()} | dict(self.given)
        taken = set(self.fixed.values())
        return {name: key for name, key in known.items() if name not in self.revoked and key not in taken} | dict(
            self.fixed
        )

    def hold_to(self, fixed: Mapping[str, str], revoked: Set[str]) -> None:
        """Take over a changed roster."""
        self.fixed, self.revoked = dict(fixed), frozenset(revoked)

    def hear(self, run: str, record: Enrolment) -> Objection | None:
        """Accept a record; returns the objection if it is refused, else None. A known record changes nothing."""
        known = self.records.get(record.name)
        if self.secret is None or run != self.run:
            return Objection.OTHER_RUN
        proof = proof_of(self.secret, run, record.name, record.key, record.boot)
        if not hmac.compare_digest(proof, record.proof):
            return Objection.WRONG_PROOF
        if record.name in self.revoked:
            return Objection.REVOKED
        keys = self.keys()
        if keys.get(record.name, record.key) != record.key:
            return Objection.NAME_HAS_ANOTHER_KEY
        if any(key == record.key and name != record.name for name, key in keys.items()):
            return Objection.KEY_HAS_ANOTHER_NAME
        if known is None and len(self.records) >= self.limits.peers_max:
            return Objection.FULL
        if known is None or record.boot > known.boot:
            self.records[record.name] = record
        return None

    def pages(self) -> Iterator[Enrolments]:
        """All records, as the messages that carry them."""
        records = iter(list(self.records.values()))
        while page := tuple(islice(records, self.limits.enrolments_per_message_max)):
            yield Enrolments(self.run, page)
