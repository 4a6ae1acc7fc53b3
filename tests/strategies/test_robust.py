"""Averaging with a liar among the neighbours, in the tests' world."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from gossipdistill.learning.snapshot import load_arrays, pack
from gossipdistill.messages import Neighbourhood, Parcel
from gossipdistill.strategies import strategy_of

from .world import World, make_strategy, make_worker

NAMES = ("ada", "bo", "cy", "dee", "mal")
ROBUST = ("clip", "trimmed_mean", "median")


class Lying(World):
    """A world in which `mal` sends something else than its weights."""

    def carry(self, name: str, now: float) -> None:
        if name == "mal":
            mailbox = self.workers["mal"].gossip.endpoint.mailbox
            for _, parcel in mailbox.collect().parcels:
                mailbox.post(self.bent(parcel))
        super().carry(name, now)

    @staticmethod
    def bent(parcel: Parcel) -> Parcel:
        shapes = {array.name: array.shape for array in parcel.payload.layout}
        return parcel.with_content(payload=pack({key: torch.full(shape, 5.0) for key, shape in shapes.items()}, "raw"))


def world_of(kind: type[World], robust: str, **options: object) -> World:
    return kind(
        {
            name: make_worker(name, make_strategy("gossip_averaging", every_steps=5, robust=robust, **options), NAMES)
            for name in NAMES
        }
    )


def accuracy(world: World) -> float:
    honest = [world.workers[name] for name in NAMES if name != "mal"]
    return sum(worker.evaluate()[1]["accuracy"] for worker in honest) / len(honest)


@pytest.mark.parametrize("robust", ROBUST)
def test_a_liar_spoils_the_plain_mean_and_not_the_gain_of_a_robust_one(robust: str) -> None:
    """He, Karimireddy and Jaggi 2022 (2202.01545): one neighbour sends a constant, of a size that is believed."""
    calm, plain, defended = world_of(World, "none"), world_of(Lying, "none"), world_of(Lying, robust)
    alone = world_of(World, "none")
    for worker in alone.workers.values():
        worker.gossip.endpoint.mailbox.tell(Neighbourhood(), ())
    for step in range(60):
        for world in (calm, plain, defended, alone):
            world.step(step * 0.1)
    gain = accuracy(calm) - accuracy(alone)
    assert gain > 0.15
    assert accuracy(plain) < accuracy(alone)
    assert accuracy(defended) - accuracy(alone) > 0.8 * gain


@pytest.mark.parametrize("robust", ROBUST)
def test_versions_are_counted_once_with_a_rule_as_without(robust: str) -> None:
    world = world_of(World, robust)
    for step in range(20):
        world.step(step * 0.1)
    for worker in world.workers.values():
        assert {link.exchanges for link in worker.learner.ledger.links.values()} == {3}


def test_the_memory_belongs_to_the_strategy_and_is_not_the_model() -> None:
    """What a neighbour sent last is not changed by what comes of it here."""
    world = world_of(World, "clip")
    for step in range(6):
        world.step(step * 0.1)
    ada = world.workers["ada"]
    before = {key: tensor.clone() for key, tensor in ada.gossip.state.known["bo"].arrays.items()}
    load_arrays(ada.learner.model, {key: torch.zeros_like(tensor) for key, tensor in before.items()})
    assert all(torch.equal(before[key], ada.gossip.state.known["bo"].arrays[key]) for key in before)


def test_mass_is_never_bent() -> None:
    """A strategy that conserves something has no such option: it refuses a parcel whole or takes it whole."""
    with pytest.raises(ValidationError, match="robust"):
        strategy_of("sgp").options_type.model_validate({"robust": "clip"})
