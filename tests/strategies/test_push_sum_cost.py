"""Between two exchanges push-sum costs nothing that grows with the model: counts of operations, and no time."""

from __future__ import annotations

import pytest
import torch

from benchmarks.push_sum.kernels import profile_of
from benchmarks.push_sum.steps import PUSH_SUM, Lone

SIZE, PARAMETERS = "301,066", 301_066
OPTIMIZERS = {"sgd": None, "adamw": torch.optim.AdamW}


@pytest.mark.parametrize("back", [0, 2], ids=["w 0.25", "w 0.75"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("strategy", PUSH_SUM)
def test_between_exchanges_no_operation_is_of_the_size_of_the_model(strategy: str, optimizer: str, back: int) -> None:
    """`back` shares of the three that were sent have come back: the weight is not 1, and perhaps below the bound."""
    alone, gossip = (Lone.of(name, SIZE, 0.9, OPTIMIZERS[optimizer]) for name in ("isolated", strategy))
    for lone in (alone, gossip):
        lone.exchange_once(back if lone is gossip else 0)
    assert gossip.worker.gossip.held_weight() == pytest.approx(0.25 * (1 + back))
    ours, theirs = profile_of(gossip, 3), profile_of(alone, 3)
    assert ours.large == theirs.large, ours.beyond(theirs)
    assert ours.python_bytes < theirs.python_bytes + PARAMETERS // 2


def test_the_profile_sees_a_pass_over_the_model() -> None:
    """Or else it would prove nothing: an exchange makes some."""
    lone = Lone.of("sgp", SIZE, 0.9)
    lone.exchange_once(2)
    quiet = profile_of(lone, 2)
    lone.worker.gossip.endpoint.cadence.every_steps = 1
    busy = profile_of(lone, 2)
    lone.collect()
    assert quiet.large
    assert busy.beyond(quiet) or busy.python_bytes > quiet.python_bytes + 4 * PARAMETERS // 2
