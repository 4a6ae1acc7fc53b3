"""What is said of a process that ended without a result."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from gossipdistill.launchers.processes import how_it_ended, processes_ended_for_memory


def test_an_end_in_words() -> None:
    assert how_it_ended(None) == "did not end in time and was killed"
    assert how_it_ended(3) == "exit code 3"
    assert how_it_ended(-signal.SIGKILL) == "killed by SIGKILL"
    assert (
        how_it_ended(-signal.SIGKILL, memory_was_short=True)
        == "killed by SIGKILL, because memory ran out: exit code 137"
    )
    assert how_it_ended(-signal.SIGTERM, memory_was_short=True) == "killed by SIGTERM"
    assert how_it_ended(-signal.SIGABRT) == "killed by SIGABRT, exit code 134: its stderr.log says why"


def test_the_kernel_counts_whom_it_ended_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    told = ["nr_free_pages 12\noom_kill 7\nswap_ra 0\n"]
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: told[0])
    assert processes_ended_for_memory() == 7
    told[0] = "nr_free_pages 12\n"
    assert processes_ended_for_memory() == 0
