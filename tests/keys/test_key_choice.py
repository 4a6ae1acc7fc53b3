"""When connections are encrypted, and what is said when a key is missing or unfit."""

from __future__ import annotations

from pathlib import Path

import pytest

from gossipdistill.config.plan import Asked, plan_local, plan_worker
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.errors import IdentityError, UsageError
from gossipdistill.keys.choice import KeyFiles, KeyOptions, choose
from gossipdistill.keys.issuing import new, revoke, trust
from gossipdistill.keys.secrets import make_pair, read_secret
from gossipdistill.presence import NOWHERE, Address
from gossipdistill.roster import parse_address, read_roster

HERE, THERE = [parse_address(text) for text in ("127.0.0.1:7400", "10.0.0.1:7400")]
NAMED = parse_address("localhost:7400")


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    peers = [f'[[peer]]\nname = "{name}"\naddress = "127.0.0.1:0"\n' for name in ("ada", "bo")]
    (tmp_path / "lab.toml").write_text("\n".join(peers))
    return tmp_path / "lab.toml"


def chosen(lab: Path, *addresses: Address, key_options: KeyOptions | None = None) -> KeyFiles | None:
    return choose(key_options or KeyOptions(), "ada", "lab", lab, read_roster(lab), addresses)


@pytest.mark.parametrize(
    ("addresses", "key_options", "on"),
    [
        ((HERE, NAMED, NOWHERE), KeyOptions(), False),
        ((HERE, THERE), KeyOptions(), True),
        ((parse_address("ada.lab:7400"),), KeyOptions(), True),
        ((parse_address("0.0.0.0:7400"),), KeyOptions(), True),
        ((HERE,), KeyOptions(secure=True), True),
        ((HERE, THERE), KeyOptions(insecure=True), False),
    ],
)
def test_keys_are_on_as_soon_as_an_address_is_not_loopback(
    lab: Path, addresses: tuple[Address, ...], key_options: KeyOptions, on: bool
) -> None:
    new(lab)
    expected = KeyFiles(lab.parent / "keys/ada.secret", lab)
    assert chosen(lab, *addresses, key_options=key_options) == (expected if on else None)


def test_a_named_secret_switches_them_on_and_is_looked_for_nowhere_else(lab: Path) -> None:
    new(lab)
    moved = lab.parent / "keys/ada.secret"
    moved = moved.rename(lab.parent / "mine")
    assert chosen(lab, HERE, key_options=KeyOptions(key=moved)) == KeyFiles(moved, lab)
    with pytest.raises(IdentityError, match="none: cannot be read"):
        chosen(lab, HERE, key_options=KeyOptions(key=lab.parent / "none"))
    moved = moved.rename(lab.parent / "ada.secret")
    assert chosen(lab, THERE) == KeyFiles(moved, lab)


def test_what_is_missing_is_named_with_the_command_that_makes_it(lab: Path) -> None:
    make = f"gossipdistill keys new --peers {lab} --name"
    with pytest.raises(IdentityError, match=f"10.0.0.1:7400 is not on this machine.* no secret of ada .*: {make} ada"):
        chosen(lab, THERE)
    new(lab, ["ada"])
    with pytest.raises(IdentityError, match=rf"{lab} has no public key of bo; make it with: {make} bo"):
        chosen(lab, THERE)
    trust(lab, "bo", make_pair("bo").public)
    assert chosen(lab, THERE) is not None
    trust(lab, "ada", make_pair("ada").public, replace=True)
    with pytest.raises(IdentityError, match="the public key of ada is not that of its secret here"):
        chosen(lab, THERE)
    revoke(lab, "ada")
    with pytest.raises(IdentityError, match="ada is revoked; gossipdistill keys trust ada KEY"):
        chosen(lab, THERE)
    (lab.parent / "keys/ada.secret").chmod(0o644)
    with pytest.raises(IdentityError, match="do: chmod 600"):
        chosen(lab, THERE)


def test_one_that_is_revoked_keeps_its_place_and_needs_no_key(lab: Path) -> None:
    new(lab)
    revoke(lab, "bo")
    files = chosen(lab, THERE)
    assert files is not None
    pair, book = files.read("ada", "lab", 1)
    assert book.keys() == {"ada": pair.public}


def test_without_a_roster_there_is_nobody_to_trust(lab: Path) -> None:
    with pytest.raises(IdentityError, match="they are kept in a roster"):
        choose(KeyOptions(), "ada", "lab", None, None, [THERE])
    assert choose(KeyOptions(), "ada", "lab", None, None, [HERE]) is None


@pytest.mark.parametrize(
    "key_options", [KeyOptions(secure=True, insecure=True), KeyOptions(key=Path("x"), insecure=True)]
)
def test_options_that_exclude_one_another(lab: Path, key_options: KeyOptions) -> None:
    with pytest.raises(UsageError, match="leave out either"):
        chosen(lab, HERE, key_options=key_options)


def test_a_run_on_this_machine_has_them_on_request_and_its_files_hold_no_secret(lab: Path) -> None:
    new(lab)
    plain = plan_local(Asked(peers=str(lab), out=lab.parent))
    assert [spec.keys for spec in plain] == [None, None]
    specs = plan_local(Asked(peers=str(lab), out=lab.parent, key_options=KeyOptions(secure=True)))
    assert [spec.keys.secret.name for spec in specs if spec.keys is not None] == ["ada.secret", "bo.secret"]
    for spec in specs:
        told = spec.to_json()
        assert WorkerSpec.from_json(told).keys == spec.keys
        assert read_secret(lab.parent / f"keys/{spec.name}.secret").secret not in told + repr(spec)
    with pytest.raises(IdentityError, match="they are kept in a roster"):
        plan_local(Asked(peers="2", key_options=KeyOptions(secure=True)))


def test_a_worker_without_keys_among_other_machines_is_marked(lab: Path) -> None:
    lab.write_text(lab.read_text().replace("127.0.0.1:0", "10.0.0.1:7400", 1).replace(":0", ":7400"))

    def planned(key_options: KeyOptions) -> WorkerSpec:
        asked = Asked(peers=str(lab), out=lab.parent, key_options=key_options)
        return plan_worker(asked, "bo", "none", None, None, 1, 0.0, True)

    assert planned(KeyOptions(insecure=True)).insecure
    new(lab)
    secured = planned(KeyOptions())
    assert not secured.insecure
    assert secured.keys == KeyFiles(lab.parent / "keys/bo.secret", lab)
