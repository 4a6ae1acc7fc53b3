"""train.clip_norm: as the strategy says, unless the user has said something."""

from __future__ import annotations

import pytest

from gossipdistill.config.schema import RunConfig
from gossipdistill.strategies import STRATEGIES

AVERAGING = {
    "gossip_averaging",
    "sgp",
    "osgp",
    "async_gradient_push",
    "adpsgd",
    "dpsgd",
    "dmsgd",
    "decentlam",
    "all_reduce",
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_default_is_the_strategys_and_an_explicit_value_wins(name: str) -> None:
    def bound(**train: object) -> object:
        config = RunConfig.model_validate({"strategy": {"name": name}, "train": train})
        return config.gradient_rules().clip_norm

    assert bound() == (None if name in AVERAGING else "auto")
    assert bound(clip_norm="off") is None
    assert bound(clip_norm="auto") == "auto"
    assert bound(clip_norm=2) == 2.0
