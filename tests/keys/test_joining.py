"""Join files: how they are made and read, and what a worker makes of one."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

from gossipdistill.cli import main
from gossipdistill.config.plan import Asked, plan_worker
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.errors import ConfigError, IdentityError, UsageError
from gossipdistill.keys.choice import KeyOptions
from gossipdistill.keys.issuing import new, new_secrets, revoke
from gossipdistill.keys.joining import make_join, read_join
from gossipdistill.keys.secrets import read_secret
from gossipdistill.presence import Address

HOST = Address("127.0.0.1", 7400)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for key in ("SET", "PEERS", "LISTEN", "KEY_FILE", "JOIN_FILE"):
        monkeypatch.delenv(f"GOSSIPDISTILL_{key}", raising=False)
    monkeypatch.setattr("gossipdistill.config.plan.refuse_unusable", lambda ports, hint: None)
    (tmp_path / "lab.toml").write_text(
        "\n".join(
            f'[[peer]]\nname = "{name}"\naddress = "127.0.0.1:{7400 + 2 * place}"\n'
            for place, name in enumerate(["ada", "bo"])
        )
    )
    return tmp_path


def joined(folder: Path, run: str = "first-light") -> Path:
    (ada,) = new_secrets(["ada"], folder / "keys")
    make_join(folder / "keys/run.join", run, "ada", HOST, ada.public)
    return folder / "keys/run.join"


def planned(name: str, *key_options: Path | None, peers: str | None = None, listen: str | None = None) -> WorkerSpec:
    shard = "1/2" if peers is None else None
    asked = Asked(peers=peers, out=Path("runs"), key_options=KeyOptions(*key_options))
    return plan_worker(asked, name, listen, None, shard, 1, 0.0, True)


def test_a_join_file_is_secret_and_is_not_overwritten(folder: Path) -> None:
    file = joined(folder)
    assert file.stat().st_mode & 0o777 == 0o600
    join = read_join(file, "first-light")
    assert (join.host, join.address, join.public) == ("ada", HOST, read_secret(folder / "keys/ada.secret").public)
    assert len(join.secret) == 32
    assert join.secret.hex() not in repr(join)
    with pytest.raises(IdentityError, match="is there already"):
        make_join(file, "first-light", "ada", HOST, join.public)
    make_join(file, "first-light", "ada", HOST, join.public, replace=True)
    assert read_join(file, "first-light").secret != join.secret
    with pytest.raises(IdentityError, match="is for the run first-light, and this one is called other"):
        read_join(file, "other")
    file.chmod(0o644)
    with pytest.raises(IdentityError, match="do: chmod 600"):
        read_join(file, "first-light")


@pytest.mark.parametrize("spoilt", ['run = "first-light"', "secret = ", 'name = "ada"', "public = ", "7400", "a"])
def test_what_is_no_join_file_is_refused_and_nothing_of_it_is_shown(folder: Path, spoilt: str) -> None:
    file = joined(folder)
    secret = read_join(file, "first-light").secret.hex()
    lines = file.read_text().splitlines()
    file.write_text("\n".join(line for line in lines if spoilt not in line or line.startswith("#")))
    with pytest.raises(IdentityError, match=r"run\.join: is not a join file") as refused:
        read_join(file, "first-light")
    assert secret[:8] not in str(refused.value)


def test_a_newcomer_without_a_roster_needs_its_secret_and_the_join_file(folder: Path) -> None:
    file = joined(folder)
    with pytest.raises(IdentityError, match=r"no secret of bo at .*make it here with: .*keys new --name bo"):
        planned("bo", None, file)
    new_secrets(["bo"])
    bo = planned("bo", None, file)
    assert bo.seeds == (HOST,)
    assert bo.keys is not None
    assert bo.keys.roster is None
    pair, book = bo.keys.read("bo", "first-light", 7)
    join = read_join(file, "first-light")
    assert book.keys() == {"ada": join.public, "bo": pair.public}
    assert (book.mine and (book.mine.name, book.mine.key, book.mine.boot)) == ("bo", pair.public, 7)
    assert WorkerSpec.from_json(bo.to_json()).keys == bo.keys
    for secret in join.secret.hex(), pair.secret:
        assert secret not in bo.to_json() + repr(bo) + repr(book)
    assert planned("ada", None, file, listen="127.0.0.1:7400").seeds == ()


def test_with_a_join_file_a_roster_may_lack_keys(folder: Path) -> None:
    file = joined(folder)
    with pytest.raises(IdentityError, match="no public key of ada, bo"):
        planned("ada", folder / "keys/ada.secret", peers="lab.toml")
    ada = planned("ada", None, file, peers="lab.toml")
    assert ada.keys is not None
    _, book = ada.keys.read("ada", "first-light", 1)
    assert list(book.keys()) == ["ada"]
    new(folder / "lab.toml", ["bo"])
    _, book = ada.keys.read("ada", "first-light", 1)
    assert sorted(book.keys()) == ["ada", "bo"]
    revoke(folder / "lab.toml", "bo")
    _, book = ada.keys.read("ada", "first-light", 1)
    assert (sorted(book.keys()), set(book.revoked)) == (["ada"], {"bo"})


def test_secrets_alone(folder: Path) -> None:
    made = new_secrets(["cy"])
    assert [one.public for one in new_secrets(["cy"])] == [made[0].public]
    assert new_secrets(["cy"], renew=True)[0].public != made[0].public
    with pytest.raises(UsageError, match="give --peers ROSTER, or --name NAME"):
        new_secrets([])
    with pytest.raises(ConfigError, match="is no name for a peer"):
        new_secrets(["../cy"])


def test_the_commands(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def say(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["gossipdistill", *words])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0), "".join(capsys.readouterr())

    assert say("keys", "new", "--name", "ada")[0] == 0
    invite = (
        "keys",
        "invite",
        "keys/run.join",
        "--run",
        "first-light",
        "--key",
        "keys/ada.secret",
        "--address",
        "127.0.0.1:7400",
    )
    code, said = say(*invite)
    assert code == 0
    assert "newcomers enrol in first-light with ada at 127.0.0.1:7400" in said
    assert tomllib.loads((folder / "keys/run.join").read_text())["secret"] not in said
    assert say(*invite)[0] == 7
    assert say("keys", "new")[0] == 2
    code, said = say("worker", "--name", "bo", "--join", "keys/run.join", "--shard", "2/2", "--set", "name=other")
    assert (code, "is for the run first-light" in said) == (7, True)
