"""What is shown of a topology."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from gossipdistill.errors import ConfigError
from gossipdistill.observe.topology_view import plot, render
from gossipdistill.topology import KINDS, Schedule, generators, judge


def names(n: int) -> tuple[str, ...]:
    return tuple(f"p{k}" for k in range(n))


def shown(schedule: Schedule, visited_every: int = 1) -> str:
    console = Console(width=110)
    with console.capture() as capture:
        console.print(render(schedule, judge(schedule, visited_every)))
    return capture.get()


def test_the_links_and_the_judgement_are_said_in_words() -> None:
    text = shown(generators.one_peer_exponential(names(4)))
    assert "one_peer_exponential: 4 peers, repeats after 2 exchanges" in text
    assert "p0 -> p1" in text
    assert "p0 <-> p2" in text
    assert "averages exactly after 2 exchanges in lock step" in text


def test_groups_that_never_meet_are_shown() -> None:
    text = shown(generators.edges(names(4), edges=[["p0", "p1"], ["p2", "p3"]], both_ways=True))
    assert "no: p0, p1 | p2, p3" in text
    assert "links between them" not in text
    assert "one way only" in shown(generators.edges(names(2), edges=[["p0", "p1"]]))


def test_equal_exchanges_are_shown_once_and_many_links_cut_short() -> None:
    phases = [[["p0", "p1"]]] * 3 + [[["p1", "p0"]]]
    text = shown(generators.phases(names(2), phases=phases))
    assert "exchanges 0 to 2" in text
    assert "exchange 3" in text
    assert "and 96 more" in shown(generators.complete(names(16)))


@pytest.mark.parametrize("kind", ["ring", "one_peer_exponential", "torus"])
def test_a_drawing_is_written(kind: str, tmp_path: Path) -> None:
    schedule = KINDS[kind](names(8))
    plot(schedule, judge(schedule), tmp_path / "graph.png")
    assert (tmp_path / "graph.png").read_bytes().startswith(b"\x89PNG")


def test_a_drawing_that_cannot_be_is_refused(tmp_path: Path) -> None:
    schedule = generators.ring(names(4))
    with pytest.raises(ConfigError, match="cannot be written"):
        plot(schedule, judge(schedule), tmp_path / "no" / "graph.png")
    with pytest.raises(ConfigError, match="cannot be written"):
        plot(schedule, judge(schedule), tmp_path / "graph.nonsense")
    many = generators.directed_ring(names(201))
    with pytest.raises(ConfigError, match="would be black"):
        plot(many, judge(many), tmp_path / "graph.png")
