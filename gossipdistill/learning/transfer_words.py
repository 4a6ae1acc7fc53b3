"""What newcomers and donors say to one another (learning/state_transfer.py), as records with one codec.

Each travels as the name of the one array of a payload: `Ask` and `NotGiven` as that of an empty one, `Given` as that of
the bytes of the chunk. The texts are part of the wire format.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gossipdistill.messages import ArrayLayout, Payload

_ASK = re.compile(r"(\d{1,18}) (\d{1,9}) (\d{1,9})")
_GIVEN = re.compile(r"(\d{1,18}) (\d{1,9}) (\d{1,9}) (\d{1,12}) ([0-9a-f]{16}) ([0-9a-f]{64}|-) (\d{1,9})")
_NOT_GIVEN = re.compile(r"no (\d{1,9}): (.*)")
_NO_DIGEST = "-"


@dataclass(frozen=True, slots=True)
class Ask:
    """Asks for a chunk of a version of the donor's model. `serial` 0: of whichever version the donor likes."""

    serial: int
    chunk: int
    token: int
    """The number of the newcomer's process. It comes back with each answer."""

    def payload(self) -> Payload:
        """As it travels."""
        return _empty(f"{self.serial} {self.chunk} {self.token}")


@dataclass(frozen=True, slots=True)
class Given:
    """A chunk of version `serial`, which has `chunks` of them and `nbytes` bytes in all. `kind` names the shape of the
    model; `digest` is that of the whole version, and comes with the last chunk only."""

    serial: int
    chunk: int
    chunks: int
    nbytes: int
    kind: str
    digest: str | None
    token: int

    def payload(self, part: memoryview) -> Payload:
        """As it travels, with the bytes of the chunk. They are not copied."""
        counts = f"{self.serial} {self.chunk} {self.chunks} {self.nbytes}"
        head = f"{counts} {self.kind} {self.digest or _NO_DIGEST} {self.token}"
        return Payload((ArrayLayout(head, (len(part),), "raw", len(part), "uint8"),), part)


@dataclass(frozen=True, slots=True)
class NotGiven:
    """The donor gives nothing, for this reason."""

    token: int
    reason: str

    def payload(self) -> Payload:
        """As it travels."""
        return _empty(f"no {self.token}: {self.reason}")


def read_ask(payload: Payload) -> Ask | None:
    """The ask in this payload; None if there is none."""
    match = _ASK.fullmatch(payload.layout[0].name) if len(payload.layout) == 1 else None
    return None if match is None else Ask(int(match[1]), int(match[2]), int(match[3]))


def read_answer(payload: Payload) -> Given | NotGiven | None:
    """The answer in this payload, which has one array; None if there is none."""
    head = payload.layout[0].name
    refusal, match = _NOT_GIVEN.fullmatch(head), _GIVEN.fullmatch(head)
    if refusal is not None:
        return NotGiven(int(refusal[1]), refusal[2])
    if match is None:
        return None
    serial, chunk, chunks, nbytes = (int(match[number]) for number in range(1, 5))
    digest = None if match[6] == _NO_DIGEST else match[6]
    return Given(serial, chunk, chunks, nbytes, match[5], digest, int(match[7]))


def _empty(name: str) -> Payload:
    return Payload((ArrayLayout(name, (0,), "raw", 0),), b"")
