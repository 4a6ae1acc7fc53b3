"""The end of a peer's training while others go on: what it still absorbs, what it leaves behind, what it refuses."""

from __future__ import annotations

from gossipdistill.strategies.base import Delivery
from gossipdistill.training.gossip import Gossip


def finish(gossip: Gossip, now: float) -> None:
    """Absorb the mass that has come meanwhile, after the last step and before the model is evaluated."""
    if gossip.strategy.delivery is Delivery.MASS:
        gossip.learner.now_s = now
        gossip.mix(gossip.endpoint.arrivals(), now)


def publish_final(gossip: Gossip, now: float) -> None:
    """Leave the final state with the neighbours, for those that still train. Mass stays, and a stream ends."""
    if not gossip.strategy.delivery.settled:
        gossip.learner.now_s = now
        gossip.publish(gossip.endpoint.view([], now), now)


def serve(gossip: Gossip, now: float) -> None:
    """Serve between the last step and the end of the others: mass returns to the peers that still train."""
    if not gossip.strategy.delivery.settled:
        return
    gossip.learner.now_s = now
    gossip.endpoint.refuse_all("done training")
    if gossip.strategy.delivery is Delivery.STREAM:
        gossip.endpoint.settle([])  # a stream that has ended is mixed no more
    elif gossip.endpoint.returned or gossip.learner.settlements:
        gossip.mix([], now)
