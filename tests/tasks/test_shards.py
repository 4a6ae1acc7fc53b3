"""Dealing: what each way promises, for any pool and any number of peers."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gossipdistill.errors import ConfigError
from gossipdistill.tasks.base import ShardKind
from gossipdistill.tasks.shards import SHARD_KINDS, Shard, deal_skewed, frozen_random, main_classes


def balanced(pool: int, classes: int) -> torch.Tensor:
    return torch.arange(pool) % classes


def parts(shard: Shard, labels: torch.Tensor) -> list[list[int]]:
    return [replace(shard, index=i).deal(labels).tolist() for i in range(shard.count)]


pools = st.builds(
    lambda peers, share, spare, classes, seed: (peers, share, peers * share + spare, classes, seed),
    st.integers(1, 12),
    st.integers(1, 40),
    st.integers(0, 50),
    st.integers(1, 12),
    st.integers(0, 2**32),
)


@settings(deadline=None, max_examples=60)
@given(pools, st.sampled_from(["disjoint", "label_skew"]), st.floats(0, 1), st.integers(1, 5))
def test_shards_are_disjoint_equal_and_within_the_pool(
    world: tuple[int, int, int, int, int], how: ShardKind, skew: float, main: int
) -> None:
    peers, share, pool, classes, seed = world
    labels = torch.from_numpy(frozen_random(seed).randint(classes, size=pool))
    shard = Shard(0, peers, how, share, seed, skew=skew, classes_per_peer=main)
    dealt = parts(shard, labels)
    assert [len(part) for part in dealt] == [share] * peers
    together = [index for part in dealt for index in part]
    assert len(set(together)) == len(together)
    assert all(0 <= index < pool for index in together)
    assert all(part == sorted(part) for part in dealt)
    assert replace(shard, pooled=True).deal(labels).tolist() == sorted(together)


@given(st.integers(1, 6), st.integers(1, 30), st.integers(0, 99))
def test_same_gives_everybody_the_same(peers: int, share: int, seed: int) -> None:
    labels = balanced(30, 3)
    shard = Shard(0, peers, "same", share, seed)
    dealt = parts(shard, labels)
    assert all(part == dealt[0] and len(part) == share for part in dealt)
    assert replace(shard, pooled=True).deal(labels).tolist() == dealt[0]


@settings(deadline=None)
@given(st.integers(1, 8), st.integers(3, 10), st.integers(0, 5), st.integers(0, 10), st.integers(1, 4))
def test_skewed_shards_have_the_asked_fraction_of_main_classes(
    peers: int, classes: int, seed: int, tenths: int, main: int
) -> None:
    share, skew = 60, tenths / 10
    labels = balanced(peers * share * classes, classes)  # so many that no class runs short
    for index, part in enumerate(
        parts(Shard(0, peers, "label_skew", share, seed, skew=skew, classes_per_peer=main), labels)
    ):
        counts = torch.bincount(labels[part], minlength=classes)
        mine = main_classes(index, peers, classes, main)
        assert counts[mine].sum() == round(skew * share)
        assert counts[mine].max() - counts[mine].min() <= 1
        others = [label for label in range(classes) if label not in mine]
        assert counts[others].max() - counts[others].min() <= 1


def test_four_peers_have_three_main_classes_each_and_cover_all_ten() -> None:
    mains = [main_classes(i, 4, 10, 3) for i in range(4)]
    assert mains == [[0, 1, 2], [2, 3, 4], [5, 6, 7], [7, 8, 9]]


def test_two_classes_can_be_skewed_too() -> None:
    labels = balanced(400, 2)
    shares = [labels[part].float().mean().item() for part in parts(Shard(0, 4, "label_skew"), labels)]
    assert shares == pytest.approx([0.06, 0.06, 0.94, 0.94])


def test_a_class_that_runs_short_is_shared_out_and_the_gap_filled() -> None:
    labels = torch.tensor([0] * 10 + [1] * 100 + [2] * 100 + [3] * 100)
    dealt = deal_skewed(labels.numpy(), count=2, share=100, skew=1.0, classes_per_peer=2, seed=0)
    counts = [torch.bincount(labels[torch.from_numpy(part)], minlength=4).tolist() for part in dealt]
    assert counts == [[10, 90, 0, 0], [0, 0, 50, 50]]  # peer 0 lacks 40 of class 0, and gets its other main class


def test_all_is_dealt_where_nobody_names_a_number() -> None:
    assert [len(Shard(i, 3).deal(balanced(100, 5))) for i in range(3)] == [33, 33, 33]
    assert len(Shard(0, 3, "same").deal(balanced(100, 5))) == 100


def test_the_tasks_default_gives_way_to_a_small_pool_and_to_the_run() -> None:
    labels = balanced(800, 10)
    assert len(Shard(0, 4).deal(labels, default=100)) == 100
    assert len(Shard(0, 16).deal(labels, default=100)) == 50
    assert len(Shard(0, 4, examples_per_peer=7).deal(labels, default=100)) == 7


def test_dealing_is_the_same_in_every_process() -> None:
    code = (
        "import torch; from gossipdistill.tasks import SHARD_KINDS, Shard;"
        "print([Shard(1, 4, how, 20, seed=3).deal(torch.arange(400) % 10).tolist() for how in SHARD_KINDS])"
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
    here = [Shard(1, 4, how, 20, seed=3).deal(torch.arange(400) % 10).tolist() for how in SHARD_KINDS]
    assert told == {f"{here}\n"}


def test_the_stream_is_the_one_that_numpy_froze() -> None:
    # Peers with different versions of NumPy must deal alike: this line may never change.
    assert frozen_random(7).permutation(10).tolist() == [4, 5, 9, 8, 1, 7, 6, 0, 2, 3]


def test_another_seed_deals_otherwise() -> None:
    labels = balanced(400, 10)
    for how in SHARD_KINDS:
        assert Shard(0, 4, how, 50, 1).deal(labels).tolist() != Shard(0, 4, how, 50, 2).deal(labels).tolist()


@pytest.mark.parametrize(
    ("shard", "labels", "message"),
    [
        (
            Shard(0, 4, examples_per_peer=300),
            balanced(800, 10),
            "task.examples_per_peer = 300: 4 x 300 examples are more than the pool of 800; accepted: 1 to 200",
        ),
        (
            Shard(0, 2, "same", 900),
            balanced(800, 10),
            "task.examples_per_peer = 900: 1 x 900 examples are more than the pool of 800; accepted: 1 to 800",
        ),
        (
            Shard(0, 20, "label_skew"),
            balanced(10, 2),
            "task.shards = 'label_skew': a pool of 10 examples is too small for 20 shards of their own; "
            "accepted: at most 10 peers, or same",
        ),
        (
            Shard(0, 2, "label_skew"),
            torch.rand(8),
            "task.shards = 'label_skew': regression labels cannot be skewed: label_skew needs class numbers "
            "[examples], these labels are float32 [8]; accepted: disjoint, same",
        ),
        (
            Shard(0, 2, "label_skew"),
            torch.zeros(8, 2, dtype=torch.long),
            "task.shards = 'label_skew': regression labels cannot be skewed: label_skew needs class numbers "
            "[examples], these labels are int64 [8, 2]; accepted: disjoint, same",
        ),
        (
            Shard(0, 2, "label_skew"),
            torch.tensor([-1, 0, 1]),
            "task.shards = 'label_skew': class numbers start at 0, found -1",
        ),
    ],
)
def test_what_cannot_be_dealt_says_why(shard: Shard, labels: torch.Tensor, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        shard.deal(labels)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"how": "label_scew"},
            "task.shards = 'label_scew': no such way to deal; did you mean label_skew?; "
            "accepted: disjoint, same, label_skew",
        ),
        ({"index": 4}, "shard = '5/4': is out of range; accepted: K/N with 1 <= K <= N"),
        ({"index": -1}, "shard = '0/4': is out of range; accepted: K/N with 1 <= K <= N"),
        ({"seed": -1}, "seed = -1: is out of range; accepted: 0 or more"),
        ({"skew": 1.5}, "task.skew = 1.5: is out of range; accepted: 0.0 to 1.0"),
        ({"classes_per_peer": 0}, "task.classes_per_peer = 0: is out of range; accepted: 1 or more"),
        ({"examples_per_peer": 0}, "task.examples_per_peer = 0: is out of range; accepted: 1 or more"),
    ],
)
def test_a_shard_out_of_range_is_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Shard(**{"index": 0, "count": 4, **wrong})  # type: ignore[arg-type]
    assert str(caught.value) == message
