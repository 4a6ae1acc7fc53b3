"""The tasks that need no download: digits and quadratic, and the models."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from gossipdistill.errors import ConfigError
from gossipdistill.tasks import SHARD_KINDS, Shard, Task, fingerprint, load_task
from gossipdistill.tasks.digits import FILE
from gossipdistill.tasks.models import MODELS, cnn, image_model, mlp

FOUR = [Shard(index, 4, "label_skew") for index in range(4)]


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def rows(x: torch.Tensor) -> set[bytes]:
    return {row.numpy().tobytes() for row in x}


def train(task: Task, steps: int, lr: float, batch: int = 32) -> nn.Module:
    """Plain SGD on one thread."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = task.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    x, y = task.train
    for _ in range(steps):
        chosen = torch.randint(len(x), (batch,), generator=generator)
        optimizer.zero_grad()
        torch.autograd.backward(task.loss(model(x[chosen]), y[chosen]))
        optimizer.step()
    return model


def test_digits_have_the_shapes_that_they_tell() -> None:
    task = load_task("digits", FOUR[0], {})
    assert task.transfer is not None
    assert task.train[0].shape == (100, 1, 8, 8)
    assert task.train[1].shape == (100,)
    assert task.transfer.shape == (600, 1, 8, 8)
    assert task.validation[0].shape == (397, 1, 8, 8)
    assert task.train[0].dtype == torch.float32
    assert task.train[1].dtype == torch.int64
    assert task.classes == tuple("0123456789")
    assert task.distillable
    both = torch.cat([task.transfer, task.validation[0]])
    assert both.mean().abs() < 0.02
    assert abs(both.std() - 1) < 0.02


def test_pool_transfer_and_validation_share_no_digit() -> None:
    pooled = load_task("digits", Shard(0, 8, pooled=True), {})
    assert len(pooled.train[0]) == 800
    assert pooled.transfer is not None
    pool, transfer, validation = (rows(x) for x in (pooled.train[0], pooled.transfer, pooled.validation[0]))
    with np.load(FILE, allow_pickle=False) as stored:
        assert len({image.tobytes() for image in stored["images"]}) == 1797  # no digit is in the file twice
    assert (len(pool), len(transfer), len(validation)) == (800, 600, 397)
    assert len(pool | transfer | validation) == 1797


def test_pooled_is_the_union_of_the_shards() -> None:
    for how in SHARD_KINDS:
        union = [rows(load_task("digits", Shard(index, 4, how), {}).train[0]) for index in range(4)]
        pooled = load_task("digits", Shard(2, 4, how, pooled=True), {})
        assert rows(pooled.train[0]) == set().union(*union)
        assert len(pooled.train[0]) == (100 if how == "same" else 400)


def test_the_stored_digits_are_those_of_the_readme() -> None:
    text = FILE.with_name("README.md").read_text()
    with np.load(FILE, allow_pickle=False) as stored:
        for name in ("images", "labels"):
            assert hashlib.sha256(stored[name].tobytes()).hexdigest() in text
    assert hashlib.sha256(FILE.read_bytes()).hexdigest() in text
    assert FILE.stat().st_size < 50_000


def test_all_peers_have_one_fingerprint_in_every_process() -> None:
    code = (
        "from gossipdistill.tasks import *; import hashlib;"
        "task = load_task('digits', Shard(0, 4, 'label_skew'), {});"
        "print(fingerprint(task, 'digits'), hashlib.sha256(task.train[0].numpy()).hexdigest())"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    task = load_task("digits", FOUR[0], {})
    assert told == {f"{fingerprint(task, 'digits')} {hashlib.sha256(task.train[0].numpy().data).hexdigest()}\n"}
    assert len({str(fingerprint(load_task("digits", shard, {}), "digits")) for shard in FOUR}) == 1
    # Peers of different versions must agree as well: this value may never change.
    assert fingerprint(task, "digits")["transfer"] == "9da2d17dfd060df7"


def test_a_smaller_transfer_set_is_the_beginning_of_the_whole() -> None:
    whole, some = (load_task("digits", FOUR[0], {"transfer_examples": count}).transfer for count in (600, 50))
    assert whole is not None
    assert some is not None
    assert torch.equal(whole[:50], some)
    assert load_task("digits", FOUR[0], {"transfer_examples": 0}).transfer is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"transfer_examples": 601},
            "task.transfer_examples = 601: 600 unlabelled examples are set aside for transfer; accepted: 0 to 600",
        ),
        (
            {"transfer_examples": -1},
            "task.transfer_examples = -1: 600 unlabelled examples are set aside for transfer; accepted: 0 to 600",
        ),
        ({"model": "nlp"}, "task.model = 'nlp': no such model; did you mean mlp?; accepted: mlp, cnn"),
        ({"hidden": [0]}, "task.hidden = (0,): a layer needs a width of at least 1"),
        (
            {"modle": "cnn"},
            "task.modle = 'cnn': this task has no such option; did you mean model?; "
            "accepted: model, hidden, transfer_examples",
        ),
    ],
)
def test_digits_refuse_with_the_key(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_task("digits", FOUR[0], options)
    assert str(caught.value) == message


def test_too_many_digits_are_refused_with_the_largest_number() -> None:
    with pytest.raises(ConfigError, match=r"^task\.examples_per_peer = 201: .* accepted: 1 to 200$"):
        load_task("digits", Shard(0, 4, "label_skew", examples_per_peer=201), {})


def test_models_have_the_sizes_that_are_documented() -> None:
    assert parameters(mlp(64, 10)) == 8_970
    assert parameters(mlp(784, 10, (128, 128))) == 118_282
    assert parameters(cnn(8, 10)) == 9_050
    assert parameters(cnn(28, 10, (128,), (8, 16))) == 103_018
    assert parameters(mlp(64, 10, (512, 512))) == 301_066
    assert parameters(mlp(64, 10, ())) == 650


@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.parametrize("side", [8, 28])
@pytest.mark.parametrize("hidden", [None, (), (16,), (16, 8)])
def test_models_give_logits(name: str, side: int, hidden: tuple[int, ...] | None) -> None:
    model = image_model(name, side, 10, hidden)()
    assert model(torch.rand(3, 1, side, side)).shape == (3, 10)
    assert not list(model.buffers())


@pytest.mark.parametrize(("model", "least"), [("mlp", 0.80), ("cnn", 0.80)])
def test_plain_sgd_learns_digits(model: str, least: float) -> None:
    task = load_task("digits", Shard(0, 4), {"model": model})
    trained = train(task, steps=300, lr=0.05)
    task.check_model(trained)
    x, y = task.validation
    assert task.metrics["accuracy"](trained(x), y) > least


def test_a_quadratic_peer_alone_ends_at_its_own_centre() -> None:
    task = load_task("quadratic", Shard(1, 4, examples_per_peer=32), {"dim": 5, "noise": 0.3})
    centres = task.validation[1]
    optimum = centres.mean(0)
    assert centres.shape == (4, 5)
    assert not task.distillable
    assert task.transfer is None
    # Gradient descent on all its examples: noise sums to zero, so the least training loss is at the centre.
    point = task.model()
    optimizer = torch.optim.SGD(point.parameters(), lr=0.5)
    for _ in range(40):
        optimizer.zero_grad()
        torch.autograd.backward(task.loss(point(task.train[0]), task.train[1]))
        optimizer.step()
    out = point(task.validation[0])
    torch.testing.assert_close(out[0], centres[1], atol=1e-5, rtol=1e-5)
    assert task.metrics["distance_to_optimum"](out, centres) == pytest.approx(
        (centres[1] - optimum).norm().item(), 1e-4
    )


def test_the_validation_loss_of_the_quadratic_is_the_formula() -> None:
    task = load_task("quadratic", Shard(0, 6), {"dim": 3, "spread": 2.0})
    centres = task.validation[1]
    optimum = centres.mean(0)
    spread = 0.5 * (centres - optimum).square().sum(1).mean()
    at_optimum = optimum.expand(6, -1)
    assert task.loss(at_optimum, centres).item() == pytest.approx(spread.item(), rel=1e-5)
    assert task.metrics["distance_to_optimum"](at_optimum, centres) == pytest.approx(0.0, abs=1e-6)
    # In parts as well: the metric does not depend on how validation is cut into batches.
    assert task.metrics["distance_to_optimum"](at_optimum[:1], centres[:1]) == pytest.approx(0.0, abs=1e-6)
    away = at_optimum + 1.0
    assert task.loss(away, centres).item() == pytest.approx(spread.item() + 0.5 * 3, rel=1e-5)


def test_quadratic_shards() -> None:
    def centres(shard: Shard) -> torch.Tensor:
        return load_task("quadratic", shard, {"noise": 0.0}).validation[1]

    four = Shard(0, 4)
    assert torch.equal(centres(four), centres(replace(four, index=3)))
    assert torch.equal(centres(four), centres(replace(four, count=9))[:4])
    assert torch.equal(centres(four), centres(replace(four, how="label_skew")))
    assert not torch.equal(centres(four), centres(replace(four, seed=1)))
    same = centres(replace(four, how="same"))
    assert torch.equal(same, same[:1].expand(4, -1))
    pooled = load_task("quadratic", replace(four, pooled=True), {})
    torch.testing.assert_close(pooled.train[1].mean(0), centres(four).mean(0), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 0}, "task.dim = 0: is too small; accepted: 1 or more"),
        ({"noise": -1}, "task.noise = -1.0: is too small; accepted: 0 or more"),
        ({"spread": -0.5}, "task.spread = -0.5: is too small; accepted: 0 or more"),
    ],
)
def test_quadratic_refuses_with_the_key(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_task("quadratic", Shard(0, 4), options)
    assert str(caught.value) == message
