"""Stalls from made-up step times, and what the survival benchmark makes of made-up runs."""

from __future__ import annotations

import copy
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.kit.stalls import Steps, quantile, read_moments, steps
from benchmarks.survival.__main__ import PLAIN, SECURED, Repeat, report, rival_table, verdicts
from benchmarks.survival.rivals import NAMES, Outcome, Rival, why_absent
from benchmarks.survival.runs import AGAIN, FAULTS, NONE, Times, specs_of, with_keys
from gossipdistill.keys.secrets import read_secret
from gossipdistill.roster import read_roster


def moments(*gaps_s: float) -> list[float]:
    """A step is over at 100, and after each gap one more."""
    found = [100.0]
    for gap_s in gaps_s:
        found.append(found[-1] + gap_s)
    return found


def test_padded_steps_lose_nothing() -> None:
    found = steps(moments(*[0.02] * 100), 100.5, 101.5, step_time_s=0.02)
    assert (found.made, found.lost) == (50, 0)
    assert found.longest_s == pytest.approx(0.02)


def test_a_step_that_was_held_up_counts_whole_wherever_the_window_begins() -> None:
    found = steps(moments(*[0.02] * 10, 2.0, *[0.02] * 10), 101.0, 102.4, step_time_s=0.02)
    assert found.longest_s == pytest.approx(2.0)
    assert found.lost in (98, 99)  # of 2 s, at 20 ms


def test_one_that_says_nothing_more_is_held_up_to_the_end_unless_it_has_ended() -> None:
    assert steps(moments(0.02, 0.02), 100.0, 110.0, step_time_s=0.02).longest_s == pytest.approx(9.96)
    assert steps(moments(0.02, 0.02), 100.0, 110.0, step_time_s=0.02, ended=True).longest_s == pytest.approx(0.02)
    assert steps([], 100.0, 110.0, step_time_s=0.02) == Steps(0, 0.0, 0.0, 0)


def test_a_torn_last_reading_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "steps.f64"
    assert read_moments(file) == []
    file.write_bytes(struct.pack("2d", 1.0, 2.0) + b"torn")
    assert read_moments(file) == [1.0, 2.0]


def test_a_quantile_is_one_of_the_values() -> None:
    assert quantile([float(value) for value in range(1, 101)], 0.99) == 99.0
    assert quantile([3.0], 0.99) == 3.0


def run(p99_s: float = 0.021) -> dict[str, Any]:
    """Figures of one run in which all is well."""
    each = {"made": 500, "p99_s": p99_s, "longest_s": p99_s, "lost": 0}
    pairs = {f"{one} > {other}": 5.0 for one in NAMES[:3] for other in NAMES[:3] if one != other}
    return {
        "steps": {name: dict(each) for name in NAMES[:3]},
        "p99_s": p99_s,
        "exchanges_per_s": pairs,
        "accuracy": [0.95] * 3,
    }


def good() -> Repeat:
    """One repeat in which all is well."""
    return {kind: {fault: run() for fault in (NONE, AGAIN, *FAULTS)} for kind in (PLAIN, SECURED)}


NAN = {"quarantined": {name: {"dee: not_finite": 9} for name in NAMES[:3]}, "val_loss": dict.fromkeys(NAMES[:3], 0.1)}


def failed(repeats: list[Repeat], nan: dict[str, Any]) -> list[str]:
    return [verdict.target for verdict in verdicts(repeats, nan) if not verdict.passed]


def test_a_good_run_passes() -> None:
    assert failed([good()] * 3, NAN) == []


SPOILT: dict[str, Callable[[dict[str, Any]], object]] = {
    "lose no step": lambda found: found["steps"]["bo"].update(lost=1),
    "p99": lambda found: found.update(p99_s=0.0222),
    "exchanges": lambda found: found["exchanges_per_s"].pop("bo > ada"),
    "accuracy": lambda found: found.update(accuracy=[0.95, 0.95, 0.92]),
}


@pytest.mark.parametrize("target", SPOILT)
def test_each_target_can_be_missed(target: str) -> None:
    repeats = [copy.deepcopy(good()) for _ in range(3)]
    for repeat in repeats:
        SPOILT[target](repeat[SECURED][FAULTS[0]])
    [missed] = failed(repeats, NAN)
    assert target in missed
    assert missed.startswith(f"{SECURED}, {FAULTS[0]}: ")


def test_a_machine_that_is_noisy_without_any_fault_is_given_its_noise() -> None:
    repeats = [copy.deepcopy(good()) for _ in range(3)]
    for repeat in repeats:
        repeat[PLAIN][FAULTS[0]]["p99_s"] = 0.0222
        repeat[PLAIN][AGAIN]["p99_s"] = 0.0218
    assert failed(repeats, NAN) == []


def test_nan_that_one_survivor_has_not_counted_or_has_taken_in_is_missed() -> None:
    assert failed([], NAN | {"quarantined": {"ada": {"dee: not_finite": 9}, "bo": {}, "cy": None}}) != []
    assert failed([], NAN | {"val_loss": {"ada": 0.1, "bo": None, "cy": 0.1}}) != []


def test_the_report_names_who_is_absent_and_who_still_waits() -> None:
    still = Outcome("hivemind", FAULTS[1], {"ada": 120.0}, {"ada": 6000}, ["ada"], {"ada": {"good": 1, "bad": 2}})
    broken = Outcome("torchft", FAULTS[0], problems=["no lighthouse"])
    about = {"command": "python", "date": "now", "cores": 2, "processor": "one", "load_at_start": [0], "versions": {}}
    text = "\n".join(report(about, "sgp", Times(), [good()], NAN, ([still, broken], {"flwr": "not installed"}), True))
    assert "120.0 s (not done in time)" in text
    assert "no lighthouse" in text
    assert "SKIP flwr: not installed" in text
    assert len(rival_table([still, broken])) == 4


def test_a_system_that_is_not_there_says_why(tmp_path: Path) -> None:
    assert why_absent(Rival("hivemind", tmp_path / "python")) == f"no Python at {tmp_path / 'python'}"


def test_secured_workers_have_keys_of_their_own_and_one_roster(tmp_path: Path) -> None:
    specs = with_keys(tmp_path / "secured", specs_of(tmp_path, "gossip_averaging", 0, Times(), None))
    files = [spec.keys for spec in specs if spec.keys is not None]
    assert len(files) == 4
    pairs = [read_secret(file.secret, spec.name) for file, spec in zip(files, specs, strict=True)]
    assert len({pair.secret for pair in pairs}) == 4
    [roster] = {file.roster for file in files}
    assert roster is not None
    trusted = read_roster(roster).trusted
    assert dict(trusted) == {spec.name: pair.public for spec, pair in zip(specs, pairs, strict=True)}
