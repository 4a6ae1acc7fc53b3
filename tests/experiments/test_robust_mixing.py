"""The experiment on robust mixing in small: a fifth of its steps."""

from __future__ import annotations

import pytest

from experiments.robust_mixing import run as experiment


@pytest.mark.parametrize("rule", ["clip", "trimmed_mean"])
def test_most_of_the_gossip_gain_survives_dissensus(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, "STEPS", 80)
    alone = experiment.run("alone", None, 0)
    gain = experiment.run("none", None, 0) - alone
    assert gain >= 15.0
    assert experiment.run("none", experiment.dissensus, 0) < alone
    assert experiment.run(rule, experiment.dissensus, 0) - alone >= 0.8 * gain
