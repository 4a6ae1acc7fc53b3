"""How strategies make parcels: of a state for all neighbours of an exchange, and of mass or of a stream for each."""

from __future__ import annotations

from collections.abc import Sequence

from gossipdistill.ids import PeerName
from gossipdistill.learning.learner import Learner
from gossipdistill.learning.snapshot import model_arrays, not_finite, pack
from gossipdistill.messages import Content, DeliveryClass, Mode, Parcel, Payload
from gossipdistill.strategies.base import Strategy, View


def state_parcels(strategy: Strategy, payload: Payload, learner: Learner, view: View, key: str = "") -> list[Parcel]:
    """One parcel for all out-neighbours of this exchange; large payloads are announced, unless told otherwise."""
    if not view.out_neighbours:
        return []
    exchange = strategy.exchange
    mode = exchange.mode or (Mode.PUSH if payload.nbytes <= exchange.push_bytes_max else Mode.PULL)
    return [Parcel(view.out_neighbours, Content(strategy.topic, payload, learner.step, view.exchange, key), mode)]


def reliable_parcels(
    strategy: Strategy, payload: Payload, learner: Learner, view: View, to: Sequence[PeerName], weight: float = 0.0
) -> list[Parcel]:
    """One parcel of mass or of a stream for each of `to`, all with the same payload and push-sum weight."""
    delivery = DeliveryClass(strategy.delivery.value)
    content = Content(strategy.topic, payload, learner.step, view.exchange, "", delivery, weight, view.degree)
    return [Parcel((name,), content) for name in to]


def weights_parcels(strategy: Strategy, learner: Learner, view: View, key: str = "") -> list[Parcel]:
    """All parameters and buffers for the neighbours of this exchange; nothing when the training has diverged."""
    if not view.out_neighbours:
        return []
    arrays = model_arrays(learner.model, learner.shared)
    odd = not_finite(arrays)
    if odd is not None:
        learner.ledger.not_published(odd)
        return []
    return state_parcels(strategy, pack(arrays, strategy.exchange.encoding, learner.ledger), learner, view, key)
