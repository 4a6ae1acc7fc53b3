"""A whole model for a newcomer: asked for and given chunk by chunk, as states like any other.

    newcomer                                      donor
    ask "0 0 t": whatever you have     ---->      pins its model as version s, and
                                       <----      gives chunk 0 of it, with the number of chunks and bytes
    ask "s k t"                        ---->
                                       <----      gives chunk k; with the last one, the digest of the whole

What each says is in learning/transfer_words.py. What is lost on the way is sent again by the protocol, and what a
broken connection has interrupted goes on with the chunk that was asked for. t is the newcomer's token, and comes back
with each answer: what was said to the process before it, which had its name, is passed on to it as well.

Rules of this file
1. All chunks of a state are of one version of one process: (boot, s). Another boot begins anew, with another donor.
2. A donor pins two versions at most; a third takes the place of the older. It gives `bytes_per_s` at most to all
   together, one chunk at a time to each, and hashes what it gives as it goes: its trainer never waits for that.
3. Nothing is used before all of it has come and its digest is right.
4. Only strategies whose peers share their weights, and begin with the same, give or ask. Elsewhere weights are private.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gossipdistill.events import EventKind
from gossipdistill.ids import PeerName
from gossipdistill.learning.learner import Learner
from gossipdistill.learning.ledger import Ledger
from gossipdistill.learning.snapshot import all_finite, model_arrays, pack
from gossipdistill.learning.transfer_words import Ask, Given, NotGiven, read_answer, read_ask
from gossipdistill.messages import Arrival, Content, DeliveryClass, Parcel, Payload

ASK, GIVEN = "@ask", "@state"
TOPICS = frozenset((ASK, GIVEN))
CHUNK_BYTES = 1 << 20
PINS_MAX = 2
ASKERS_MAX = 64
"""The asks of this number of peers are remembered at the same time; the others ask again."""
PIN_FRESH_S = 5.0
"""A version that was pinned within this time (s) is given to the next newcomer as well."""
PIN_IDLE_S = 30.0
"""A version that no peer has asked for during this time (s) is released."""
DONOR_AFTER_S = 5.0
"""A peer that has trained for less (s) in this process has nothing to give: it may be a newcomer itself."""
LOOK_AROUND_S = 2.0
"""A newcomer waits this time (s) for others to be there; the first peer of a run finds none."""
TIMEOUT_S = 5.0
"""A donor is passed over when no further chunk of it comes for this time (s)."""
DONORS_MAX = 3
"""A newcomer asks at most this number of donors, then goes on from its own model."""
TOKENS = 10**9
"""A token is less than this."""


def ask_parcel(donor: PeerName, serial: int, chunk: int, step: int, token: int = 0) -> Parcel:
    """An ask for a chunk of a version; serial 0: of whichever the donor likes."""
    return Parcel((donor,), Content(ASK, Ask(serial, chunk, token).payload(), step, 0))


@dataclass(slots=True)
class Pin:
    """One version that is being given away. `body` are all shared arrays of the model, each in its own type."""

    body: memoryview
    made_s: float
    used_s: float
    hashed: int = 0
    digest: Any = field(default_factory=hashlib.sha256)

    @property
    def chunks(self) -> int:
        """The number of chunks."""
        return -(-len(self.body) // CHUNK_BYTES)

    def part(self, chunk: int) -> memoryview:
        """The bytes of a chunk."""
        return self.body[chunk * CHUNK_BYTES : (chunk + 1) * CHUNK_BYTES]


@dataclass(slots=True)
class Donor:
    """The state that this peer gives to newcomers. `kind` names the shape of the model. A `bytes_per_s` of 0 is no
    limit."""

    kind: str
    bytes_per_s: float = 0.0
    pins: dict[int, Pin] = field(default_factory=dict)
    asked: dict[PeerName, tuple[Ask, int]] = field(default_factory=dict)
    """The newest ask of each peer, with that peer's step, in the order in which they are to be answered."""
    serial: int = 0
    _free_s: float = 0.0

    def ask(self, arrival: Arrival) -> str:
        """Note an ask. Returns what is wrong with it, in words; empty if nothing is."""
        ask = read_ask(arrival.payload)
        if ask is None:
            return "asks for a state in an unknown form"
        if arrival.sender in self.asked or len(self.asked) < ASKERS_MAX:
            self.asked.pop(arrival.sender, None)
            self.asked[arrival.sender] = (ask, arrival.step)
        return ""

    def answers(self, now: float, learner: Learner, trained_s: float) -> list[Parcel]:
        """The answers that may be given now, by this learner that has trained for `trained_s` seconds in this
        process."""
        self.pins = {serial: pin for serial, pin in self.pins.items() if now - pin.used_s < PIN_IDLE_S}
        parcels = []
        while self.asked and now >= self._free_s:
            asker, (ask, its_step) = next(iter(self.asked.items()))
            del self.asked[asker]
            problem = "" if ask.serial else self._problem(learner, its_step, trained_s) or self._renew(learner, now)
            payload = NotGiven(ask.token, problem).payload() if problem else self._chunk(ask, now)
            if ask.chunk == 0 and payload.nbytes:
                learner.ledger.note(EventKind.DONATES, asker, f"my model, {learner.step} steps old")
            parcels.append(Parcel((asker,), Content(GIVEN, payload, learner.step, 0)))
            if self.bytes_per_s > 0.0:
                self._free_s = max(now, self._free_s) + payload.nbytes / self.bytes_per_s
        return parcels

    @staticmethod
    def _problem(learner: Learner, its_step: int, trained_s: float) -> str:
        if learner.step <= its_step:
            return "I am no further than you"
        return "" if trained_s >= DONOR_AFTER_S else f"I have trained for less than {DONOR_AFTER_S:g} s myself"

    def _chunk(self, ask: Ask, now: float) -> Payload:
        serial, chunk = ask.serial or self.serial, ask.chunk
        pin = self.pins.get(serial)
        if pin is None:
            return NotGiven(ask.token, "I no longer hold that version").payload()
        if chunk > pin.hashed or chunk >= pin.chunks:
            return NotGiven(ask.token, "chunks are given in order").payload()
        if chunk == pin.hashed:
            pin.digest.update(pin.part(chunk))
            pin.hashed += 1
        pin.used_s = now
        digest = pin.digest.hexdigest() if chunk == pin.chunks - 1 else None
        given = Given(serial, chunk, pin.chunks, len(pin.body), self.kind, digest, ask.token)
        return given.payload(pin.part(chunk))

    def _renew(self, learner: Learner, now: float) -> str:
        """Make sure that the newest pin is fresh. Returns why it is not, in words."""
        newest = self.pins.get(self.serial)
        if newest is not None and now - newest.made_s < PIN_FRESH_S:
            return ""
        arrays = model_arrays(learner.model, learner.shared)
        if not all_finite(arrays):
            return "my own training has diverged"
        self.serial += 1
        self.pins[self.serial] = Pin(memoryview(pack(arrays, "raw").body).cast("B"), now, now)
        for serial in sorted(self.pins)[:-PINS_MAX]:
            del self.pins[serial]
        return ""


@dataclass(slots=True)
class Fetch:
    """The part of a donor's state that a newcomer has. `kind` and `nbytes` are those of its own model, so nothing else
    is taken in. `body` is complete when `whole`; `over` when no donor is left to be asked."""

    kind: str
    nbytes: int
    step: int = 0
    token: int = 0
    """The token is another than that of the process before me."""
    donor: PeerName | None = None
    body: bytearray = field(default_factory=bytearray)
    whole: bool = False
    over: bool = False
    passed_over: dict[PeerName, str] = field(default_factory=dict)
    """Nothing is awaited of these donors any more, for these reasons."""
    news: list[tuple[PeerName, str]] = field(default_factory=list)
    """These are the donors that were passed over since the owner looked last, and why."""
    _boot: int | None = None
    serial: int = 0
    _chunk: int = 0
    _digest: Any = field(default_factory=hashlib.sha256)
    _moved_s: float | None = None
    _asked: bool = False

    def look(self, now: float, here: Sequence[PeerName]) -> list[Parcel]:
        """The asks to send now; `here` are the living peers that may be asked, the best first."""
        if self._moved_s is None:
            self._moved_s = now
        if self.whole or self.over:
            return []
        if self.donor is not None and self.donor not in here:
            self.pass_over("is not there any more", now)
        elif self.donor is not None and now - self._moved_s >= TIMEOUT_S:
            self.pass_over(f"has given nothing for {TIMEOUT_S:g} s", now)
        if self.donor is None:
            self.donor = next((name for name in here if name not in self.passed_over), None)
            if self.donor is None or len(self.passed_over) >= DONORS_MAX:
                self.donor = None
                self.over = bool(here) or bool(self.passed_over) or now - self._moved_s >= LOOK_AROUND_S
                return []
            self._moved_s, self._asked = now, False
        if self._asked:
            return []
        self._asked = True
        return [ask_parcel(self.donor, self.serial, self._chunk, self.step, self.token)]

    def take(self, arrival: Arrival, now: float) -> None:
        """Take in one answer."""
        if arrival.sender != self.donor or self.whole or len(arrival.payload.layout) != 1:
            return
        answer = read_answer(arrival.payload)
        if answer is None:
            self.pass_over("gives a state in an unknown form", now)
        elif answer.token != self.token:
            return
        elif isinstance(answer, NotGiven):
            self.pass_over(answer.reason, now)
        else:
            self._take_chunk(answer, arrival, now)

    def _take_chunk(self, given: Given, arrival: Arrival, now: float) -> None:
        boot = arrival.version.boot
        its_size = (given.kind, given.nbytes, given.chunks)
        if its_size != (self.kind, self.nbytes, -(-given.nbytes // CHUNK_BYTES)):
            self.pass_over("its model is unlike mine", now)
        elif self._boot is not None and (self._boot, self.serial) != (boot, given.serial):
            self.pass_over("is another process, or gives another version, than the one that I began with", now)
        elif given.chunk == self._chunk:
            self._boot, self.serial = boot, given.serial
            self._add(arrival.payload, given.chunk == given.chunks - 1, given.digest, now)

    def _add(self, payload: Payload, last: bool, digest: str | None, now: float) -> None:
        expected = self.nbytes - self._chunk * CHUNK_BYTES if last else CHUNK_BYTES
        if payload.nbytes != expected:
            self.pass_over("a chunk has another length than it should", now)
            return
        self.body += payload.body
        self._digest.update(payload.body)
        self._chunk, self._moved_s, self._asked = self._chunk + 1, now, False
        if last and self._digest.hexdigest() != digest:
            self.pass_over("what came is not what it sent: the digest is another", now)
        elif last:
            self.whole = True

    def pass_over(self, reason: str, now: float) -> None:
        """Nothing of this donor is used; begin anew with the next."""
        assert self.donor is not None
        self.passed_over[self.donor] = reason
        self.news.append((self.donor, reason))
        self.donor, self.whole, self.body = None, False, bytearray()
        self._boot, self.serial, self._chunk, self._digest = None, 0, 0, hashlib.sha256()
        self._moved_s, self._asked = now, False


def without_asks(arrivals: list[Arrival], donor: Donor | None, ledger: Ledger) -> list[Arrival]:
    """The arrivals that are for the strategy: asks go to the donor, and chunks that are not awaited any more are
    dropped."""
    about = [arrival for arrival in arrivals if arrival.topic in TOPICS and arrival.delivery is DeliveryClass.STATE]
    if not about:
        return arrivals
    for arrival in about:
        if arrival.topic == ASK:
            problem = "asks for weights, which are not given here" if donor is None else donor.ask(arrival)
            if problem:
                ledger.quarantine(arrival.sender, "asks_for_state", problem)
    return [arrival for arrival in arrivals if not any(arrival is one for one in about)]
