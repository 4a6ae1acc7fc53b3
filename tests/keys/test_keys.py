"""keys new, show, trust, revoke: what is written, what is kept, and what is refused."""

from __future__ import annotations

import json
import os
import sys
import tomllib
from pathlib import Path

import pytest

from gossipdistill.cli import main
from gossipdistill.errors import ConfigError, IdentityError
from gossipdistill.keys.issuing import await_all, new, revoke, roster_file, show, trust
from gossipdistill.keys.secrets import KeyPair, make_pair, read_secret, write_secret
from gossipdistill.roster import read_roster

ROSTER = """\
# Two in the lab.

[[peer]]
name = "ada"
address = "10.0.0.1:7400"                # by the window
set = { "task.model" = "mlp" }

# Bo lives in the cellar.
[[peer]]
name = "bo"
address = "10.0.0.2:7400"
"""


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    (tmp_path / "lab.toml").write_text(ROSTER)
    return tmp_path / "lab.toml"


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_new_writes_public_keys_into_the_roster_and_keeps_its_order_and_comments(lab: Path) -> None:
    made = {one.name: one.public for one in new(lab)}
    ada, bo = made["ada"], made["bo"]
    expected = ROSTER.replace('"mlp" }\n', f'"mlp" }}\npublic_key = "{ada}"\n') + f'public_key = "{bo}"\n'
    assert lab.read_text() == expected
    assert read_roster(lab).trusted == made
    assert mode(lab.parent / "keys") == 0o700
    for name in "ada", "bo":
        file = lab.parent / f"keys/{name}.secret"
        assert mode(file) == 0o600
        assert read_secret(file, name).public == made[name]
        assert read_secret(file).secret not in lab.read_text()
    assert sorted(path.name for path in lab.parent.rglob("*")) == ["ada.secret", "bo.secret", "keys", "lab.toml"]


def test_who_shares_a_roster_waits_for_the_keys_of_the_others(lab: Path) -> None:
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        new(lab, ["ada" if "ada" in line else "bo"], lab.parent / "secrets")

    await_all(lab, 60.0, say)
    assert said == ["waiting for the public keys of ada, bo", "waiting for the public keys of bo"]
    assert len(read_roster(lab).trusted) == 2
    revoke(lab, "bo")
    await_all(lab, 0.0, say)  # revoked is not missing
    assert len(said) == 2


def test_a_key_that_does_not_come_is_said(lab: Path) -> None:
    new(lab, ["ada"])
    with pytest.raises(IdentityError, match="no public key of bo within 0 s"):
        await_all(lab, 0.0, print)


@pytest.mark.parametrize(
    "text",
    [
        'peer = [\n{ name = "ada", address = "10.0.0.1:7400" }, # one\n{ name = "bo", address = "10.0.0.2:7400" }]\n',
        ROSTER.replace("\n", "\r\n"),
        ROSTER + '[peer.set]\n"task.model" = "cnn"\n# the end\n',
    ],
    ids=["inline", "crlf", "sub-table"],
)
def test_new_in_rosters_of_other_shapes(lab: Path, text: str) -> None:
    lab.write_bytes(text.encode())
    made = {one.name: one.public for one in new(lab)}
    assert read_roster(lab).trusted == made
    for comment in "# one", "# by the window", "# Bo lives in the cellar.", "# the end":
        assert (comment in lab.read_text()) == (comment in text)
    revoke(lab, "bo")
    assert list(read_roster(lab).trusted) == ["ada"]


def test_new_overwrites_nothing_unless_told(lab: Path) -> None:
    first = new(lab)
    files = {path: path.read_bytes() for path in lab.parent.rglob("*") if path.is_file()}
    assert [(one.name, one.public) for one in new(lab)] == [(one.name, one.public) for one in first]
    assert {path: path.read_bytes() for path in lab.parent.rglob("*") if path.is_file()} == files
    (again,) = new(lab, ["bo"], renew=True)
    assert again.public != first[1].public
    assert read_roster(lab).trusted == {"ada": first[0].public, "bo": again.public}
    assert read_secret(lab.parent / "keys/bo.secret").public == again.public


def test_each_machine_makes_its_own_and_the_shared_folder_has_public_ones_only(lab: Path) -> None:
    for name in "ada", "bo":
        new(lab, [name], folder=lab.parent / f"machine-{name}")
    assert sorted(read_roster(lab).trusted) == ["ada", "bo"]
    assert [one.what for one in new(lab)] == ["kept; its secret is not here"] * 2


def test_a_secret_whose_public_key_is_not_in_the_roster_yet_has_it_written_there(lab: Path) -> None:
    made = new(lab)
    lab.write_text(ROSTER)
    assert [one.public for one in new(lab)] == [one.public for one in made]
    assert list(read_roster(lab).trusted) == ["ada", "bo"]


def test_a_secret_that_does_not_fit_the_roster_is_an_error_that_says_what_to_do(lab: Path) -> None:
    made = new(lab)
    other = make_pair("ada").public
    trust(lab, "ada", other, replace=True)
    with pytest.raises(IdentityError, match=r"keys/ada\.secret: its public key is .* --renew"):
        new(lab)
    trust(lab, "ada", made[0].public, replace=True)
    assert [one.public for one in new(lab)] == [one.public for one in made]


def test_trust_and_revoke(lab: Path) -> None:
    key, other = make_pair("ada").public, make_pair("ada").public
    trust(lab, "ada", key)
    assert read_roster(lab).trusted == {"ada": key}
    revoke(lab, "ada")
    entry = read_roster(lab).entry("ada")
    assert (entry.public_key, entry.revoked, read_roster(lab).trusted) == (key, True, {})
    with pytest.raises(IdentityError, match=r"lab\.toml: ada has another public key, .* add --replace"):
        trust(lab, "ada", other)
    trust(lab, "ada", key)
    assert read_roster(lab).trusted == {"ada": key}
    assert "revoked" not in lab.read_text()
    for act in (lambda: revoke(lab, "adaa"), lambda: trust(lab, "adaa", key), lambda: new(lab, ["adaa"])):
        with pytest.raises(ConfigError, match="did you mean ada"):
            act()
    with pytest.raises(ConfigError, match="the 40 characters that"):
        trust(lab, "ada", "abc")


def test_show_says_whose_key_is_trusted_and_where_secrets_lie(lab: Path) -> None:
    assert [(one.state, one.secret) for one in show(lab)] == [("none", "")] * 2
    new(lab)
    revoke(lab, "bo")
    (lab.parent / "keys/ada.secret").chmod(0o640)
    (lab.parent / "keys/bo.secret").rename(lab.parent / "bo.secret")
    ada, bo = show(lab)
    assert ada.state == "trusted"
    assert "others may read it (mode 0640); do: chmod 600" in ada.secret
    assert (bo.state, bo.secret) == ("revoked", str(lab.parent / "bo.secret"))


@pytest.mark.parametrize("bits", [0o644, 0o640, 0o604, 0o620, 0o601])
def test_a_secret_that_others_may_touch_is_refused_with_what_to_do(lab: Path, bits: int) -> None:
    new(lab)
    file = lab.parent / "keys/ada.secret"
    file.chmod(bits)
    with pytest.raises(IdentityError, match=rf"mode {bits:04o}\); do: chmod 600 .*ada\.secret"):
        read_secret(file)


def test_secrets_are_not_put_where_others_may_enter(lab: Path) -> None:
    (lab.parent / "keys").mkdir()
    (lab.parent / "keys").chmod(0o755)
    with pytest.raises(IdentityError, match=r"keys: others may enter it \(mode 0755\); do: chmod 700"):
        new(lab)
    assert lab.read_text() == ROSTER
    assert list((lab.parent / "keys").iterdir()) == []


def test_a_file_that_is_no_secret_is_refused_and_nothing_of_it_is_shown(tmp_path: Path) -> None:
    pair, other = make_pair("ada"), make_pair("ada")
    good = f'name = "ada"\npublic = "{pair.public}"\nsecret = "{pair.secret}"\n'
    contents = [
        "",
        good[:-3],
        good.replace("ada", "Ada!"),
        good.replace("secret =", "secrets ="),
        good * 1000,
        "\xff",
        good.replace(pair.public, other.public),
        'name = 1\npublic = 2\nsecret = ["x"]\n',
    ]
    for number, content in enumerate(contents):
        file = tmp_path / f"{number}.secret"
        file.write_bytes(content.encode("latin-1"))
        file.chmod(0o600)
        with pytest.raises(IdentityError) as refused:
            read_secret(file)
        assert str(file) in str(refused.value)
        assert pair.secret[:8] not in str(refused.value)
    with pytest.raises(IdentityError, match="cannot be read: No such file"):
        read_secret(tmp_path / "none")
    write_secret(tmp_path / "own/ada.secret", pair)
    with pytest.raises(IdentityError, match="is the secret of ada, not of bo"):
        read_secret(tmp_path / "own/ada.secret", "bo")
    with pytest.raises(IdentityError, match="is there already"):
        write_secret(tmp_path / "own/ada.secret", other)
    assert read_secret(tmp_path / "own/ada.secret") == pair
    assert os.listdir(tmp_path / "own") == ["ada.secret"]


def test_a_pair_shows_its_public_half_only() -> None:
    pair = make_pair("ada")
    assert pair.public in repr(pair)
    assert pair.secret not in f"{pair!r} {pair!s}"
    assert isinstance(pair, KeyPair)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("4", "a .toml file"),
        ("10.0.0.1:7400", "a .toml file"),
        ("unlike-4", "copy it first"),
        ("x.toml", "no such file"),
    ],
)
def test_keys_are_kept_in_a_roster_of_ones_own(where: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        roster_file(where)


def test_the_commands_say_what_they_did_and_never_a_secret(
    lab: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = ""

    def say(*words: str) -> str:
        nonlocal said
        monkeypatch.setattr(sys, "argv", ["gossipdistill", "keys", *words, "--peers", str(lab)])
        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code
        printed = "".join(capsys.readouterr())
        said += printed
        return printed

    assert "copy it to every machine" in say("new")
    keys = read_roster(lab).trusted
    assert keys["bo"] in say("show")
    listed = json.loads(say("show", "--format", "json"))
    assert [(one["name"], one["public_key"], one["state"]) for one in listed["keys"]] == [
        (name, key, "trusted") for name, key in keys.items()
    ]
    assert "bo is revoked" in say("revoke", "bo")
    assert "bo is trusted" in say("trust", "bo", keys["bo"])
    for name in keys:
        secret = tomllib.loads((lab.parent / f"keys/{name}.secret").read_text())["secret"]
        assert secret not in said
