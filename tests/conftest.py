"""Options of the test run, and what `make test` may run side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling

WHOLE_RUNS = ("tests/processes/", "tests/docs/")
"""Tests below these paths start many processes, promise times and use fixed ports."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--regenerate", action="store_true", help="Write the transcripts of tests/transcripts anew; review the diff."
    )


def group_of(nodeid: str) -> str:
    """Whole runs go one after another in one process, which begins with them (the largest group is first); every other
    test is a group of its own and goes to whichever process is free."""
    return "whole runs" if nodeid.startswith(WHOLE_RUNS) else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    # Not `--dist loadgroup`: it renames the tests of a group, and does not with every release of pytest.
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return Groups(config, log)
