"""60 random kills and restarts in ten minutes, as `python -m benchmarks.soak --short`; the hour is the benchmark's."""

import os
import sys

import pytest

from benchmarks.soak.__main__ import SHORT_DOWN_MAX, run_soak, verdicts

pytestmark = pytest.mark.bed

MINUTES = 14
KILLS, SECONDS, SEED, UNDISTURBED = 60, 600.0, 0, 3


def test_nothing_wears_out_under_sixty_kills(pytestconfig: pytest.Config) -> None:
    if not sys.platform.startswith("linux") or not os.path.exists("/proc/self/statm"):
        pytest.skip("soak: memory and descriptors are read from /proc")
    terminal = pytestconfig.pluginmanager.getplugin("terminalreporter")
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")

    def say(line: str) -> None:
        with capture.global_and_fixture_disabled():
            terminal.ensure_newline()
            terminal.write_line(line)

    say(f"soak, about {MINUTES} minutes, seed {SEED}")
    seen, found, orphans = run_soak(KILLS, SECONDS, SEED, UNDISTURBED, say, SHORT_DOWN_MAX)
    assert len(seen.cycles) == KILLS
    missed = [verdict.line() for verdict in verdicts(seen, found, orphans) if verdict.passed is not True]
    assert not missed, "\n".join([f"seed {SEED}", *missed])
