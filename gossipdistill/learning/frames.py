"""One round of symmetric mixing with the frames of the neighbours: what the strategies in lockstep share, as functions.

    send         my vector of this round goes to the neighbours whose links are free
    take         their frames of this round and of the next are kept; each is settled, once
    correction   sum_j W_ij (x_j - x_i) over those whose frame is here; the share of the others stays with me

W_ij = 1 / (1 + max(d_i, d_j)) (Metropolis; Xiao, Boyd and Kim 2007, section 1), from the degrees that the frames carry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from gossipdistill.ids import PeerName
from gossipdistill.learning.flat import Coordinates
from gossipdistill.learning.learner import Learner
from gossipdistill.learning.norms import judge_size
from gossipdistill.learning.rounds import AHEAD_MAX
from gossipdistill.learning.snapshot import PayloadRefusedError, not_finite
from gossipdistill.messages import Arrival, Payload


@dataclass(slots=True)
class Frame:
    """The vector of a neighbour in one round: `x` [P], and the number of neighbours that it mixes with."""

    x: Tensor
    degree: int
    arrived_s: float


@dataclass(slots=True)
class Mixing:
    """`sent` [P] is my vector of the round in progress as the neighbours read it, and None once that round is mixed;
    `recipients` have it."""

    coordinates: Coordinates
    round: int = -1
    sent: Tensor | None = None
    recipients: tuple[PeerName, ...] = ()
    frames: dict[tuple[PeerName, int], Frame] = field(default_factory=dict)


def send(
    mixing: Mixing, learner: Learner, x: Tensor, to: Sequence[PeerName], round: int, encoding: str
) -> Payload | None:
    """The payload of my frame x [P] of this round; None without a recipient, or when x is not finite."""
    mixing.sent, mixing.recipients = None, tuple(to)
    if not mixing.recipients:
        return None
    odd = not_finite(mixing.coordinates.by_name(x))
    if odd is not None:
        learner.ledger.not_published(odd)
        return None
    payload = mixing.coordinates.pack(x, encoding, learner.ledger)
    # This is what the others will decode, so that x_i and x_j change by opposite amounts, to the last bit.
    mixing.sent = mixing.coordinates.unpack(payload).to(x.device)
    mixing.round = round
    return payload


def take(mixing: Mixing, learner: Learner, arrivals: list[Arrival], round: int) -> None:
    """Keep the frames of `round` and of the one after, and settle them all. An older one is not used."""
    for arrival in arrivals:
        try:
            x = mixing.coordinates.unpack(arrival.payload)
            judge_size(arrival.sender, [x], learner)
        except PayloadRefusedError as refused:
            learner.refuse(arrival, refused.reason)
            learner.ledger.quarantine(arrival.sender, refused.reason, str(refused))
            continue
        learner.absorb(arrival)
        if round <= arrival.exchange <= round + AHEAD_MAX:
            mixing.frames[arrival.sender, arrival.exchange] = Frame(x, arrival.degree, arrival.arrived_s)


def correction(mixing: Mixing, learner: Learner, round: int) -> Tensor | None:
    """sum_j W_ij (x_j - x_i) [P] of `round`, once; None when I have sent no frame of it."""
    total: Tensor | None = None
    if mixing.sent is not None and mixing.round == round:
        degree = len(mixing.recipients)
        total = mixing.sent.new_zeros(len(mixing.sent))
        for name in mixing.recipients:
            frame = mixing.frames.get((name, round))
            if frame is not None:
                total += (frame.x.to(total.device) - mixing.sent) / (1 + max(degree, frame.degree))
                learner.ledger.applied(name, 0, learner.now_s - frame.arrived_s)
                learner.ledger.exchanged(name, learner.now_s)
        mixing.sent = None
    mixing.frames = {key: frame for key, frame in mixing.frames.items() if key[1] > round}
    return total
