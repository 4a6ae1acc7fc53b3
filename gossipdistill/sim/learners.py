"""Learners without torch, for storms: they use the mailbox as strategies do, and their sums can be checked exactly.

Each is a `Stepper` over one mailbox. What they post are real parcels with real bytes. Numbers that must add up are
float64; what travels is float32, and the sender keeps x - decode(encode(p x)), so that no encoding loses anything.
"""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from gossipdistill.ids import PeerName
from gossipdistill.mailbox import Mailbox
from gossipdistill.messages import (
    ArrayLayout,
    Arrival,
    Content,
    DeliveryClass,
    Mode,
    Parcel,
    Payload,
    Received,
    Returned,
    Settlement,
    arrivals_of,
)
from gossipdistill.sim.compute import Pace

MASS_TOPIC, STATE_TOPIC, STREAM_TOPIC = "mass", "state", "stream"


def packed(values: Sequence[float]) -> Payload:
    """Values [k] as float32."""
    body = struct.pack(f"<{len(values)}f", *values)
    return Payload((ArrayLayout("x", (len(values),), "raw", len(body)),), body)


def unpacked(payload: Payload) -> tuple[float, ...]:
    """The inverse of `packed`: [k]."""
    return struct.unpack(f"<{payload.nbytes // 4}f", bytes(payload.body))


def read(payload: Payload, count: int) -> tuple[float, ...] | None:
    """Exactly `count` finite values, checked as strategies check arrivals; None where it holds anything else."""
    values = unpacked(payload) if payload.nbytes == 4 * count else ()
    return values if values and all(map(math.isfinite, values)) else None


def _unknown(arrival: Arrival) -> Settlement:
    return Settlement(arrival.sender, arrival.topic, arrival.version, absorbed=False, reason="of no use here")


@dataclass(slots=True)
class Walker:
    """Push-sum (Kempe, Dobra and Gehrke 2003; Assran et al. 2019, 1811.10792, algorithm 1) on plain numbers.

    Holds x [k] and w; x / w estimates the mean of all initial x. At an exchange a share p of both goes to each of a few
    living neighbours whose links are free. An arrival of mass is refused with probability `refusal`, which returns it.
    A walker may be `idle` for a while: then nothing is taken and nothing is settled.
    """

    mailbox: Mailbox
    pace: Pace
    chance: random.Random
    x: list[float]
    w: float = 1.0
    every_steps: int = 3
    refusal: float = 0.0
    fan_out: int = 2
    idle_until_step: int = 0
    done_at_step: int = 1 << 60
    step_number: int = 0
    exchanges: int = 0
    parts_until_s: float | None = None
    """It leaves at this time at the latest."""

    def part(self, now: float) -> None:
        """Start ending: all mass goes to a peer that stays, within a second."""
        self.parts_until_s = now + 1.0

    def step(self, now: float) -> float | None:
        """Absorb or refuse what arrived; send a share every few steps."""
        self.step_number += 1
        if self.parts_until_s is not None:
            return self._part(now, self.parts_until_s)
        if self.step_number >= self.idle_until_step:
            verdicts = [self._judge(arrival) for arrival in self.mailbox.take()]
            self.mailbox.settle([verdict for verdict in verdicts if verdict is not None])
            if self.step_number % self.every_steps == 0:
                self._send()
        self.mailbox.report_progress(self.step_number, done=self.step_number >= self.done_at_step)
        return self.pace.next_s()

    def mass(self) -> tuple[float, ...]:
        """(w, x...), the mass that it holds."""
        return (self.w, *self.x)

    def mass_of(self, payload: Payload, weight: float) -> tuple[float, ...]:
        """(w, x...) of one parcel."""
        return (weight, *unpacked(payload))

    def _take_back(self, returned: Returned) -> None:
        values = read(returned.payload, len(self.x))
        if values is not None:
            self.w += returned.weight
            self.x = [mine + theirs for mine, theirs in zip(self.x, values, strict=True)]

    def _judge(self, arrival: Received) -> Settlement | None:
        if isinstance(arrival, Returned):
            self._take_back(arrival)
            return None
        if arrival.delivery is DeliveryClass.STATE:
            return None
        if arrival.delivery is DeliveryClass.STREAM:
            return _unknown(arrival)
        values = read(arrival.payload, len(self.x))
        not_today = self.chance.random() < self.refusal
        if values is None or not_today:
            return Settlement(arrival.sender, arrival.topic, arrival.version, absorbed=False, reason="not today")
        self.w += arrival.weight
        self.x = [mine + theirs for mine, theirs in zip(self.x, values, strict=True)]
        return Settlement(arrival.sender, arrival.topic, arrival.version, absorbed=True)

    def _part(self, now: float, until_s: float) -> float | None:
        arrivals = [arrival for arrival in self.mailbox.take() if arrival.delivery is DeliveryClass.MASS]
        for returned in (one for one in arrivals if isinstance(one, Returned)):
            self._take_back(returned)
        what = ((one.sender, one.topic, one.version) for one in arrivals if isinstance(one, Arrival))
        self.mailbox.settle([Settlement(*one, absorbed=False, reason="is leaving") for one in what])
        neighbourhood = self.mailbox.neighbourhood()
        self.mailbox.report_progress(self.step_number, done=True)
        successors = sorted(
            neighbourhood.alive - neighbourhood.done - self.mailbox.room.busy(MASS_TOPIC, DeliveryClass.MASS)
        )
        if self.w > 0.0 and successors:
            payload = packed(self.x)
            successor = PeerName(self.chance.choice(successors))
            content = Content(
                MASS_TOPIC, payload, self.step_number, self.exchanges, delivery=DeliveryClass.MASS, weight=self.w
            )
            self.mailbox.post(Parcel((successor,), content))
            self.x = [mine - gone for mine, gone in zip(self.x, unpacked(payload), strict=True)]
            self.w = 0.0
        return 0.01 if now < until_s and self.mailbox.room.in_flight() else None

    def _send(self) -> None:
        alive = sorted(self.mailbox.neighbourhood().alive)
        if self.chance.random() < 0.5:  # a learner that does not check busy links first learns it from `post`
            busy = self.mailbox.room.busy(MASS_TOPIC, DeliveryClass.MASS)
            alive = [name for name in alive if name not in busy]
        for to in self.chance.sample(alive, min(self.chance.randint(1, self.fan_out), len(alive))):
            share = self.chance.uniform(0.2, 0.6)
            payload = packed([share * value for value in self.x])
            weight = share * self.w
            content = Content(
                MASS_TOPIC, payload, self.step_number, self.exchanges, "", DeliveryClass.MASS, weight, len(alive)
            )
            parcel = Parcel((PeerName(to),), content)
            if self.mailbox.post(parcel):
                self.w -= weight
                self.x = [mine - gone for mine, gone in zip(self.x, unpacked(payload), strict=True)]
                self.exchanges += 1


@dataclass(slots=True)
class Publisher:
    """Publishes a rising number as a *state* to every living neighbour, and remembers the newest of each."""

    mailbox: Mailbox
    pace: Pace
    chance: random.Random
    mode: Mode = Mode.PUSH
    every_steps: int = 5
    fan_out: int = 1 << 30
    values: int = 2
    step_number: int = 0
    published: int = 0
    newest: dict[PeerName, int] = field(default_factory=dict)

    def step(self, now: float) -> float | None:
        """Take what arrived, publish every few steps."""
        self.step_number += 1
        for arrival in self.mailbox.take():
            if isinstance(arrival, Returned):
                continue
            if arrival.delivery is not DeliveryClass.STATE:
                self.mailbox.settle([_unknown(arrival)])
                continue
            values = read(arrival.payload, self.values)
            if values is not None:
                self.newest[arrival.sender] = int(values[0])
        if self.step_number % self.every_steps == 0:
            self._publish()
        self.mailbox.report_progress(self.step_number, done=False)
        return self.pace.next_s()

    def _publish(self) -> None:
        alive = sorted(self.mailbox.neighbourhood().alive)
        if len(alive) > self.fan_out:
            alive = sorted(self.chance.sample(alive, self.fan_out))
        self.published += 1
        if alive:
            payload = packed([float(self.published)] * self.values)
            to = tuple(PeerName(name) for name in alive)
            self.mailbox.post(Parcel(to, Content(STATE_TOPIC, payload, self.step_number, self.published), self.mode))


@dataclass(slots=True)
class Streamer:
    """Sends numbered frames in order to living neighbours, as CHOCO and lockstep rounds do; settles arrivals."""

    mailbox: Mailbox
    pace: Pace
    chance: random.Random
    every_steps: int = 3
    fan_out: int = 2
    step_number: int = 0
    frames: dict[PeerName, int] = field(default_factory=dict)
    """The number of frames sent to each peer."""

    def step(self, now: float) -> float | None:
        """Settle what arrived, send the next frame to a few neighbours with a free link."""
        self.step_number += 1
        arrivals = [one for one in arrivals_of(self.mailbox.take()) if one.delivery is not DeliveryClass.STATE]
        self.mailbox.settle([Settlement(a.sender, a.topic, a.version, absorbed=True) for a in arrivals])
        if self.step_number % self.every_steps == 0:
            self._send()
        self.mailbox.report_progress(self.step_number, done=False)
        return self.pace.next_s()

    def _send(self) -> None:
        alive = sorted(self.mailbox.neighbourhood().alive - self.mailbox.room.busy(STREAM_TOPIC, DeliveryClass.STREAM))
        for to in self.chance.sample(alive, min(self.fan_out, len(alive))):
            frame = self.frames.get(to, 0) + 1
            payload, number = packed([float(frame)]), self.step_number
            parcel = Parcel((to,), Content(STREAM_TOPIC, payload, number, frame, delivery=DeliveryClass.STREAM))
            if self.mailbox.post(parcel):
                self.frames[to] = frame
