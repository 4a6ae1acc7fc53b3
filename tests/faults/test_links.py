"""What each kind of fault does to messages, and that chance depends on the seed and the link alone."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipdistill.faults import FaultPlan, LinkFaults, Outcome
from gossipdistill.faults.links import LOST, UNBENT

NAMES = ("ada", "bo", "cy", "dee")
MANY = 4000


def bent(*faults: dict[str, Any], seed: int = 7) -> LinkFaults:
    return LinkFaults(FaultPlan.model_validate({"seed": seed, "fault": list(faults)}), NAMES)


def fates(links: LinkFaults, sender: str = "ada", to: str = "bo", at_s: float = 1.0) -> list[Outcome]:
    return [links.outcome(sender, to, 100, at_s) for _ in range(MANY)]


def near(share: float) -> Any:
    """Four standard deviations of a share of `MANY`."""
    return pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / MANY))


def test_drop_loses_its_share() -> None:
    links = bent({"kind": "drop", "peer": "ada", "probability": 0.3})
    lost = fates(links).count(LOST)
    assert lost / MANY == near(0.3)
    assert links.fired == {"drop": lost}


def test_certain_loss_loses_everything() -> None:
    assert set(fates(bent({"kind": "drop", "peer": "*", "probability": 1}))) == {LOST}


def test_delay_adds_its_seconds() -> None:
    assert set(fates(bent({"kind": "delay", "link": ["ada", "bo"], "seconds": 0.25}))) == {Outcome((0.25,))}


def test_jitter_is_uniform() -> None:
    delays_s = [outcome.delays_s[0] for outcome in fates(bent({"kind": "jitter", "peer": "bo", "seconds": 0.5}))]
    assert 0 <= min(delays_s) < 0.01 < 0.49 < max(delays_s) < 0.5
    assert sum(delays_s) / MANY == pytest.approx(0.25, abs=4 * 0.5 / math.sqrt(12 * MANY))


def test_reorder_holds_its_share_back() -> None:
    links = bent({"kind": "reorder", "peer": "bo", "probability": 0.2, "seconds": 2})
    held = fates(links).count(Outcome((2.0,)))
    assert held / MANY == near(0.2)
    assert links.fired["reorder"] == held


def test_duplicate_sends_a_second_copy_later() -> None:
    links = bent({"kind": "duplicate", "peer": "bo", "probability": 0.4, "seconds": 0.2})
    twice = [outcome for outcome in fates(links) if len(outcome.delays_s) == 2]
    assert len(twice) / MANY == near(0.4)
    assert all(outcome.delays_s[0] == 0 <= outcome.delays_s[1] < 0.2 for outcome in twice)
    assert links.fired["duplicate"] == len(twice)


def test_corrupt_spoils_its_share() -> None:
    links = bent({"kind": "corrupt", "peer": "bo", "probability": 0.1})
    spoilt = fates(links).count(Outcome((0.0,), corrupt=True))
    assert spoilt / MANY == near(0.1)
    assert links.fired["corrupt"] == spoilt


def test_one_way_closes_one_direction() -> None:
    links = bent({"kind": "one_way", "link": ["ada", "*"]})
    assert links.outcome("ada", "cy", 1, 0.0) == LOST
    assert links.outcome("cy", "ada", 1, 0.0) == UNBENT
    assert links.fired == {"one_way": 1}


@pytest.mark.parametrize(
    ("groups", "open_links"),
    [
        ([["ada", "bo"], ["cy", "dee"]], {"ada-bo", "bo-ada", "cy-dee", "dee-cy"}),
        ([["ada", "bo"]], {"ada-bo", "bo-ada", "cy-dee", "dee-cy"}),
        ([["ada"], ["bo"]], {"cy-dee", "dee-cy"}),
        ("halves", {"ada-bo", "bo-ada", "cy-dee", "dee-cy"}),
    ],
)
def test_a_partition_lets_messages_pass_within_a_group_only(groups: Any, open_links: set[str]) -> None:
    links = bent({"kind": "partition", "groups": groups})
    passed = {f"{a}-{b}" for a in NAMES for b in NAMES if a != b and links.outcome(a, b, 1, 0.0) == UNBENT}
    assert passed == open_links


def test_a_rate_limit_queues_and_then_loses() -> None:
    links = bent({"kind": "rate_limit", "link": ["ada", "bo"], "bytes_per_s": 1024, "wait_max_s": 0.75})
    waits = [links.outcome("ada", "bo", 512, 10.0) for _ in range(4)]
    assert waits[:2] == [Outcome((0.5,)), Outcome((1.0,))]
    assert waits[2:] == [LOST, LOST]
    assert links.outcome("bo", "ada", 512, 10.0) == UNBENT
    assert links.outcome("ada", "bo", 512, 11.0) == Outcome((0.5,))
    assert links.fired["rate_limit"] == 5


def test_faults_of_one_link_add_up() -> None:
    links = bent(
        {"kind": "delay", "link": ["ada", "*"], "seconds": 1},
        {"kind": "delay", "link": ["*", "bo"], "seconds": 2},
        {"kind": "duplicate", "peer": "ada", "probability": 1, "seconds": 0},
    )
    assert links.outcome("ada", "bo", 1, 0.0) == Outcome((3.0, 3.0))
    assert links.outcome("cy", "bo", 1, 0.0) == Outcome((2.0,))


def test_a_window_begins_and_ends() -> None:
    links = bent(
        {"kind": "drop", "peer": "*", "from_s": 2, "to_s": 4, "probability": 1},
        {"kind": "delay", "peer": "*", "from_s": 3, "seconds": 1},
    )
    times_s = [0.0, 1.99, 2.0, 3.0, 3.99, 4.0, 1e9, 2.5, -1.0]
    outcome = [links.outcome("ada", "bo", 1, at_s) for at_s in times_s]
    late = Outcome((1.0,))
    assert outcome == [UNBENT, UNBENT, LOST, LOST, LOST, late, late, LOST, UNBENT]
    assert [links.next_border_s(at_s) for at_s in (-1, 0, 2, 3.5, 4)] == [2, 2, 3, 4, math.inf]


NOISE = (
    {"kind": "drop", "peer": "*", "probability": 0.3},
    {"kind": "jitter", "peer": "*", "seconds": 0.3},
    {"kind": "duplicate", "peer": "*", "probability": 0.3},
    {"kind": "corrupt", "link": ["*", "bo"], "probability": 0.3},
)


@given(st.integers(0, 2**32), st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), max_size=60))
def test_other_links_do_not_shift_the_chances_of_one(seed: int, traffic: list[tuple[str, str]]) -> None:
    busy, quiet = bent(*NOISE, seed=seed), bent(*NOISE, seed=seed)
    among = [busy.outcome(*link, 10, 1.0) for link in traffic]
    mine = [outcome for link, outcome in zip(traffic, among, strict=True) if link == ("ada", "bo")]
    assert mine == [quiet.outcome("ada", "bo", 10, 1.0) for _ in mine]


def test_seeds_and_links_differ() -> None:
    one = bent(*NOISE, seed=1)
    assert fates(one)[:50] != fates(bent(*NOISE, seed=2))[:50]
    assert fates(one, "ada", "cy")[:50] != fates(one, "cy", "ada")[:50]


def test_a_seed_of_the_caller_overrides_that_of_the_plan() -> None:
    plan = FaultPlan.model_validate({"seed": 1, "fault": list(NOISE)})
    assert fates(LinkFaults(plan, NAMES, seed=9))[:50] == fates(bent(*NOISE, seed=9))[:50]


def test_fates_do_not_depend_on_the_hash_seed() -> None:
    program = (
        "from gossipdistill.faults import *\n"
        "plan = FaultPlan.model_validate({'seed': 3, 'fault': [\n"
        "    {'kind': 'drop', 'peer': '*', 'probability': 0.5},\n"
        "    {'kind': 'partition', 'groups': [['ada', 'bo']], 'from_s': 2},\n"
        "    {'kind': 'kill', 'peer': '*', 'share': 0.5, 'at_s': 1}]})\n"
        "names = ['ada', 'bo', 'cy', 'dee']\n"
        "links = LinkFaults(plan, names)\n"
        "print([links.outcome(a, b, 1, t) for t in (1, 2) for a in names for b in names if a != b])\n"
        "print(ProcessFaults(plan, names).due(9))\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
