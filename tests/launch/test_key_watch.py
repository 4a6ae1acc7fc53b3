"""Keys that change while a worker runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gossipdistill.launch.keys.issuing import new, revoke, trust
from gossipdistill.launch.keys.watching import KeyWatch
from gossipdistill.roster import read_roster


def test_each_change_of_keys_is_told_once_and_a_broken_file_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "lab.toml"
    peers = [f'[[peer]]\nname = "{name}"\naddress = "127.0.0.1:0"\n' for name in ("ada", "bo")]
    file.write_text("\n".join(peers))
    new(file)
    keys = read_roster(file).trusted
    told: list[Mapping[str, bytes]] = []
    warned: list[str] = []
    watch = KeyWatch(file, keys, told.append, warned.append)

    def look() -> list[list[str]]:
        watch.look()
        watch.look()
        return [sorted(one) for one in told]

    assert look() == []
    revoke(file, "bo")
    assert look() == [["ada"]]
    whole = file.read_text()
    file.write_text(whole[:-20])
    assert look() == [["ada"]]
    file.unlink()
    assert look() == [["ada"]]
    assert len(warned) == 2
    assert all(text.startswith("the keys stay as they are: ") for text in warned)
    file.write_text(whole + "# a comment\n")
    assert look() == [["ada"]]
    trust(file, "bo", keys["bo"])
    assert look() == [["ada"], ["ada", "bo"]]
    assert told[-1] == {name: key.encode() for name, key in keys.items()}
    watch.start()
    watch.stop()
