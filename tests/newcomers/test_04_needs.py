"""4. The documents, `strategy show` and behaviour agree on what each strategy needs."""

from __future__ import annotations

import io
import re
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from rich.console import Console

from gossipdistill.assembly.building import build_schedule
from gossipdistill.cli.pages import STRATEGIES_PAGE, strategies_table, with_table
from gossipdistill.config.plan import Asked, plan_local
from gossipdistill.errors import NeedsError
from gossipdistill.observe.catalogue import describe_strategy, needs_words, waits_words
from gossipdistill.strategies import STRATEGIES, Initialisation, Needs, Strategy
from tests.newcomers.common import simulated
from tests.strategies.elastic_pull import ElasticPull

REPOSITORY = Path(__file__).parent.parent.parent


ONE_WAY, BOTH_WAYS, APART = "directed_ring", "ring", "apart.toml"


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_is_refused_exactly_the_topologies_that_it_declares_unfit(name: str, tmp_path: Path) -> None:
    (tmp_path / APART).write_text('kind = "edges"\nboth_ways = true\nedges = [["bo", "cy"]]\n')
    needs = STRATEGIES[name].needs

    def accepted(topology: str) -> bool:
        spec = plan_local(Asked(peers="3", topology=topology, strategy=name, out=tmp_path))[0]
        try:
            build_schedule(spec, spec.config.make_strategy())
        except NeedsError:
            return False
        return True

    assert accepted(BOTH_WAYS)
    assert accepted(ONE_WAY) is not needs.symmetric
    assert accepted(APART) is not (needs.strongly_connected or needs.initialisation is Initialisation.GROUPS)


def test_adpsgd_needs_neither_links_both_ways_nor_a_bipartite_graph(tmp_path: Path) -> None:
    assert "bipartite" in str(STRATEGIES["adpsgd"].__doc__) + str(sys.modules[STRATEGIES["adpsgd"].__module__].__doc__)
    found = {}
    for name in ("adpsgd", "isolated"):
        line = {"strategy": name, "topology": ONE_WAY, "seconds": 15.0, "settings": ["exchange.every_steps=2"]}
        found[name] = simulated(tmp_path, **line).figures.consensus_distance
    assert found["adpsgd"] < 0.1 * found["isolated"]


def test_the_table_of_strategies_is_what_they_declare() -> None:
    page = (REPOSITORY / STRATEGIES_PAGE).read_text()
    assert with_table(page) == page, "run: python -m gossipdistill.cli.pages"
    rows = [line.strip("| ").split(" | ") for line in strategies_table().splitlines()[2:]]
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row[0])]
    assert sorted(named) == sorted(STRATEGIES)
    for names, _, needs, waits in rows:
        for name in re.findall(r"`(\w+)`", names):
            assert needs == (", ".join(needs_words(STRATEGIES[name])) or "nothing")
            assert waits == waits_words(STRATEGIES[name])


@pytest.mark.parametrize("name", STRATEGIES)
def test_strategy_show_says_the_same(name: str) -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(describe_strategy(name))
    needs = "; ".join(needs_words(STRATEGIES[name])) or "nothing"
    assert re.search(rf"^needs\s+{re.escape(needs)}\s*$", console.export_text(), flags=re.M)


def test_needs_are_words_of_the_declaration_and_of_nothing_else() -> None:
    declared = {field.name for field in fields(Needs)} - {"initialisation"}
    for name in declared:
        asks = type("Asks", (Strategy,), {**vars(ElasticPull), "needs": Needs(**{name: True})})
        assert len(needs_words(asks)) == 1
    assert needs_words(STRATEGIES["concurrent_adversarial"]) == [
        "floating-point inputs",
        "one architecture with `helpers`",
    ]
