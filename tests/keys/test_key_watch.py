"""Keys that change while a worker runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gossipdistill.keys.issuing import new, revoke, trust
from gossipdistill.keys.watching import KeyWatch
from gossipdistill.roster import read_roster


def test_each_change_of_keys_is_told_once_and_a_broken_file_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "lab.toml"
    peers = [f'[[peer]]\nname = "{name}"\naddress = "127.0.0.1:0"\n' for name in ("ada", "bo")]
    file.write_text("\n".join(peers))
    new(file)
    keys = read_roster(file).trusted
    told: list[tuple[Mapping[str, str], frozenset[str]]] = []
    warned: list[str] = []
    watch = KeyWatch(file, lambda *news: told.append(news), warned.append)

    def look() -> list[list[str]]:
        watch.look()
        watch.look()
        return [sorted(trusted) for trusted, _ in told]

    assert look() == [["ada", "bo"]]
    revoke(file, "bo")
    assert look() == [["ada", "bo"], ["ada"]]
    whole = file.read_text()
    file.write_text(whole[:-20])
    assert look() == [["ada", "bo"], ["ada"]]
    file.unlink()
    assert look() == [["ada", "bo"], ["ada"]]
    assert len(warned) == 2
    assert all(text.startswith("the keys stay as they are: ") for text in warned)
    file.write_text(whole + "# a comment\n")
    assert look() == [["ada", "bo"], ["ada"]]
    trust(file, "bo", keys["bo"])
    assert look() == [["ada", "bo"], ["ada"], ["ada", "bo"]]
    assert told[1:] == [({"ada": keys["ada"]}, frozenset({"bo"})), (keys, frozenset())]
    watch.start()
    watch.stop()
