"""Ctrl-C in the middle of a comparison: what is done is counted, what was cut short is not, and both are said."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest
from rich.console import Console

from gossipdistill.config.plan import Asked
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.launchers.compare import Comparison
from gossipdistill.observe import comparison
from gossipdistill.observe.records import AllScores, CompareRecord
from gossipdistill.observe.report import summarise, unknown_peer
from gossipdistill.observe.show import find_and_wait


class CutRun:
    """A run of which each is finished at once, but the fourth: of its two peers one has finished when Ctrl-C comes."""

    number: ClassVar[int] = 0
    score: ClassVar[float] = 0.5

    def __init__(self, specs: Sequence[WorkerSpec], folder: Path, watch: object, **policies: object) -> None:
        CutRun.number += 1
        cut = CutRun.number == 4
        statuses = ["finished", "interrupted" if cut else "finished"]
        accuracy = 0.01 if cut else CutRun.score + 0.1 * CutRun.number
        peers = [
            unknown_peer(spec.name).but(
                status=status,
                wall_s=4.2,
                val_accuracy=accuracy,
                val_loss=1.0,
                bytes_sent=0,
                cpu_s_per_step=0.001,
                steps=5,
            )
            for spec, status in zip(specs, statuses, strict=True)
        ]
        scores = AllScores(mean=accuracy, worst=accuracy, ensemble=None, over=2)
        summary = summarise(specs[0].config, peers, 5.0, 130 if cut else 0, folder)
        self.summary = summary.but(val_accuracy=scores)

    def run(self) -> int:
        return self.summary.exit_code


def drawn(summary: CompareRecord, width: int = 160) -> str:
    screen = Console(file=io.StringIO(), width=width, highlight=False)
    screen.print(comparison.render(summary))
    return screen.file.getvalue()  # type: ignore[attr-defined, no-any-return]


@pytest.fixture
def cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, CompareRecord, Path]:
    """Two strategies with three seeds, ended by Ctrl-C in the second strategy's run of the second seed."""
    for key in ("SET", "PEERS"):
        monkeypatch.delenv(f"GOSSIPDISTILL_{key}", raising=False)
    monkeypatch.setattr("gossipdistill.launchers.compare.LocalRun", CutRun)
    CutRun.number = 0
    asked = Asked(peers="2", steps=5, out=tmp_path)
    compare = Comparison(asked, ["isolated", "gossip_averaging"], [0, 1, 2], lambda title: lambda *_: None)
    return compare.run(), compare.summary, tmp_path


def test_newcomer_15_an_interrupted_compare_counts_the_seeds_that_finished(
    cut_short: tuple[int, CompareRecord, Path],
) -> None:
    code, summary, _ = cut_short
    assert code == 130
    alone, averaging = comparison.rows(summary)
    assert (alone.seeds, averaging.seeds) == (2, 1)
    assert alone.mean == (pytest.approx(70.0), pytest.approx(10.0))  # of 0.6 and 0.8
    assert averaging.mean == (pytest.approx(70.0), None)  # the 0.01 of the run that was cut short does not count
    assert averaging.finished == "2 of 2"
    text = " ".join(drawn(summary).split())
    for width in (160, 80):
        words = " ".join(drawn(summary, width).split())
        assert "alone, over 2 of 3 seeds" in words
        assert "by averaging weights, over 1 of 3 seeds" in words
    assert "over the seeds of 3 that finished" in text
    assert "interrupted; cut short and not counted: gossip_averaging with seed 1" in text


def test_newcomer_15_what_was_run_stays_readable_by_show(cut_short: tuple[int, CompareRecord, Path]) -> None:
    _, summary, out = cut_short
    read = find_and_wait(out, summary.name, 0.0, Console(file=io.StringIO()))
    assert read.plain() == summary.plain()


def test_newcomer_15_a_comparison_can_be_shown_before_its_first_run_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*args: object, **policies: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gossipdistill.launchers.compare.LocalRun", stop)
    compare = Comparison(Asked(peers="2", steps=5, out=tmp_path), ["isolated"], [0], lambda title: lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        compare.run()
    read = find_and_wait(tmp_path, None, 0.0, Console(file=io.StringIO()))
    assert isinstance(read, CompareRecord)
    assert read.runs == []
    assert "2 peers" in drawn(read)


def test_newcomer_15_strategies_that_were_not_begun_are_named(cut_short: tuple[int, CompareRecord, Path]) -> None:
    _, summary, _ = cut_short
    first = summary.but(runs=summary.runs[:1])
    assert "interrupted; not begun: gossip_averaging" in drawn(first)
    assert "interrupted" not in drawn(first.but(exit_code=0))
