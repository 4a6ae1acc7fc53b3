"""The table of strategies. A new one is a file of the shape of base.py and a line here."""

from __future__ import annotations

from gossipdistill.errors import ConfigError, nearest
from gossipdistill.strategies.adpsgd import Adpsgd
from gossipdistill.strategies.all_reduce import AllReduce
from gossipdistill.strategies.async_gradient_push import AsyncGradientPush
from gossipdistill.strategies.base import (
    NOTHING,
    Delivery,
    Exchange,
    Extent,
    Initialisation,
    LossTerm,
    Needs,
    Publication,
    Rounds,
    Strategy,
    View,
)
from gossipdistill.strategies.codistill_checkpoints import CodistillCheckpoints
from gossipdistill.strategies.codistill_groups import CodistillGroups
from gossipdistill.strategies.codistill_predictions import CodistillPredictions
from gossipdistill.strategies.concurrent_adversarial import ConcurrentAdversarial
from gossipdistill.strategies.decentlam import Decentlam
from gossipdistill.strategies.dmsgd import Dmsgd
from gossipdistill.strategies.dpsgd import Dpsgd
from gossipdistill.strategies.gossip_averaging import GossipAveraging
from gossipdistill.strategies.isolated import Isolated
from gossipdistill.strategies.leader_sgd import LeaderSgd
from gossipdistill.strategies.osgp import Osgp
from gossipdistill.strategies.self_distillation import SelfDistillation
from gossipdistill.strategies.sgp import Sgp

STRATEGIES: dict[str, type[Strategy]] = {
    strategy.name: strategy
    for strategy in (
        Isolated,
        SelfDistillation,
        CodistillPredictions,
        CodistillCheckpoints,
        CodistillGroups,
        GossipAveraging,
        LeaderSgd,
        Sgp,
        Osgp,
        AsyncGradientPush,
        Adpsgd,
        Dpsgd,
        ConcurrentAdversarial,
        Dmsgd,
        Decentlam,
        AllReduce,
    )
}


def strategy_of(name: str) -> type[Strategy]:
    """The strategy of this name.

    Raises:
        ConfigError: with the nearest names.
    """
    if name not in STRATEGIES:
        raise ConfigError(f"unknown strategy; {nearest(name, STRATEGIES)}", key="strategy.name", value=name)
    return STRATEGIES[name]


__all__ = [
    "NOTHING",
    "STRATEGIES",
    "Delivery",
    "Exchange",
    "Extent",
    "Initialisation",
    "LossTerm",
    "Needs",
    "Publication",
    "Rounds",
    "Strategy",
    "View",
    "strategy_of",
]
