"""The network between simulated processes: latency, bandwidth and loss per link, with the faults of a plan.

A message of `nbytes` that is handed over at time t arrives at

    t + wait for the sender's egress + wait for the link + nbytes / bandwidth + latency + jitter x Exp(1) + fault delay

or not at all. Control and data are separate connections, as on real sockets: small urgent messages do not queue behind
a large body on their link. Nothing here has a clock or an unseeded generator.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from gossipdistill.faults import LinkFaults
from gossipdistill.limits import Limits
from gossipdistill.messages import Envelope, Message, Piece, ReliableMessage, State
from gossipdistill.presence import Ack, Greeting, Nack, Ping, PingRequest
from gossipdistill.wire.codec import WireError, decode, encode

INFINITE = float("inf")


class Quality(NamedTuple):
    """One direction of one link. `loss` is a probability; without faults nothing is ever duplicated or corrupted."""

    latency_s: float = 0.001
    jitter_s: float = 0.0
    """The mean of an exponential extra delay; messages may overtake one another unless the network keeps them in
    order."""
    bytes_per_s: float = INFINITE
    loss: float = 0.0


class Journey(NamedTuple):
    """The arrival times of the copies of a message. `taken`: the socket accepted it; if not, the sender knows at
    once."""

    arrivals_s: tuple[float, ...]
    corrupt: bool = False
    taken: bool = True


_PERFECT = Quality()
_REFUSED = Journey((), taken=False)
_LOST = Journey(())


@dataclass(slots=True)
class Network:
    """All links. `quality` holds for every link that `links` does not name by (sender, recipient).

    `queue_s_max`: a link whose data queue is longer than this many seconds accepts no more, like a full socket.
    `refusal`: the probability that a socket accepts nothing for no reason that the sender can see (a connection that is
    being reopened), up to `refusal_until_s`. `in_order`: a message never overtakes another of the same connection, as
    in TCP.
    """

    quality: Quality = _PERFECT
    links: Mapping[tuple[str, str], Quality] = field(default_factory=dict)
    egress_bytes_per_s: float = INFINITE
    queue_s_max: float = 10.0
    refusal: float = 0.0
    refusal_until_s: float = INFINITE
    in_order: bool = False
    faults: LinkFaults | None = None
    seed: int = 0
    lost: int = 0
    refused: int = 0
    _random: random.Random = field(default_factory=random.Random)
    _link_free_s: dict[tuple[str, str], float] = field(default_factory=dict)
    _egress_free_s: dict[str, float] = field(default_factory=dict)
    _last_s: dict[tuple[str, str, bool], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._random.seed(f"network {self.seed}")

    def carry(self, sender: str, to: str, nbytes: int, is_data: bool, now_s: float) -> Journey:
        """The journey of a message of `nbytes` that `sender` hands over at `now_s` (seconds since the start)."""
        quality = self.links.get((sender, to), self.quality) if self.links else self.quality
        chance = self._random.random
        if self.refusal and now_s < self.refusal_until_s and chance() < self.refusal:
            self.refused += 1
            return _REFUSED
        leaves_s = now_s
        if quality.bytes_per_s < INFINITE or self.egress_bytes_per_s < INFINITE:
            queued_s = self._queue(sender, to, nbytes, is_data, quality, now_s)
            if queued_s is None:
                self.refused += 1
                return _REFUSED
            leaves_s = queued_s
        delays_s: tuple[float, ...] = (0.0,)
        corrupt = False
        if self.faults is not None:
            outcome = self.faults.outcome(sender, to, nbytes, now_s)
            delays_s, corrupt = outcome.delays_s, outcome.corrupt
        if not delays_s or (quality.loss and chance() < quality.loss):
            self.lost += 1
            return _LOST
        base_s = leaves_s + quality.latency_s
        if quality.jitter_s:
            expovariate, rate = self._random.expovariate, 1.0 / quality.jitter_s
            arrivals_s = tuple([base_s + delay_s + expovariate(rate) for delay_s in delays_s])
        else:
            arrivals_s = tuple([base_s + delay_s for delay_s in delays_s])
        if self.in_order:
            connection = (sender, to, is_data)
            arrivals_s = tuple([max(at_s, self._last_s.get(connection, 0.0)) for at_s in arrivals_s])
            self._last_s[connection] = max(arrivals_s)
        return Journey(arrivals_s, corrupt)

    def _queue(self, sender: str, to: str, nbytes: int, is_data: bool, quality: Quality, now_s: float) -> float | None:
        """The time at which the last byte leaves; None when the queue of the link is full."""
        begins_s = now_s
        if self.egress_bytes_per_s < INFINITE:
            begins_s = max(begins_s, self._egress_free_s.get(sender, 0.0))
        if is_data and quality.bytes_per_s < INFINITE:
            begins_s = max(begins_s, self._link_free_s.get((sender, to), 0.0))
        if begins_s - now_s > self.queue_s_max:
            return None
        ends_s = begins_s + nbytes / min(quality.bytes_per_s, self.egress_bytes_per_s)
        if self.egress_bytes_per_s < INFINITE:
            self._egress_free_s[sender] = begins_s + nbytes / self.egress_bytes_per_s
        if is_data and quality.bytes_per_s < INFINITE:
            self._link_free_s[sender, to] = ends_s
        return ends_s


_HEADER_BYTES = 48
_CLAIM_BYTES = 40
_CONTACT_BYTES = 60


def nbytes_of(message: Message) -> int:
    """The approximate number of bytes of this message on the wire: exact for the payload, a constant for the rest."""
    if isinstance(message, Ping | Ack | PingRequest | Nack):
        return _HEADER_BYTES + _CLAIM_BYTES * len(message.claims)
    if isinstance(message, State | ReliableMessage):
        return 2 * _HEADER_BYTES + message.payload.nbytes
    if isinstance(message, Piece):
        return _HEADER_BYTES + len(message.body)
    if isinstance(message, Greeting):
        return 3 * _HEADER_BYTES + _CONTACT_BYTES * len(message.contacts)
    return _HEADER_BYTES


def garble(envelope: Envelope, chance: random.Random, limits: Limits) -> tuple[str, str]:
    """(code, problem): the codec's verdict on this envelope after one bit of its head was flipped."""
    head, *body = encode(envelope)
    spoilt = bytearray(head)
    spoilt[chance.randrange(len(spoilt))] ^= 1 << chance.randrange(8)
    try:
        decode([bytes(spoilt), *body], limits)
    except WireError as error:
        return error.code.value, error.problem
    return "garbled", "a flipped bit that only a checksum would have found"
