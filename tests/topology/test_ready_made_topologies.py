"""The files at the top of the repository, and the figures that their README states."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gossipdistill import bundled
from gossipdistill.errors import GossipdistillError
from gossipdistill.roster import load_roster
from gossipdistill.topology import KINDS, judge, list_topologies, load_topology

README = bundled.read_text(bundled.ready_made("topologies") / "README.md")


def test_each_kind_without_required_keys_has_its_file() -> None:
    names = {name for name, _ in bundled.listing("topologies")}
    assert KINDS.keys() - {"edges", "phases"} <= names
    for kind in KINDS:
        assert f"| `{kind}` |" in README


@pytest.mark.parametrize("name", [name for name, _ in bundled.listing("topologies")])
def test_four_local_peers_can_use_it(name: str) -> None:
    assert judge(load_topology(name, load_roster("4").names)).strongly_connected


@pytest.mark.parametrize(
    "kind",
    ["ring", "directed_ring", "complete", "star", "exponential", "one_peer_exponential", "random_regular", "torus"],
)
def test_the_spectral_gaps_in_the_readme(kind: str) -> None:
    (row,) = re.findall(
        rf"^\| `{kind}`[^|\n]*\|[^|\n]*\|([^|\n]*)\|([^|\n]*)\|([^|\n]*)\|$", README, flags=re.MULTILINE
    )
    for n, cell in zip((4, 8, 16), row, strict=True):
        judgement = judge(load_topology(kind, load_roster(str(n)).names))
        stated = re.fullmatch(r"([\d.]+)(?: \(after (\d+)\))?", cell.strip())
        assert stated is not None
        assert judgement.spectral_gap == pytest.approx(float(stated[1]), abs=6e-4)
        if stated[2]:
            assert judgement.exact_after == int(stated[2])


@pytest.mark.parametrize("name", [name for name, _ in bundled.listing("peers")])
def test_ready_made_rosters_load_and_are_in_their_readme(name: str) -> None:
    assert load_roster(name).names
    assert f"`{name}`" in bundled.read_text(bundled.ready_made("peers") / "README.md")


def test_every_ready_made_roster_has_a_description() -> None:
    for name, file in bundled.listing("peers"):
        assert 20 < len(bundled.summary(file)) < 120, name


def test_an_installed_package_uses_its_own_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site-packages" / "gossipdistill"
    (package / "ready_made" / "topologies").mkdir(parents=True)
    (package / "ready_made" / "topologies" / "only.toml").write_text("# The only one.\nkind = 'ring'\n")
    monkeypatch.setattr(bundled, "__file__", str(package / "shelf.py"))
    assert list_topologies() == [("only", "The only one.")]
    with pytest.raises(GossipdistillError, match="lacks its folder of ready-made peers") as caught:
        load_roster("local-4")
    assert caught.value.exit_code == 1
