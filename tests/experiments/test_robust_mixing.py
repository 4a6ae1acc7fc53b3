"""The experiment on robust mixing in small: a fifth of its steps."""

from __future__ import annotations

import pytest

from experiments.robust_mixing import run as experiment


@pytest.fixture(scope="module")
def alone_and_together() -> tuple[float, float]:
    """Accuracy without gossip, and with it when nobody lies."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "STEPS", 80)
        return experiment.run("alone", None, 0), experiment.run("none", None, 0)


@pytest.mark.parametrize("rule", ["clip", "trimmed_mean", "median"])
def test_most_of_the_gossip_gain_survives_dissensus(
    rule: str, alone_and_together: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiment, "STEPS", 80)
    alone, together = alone_and_together
    assert together - alone >= 15.0
    assert experiment.run(rule, experiment.dissensus, 0) - alone >= 0.8 * (together - alone)


def test_dissensus_is_worse_than_training_alone_where_everybody_is_believed(
    alone_and_together: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiment, "STEPS", 80)
    assert experiment.run("none", experiment.dissensus, 0) < alone_and_together[0]
