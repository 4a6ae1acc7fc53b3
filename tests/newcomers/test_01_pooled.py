"""1. `compare` with a topology that names peers failed on its own default row `pooled`."""

from __future__ import annotations

from pathlib import Path

import pytest

from gossipdistill.assembly.building import build_schedule
from gossipdistill.launchers.compare import POOLED, Row
from gossipdistill.launchers.preflight import check
from tests.newcomers.common import comparison

TOPOLOGIES = {
    "edges": 'kind = "edges"\nboth_ways = true\nedges = [["ada", "bo"], ["cy", "dee"], ["bo", "cy"]]\n',
    "hub": 'kind = "star"\nhub = "bo"\n',
    "phases": 'kind = "phases"\nboth_ways = true\nphases = [[["ada", "bo"], ["cy", "dee"]], [["bo", "cy"]]]\n',
    "degree": 'kind = "random_regular"\ndegree = 3\n',
    "grid": 'kind = "torus"\nrows = 2\n',
}


@pytest.mark.parametrize("kind", TOPOLOGIES)
def test_the_pooled_row_needs_nothing_of_a_topology(kind: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(TOPOLOGIES[kind])
    compared = comparison(tmp_path, "mine.toml", ["isolated", POOLED])
    for name in compared.strategies:
        specs = compared.plan(Row(name, 0))
        assert check(specs).examples.used == (400 if name == POOLED else 100)
    (alone,) = specs
    assert build_schedule(alone, alone.config.make_strategy()).out_neighbours("ada", 0) == ()
    assert alone.resolved.as_json()["topology"] == {"value": "complete", "from": "compare: one worker alone"}
