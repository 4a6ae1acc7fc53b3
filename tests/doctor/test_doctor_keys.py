"""What a doctor finds out about keys, and meetings that are sealed with them."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from gossipdistill.doctor.case import Case, Keys, Machine
from gossipdistill.doctor.examine import Asked, examine
from gossipdistill.doctor.keys import look_at_keys
from gossipdistill.drivers.zeromq.security import Curve
from gossipdistill.errors import IdentityError
from gossipdistill.keys.issuing import new, revoke, trust
from gossipdistill.keys.secrets import make_pair, read_secret
from gossipdistill.machine.listening import free_ports
from gossipdistill.observe.examination import ExaminationRecord
from gossipdistill.presence import Address
from gossipdistill.roster import read_roster

MACHINE = Machine(2, None, 1024, {"gossipdistill": "0.1.0", "wire": "2", "torch": "2", "pyzmq": "27"})


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    ports = free_ports(["ada", "bo"], "127.0.0.1", set())
    peers = [f'[[peer]]\nname = "{name}"\naddress = "127.0.0.1:{port}"\n' for name, port in ports.items()]
    (tmp_path / "lab.toml").write_text("\n".join(peers))
    return tmp_path / "lab.toml"


def looked(lab: Path, secure: bool = True, name: str = "ada", **changes: Any) -> tuple[Keys, Curve | None]:
    roster = read_roster(lab)
    case = Case("lab.toml", roster, MACHINE, name, listen=roster.peer[0].address, **changes)
    return look_at_keys(None, secure, case, lab)


def test_keys_are_needed_where_a_worker_would_need_them(lab: Path) -> None:
    assert looked(lab, secure=False) == (Keys(False), None)
    assert looked(lab, secure=False, advertise=Address("192.0.2.1", 7400))[0].needed
    assert looked(lab, name="") == (Keys(True, missing=("ada", "bo")), None)


def test_what_is_wrong_with_a_secret_is_said_with_what_to_do(lab: Path) -> None:
    keys, curve = looked(lab)
    assert curve is None
    assert f"no secret at {lab.parent / 'keys/ada.secret'}" in keys.problem
    assert keys.advice == "gossipdistill keys new --peers lab.toml --name ada; or --key FILE"
    new(lab)
    file = lab.parent / "keys/ada.secret"
    keys, curve = looked(lab)
    assert keys == Keys(True, str(file))
    assert curve is not None
    assert sorted(curve.server_keys) == ["ada", "bo"]
    assert read_secret(file).secret not in repr(keys)
    revoke(lab, "bo")
    assert looked(lab)[0].revoked == ("bo",)
    file.chmod(0o644)
    keys, curve = looked(lab)
    assert (keys.advice, curve) == (f"do: chmod 600 {file}", None)
    assert "others may read it" in keys.problem
    file.chmod(0o600)
    trust(lab, "ada", make_pair("ada").public, replace=True)
    keys, curve = looked(lab)
    assert "is not that of" in keys.problem
    assert "keys trust ada KEY --replace" in keys.advice
    file.write_text("rubbish")
    assert "--renew" in looked(lab)[0].advice


def both(ada: Path, bo: Path) -> dict[str, ExaminationRecord]:
    """Two doctors in this process, each with its own roster."""
    found: dict[str, ExaminationRecord] = {}

    def one(name: str, file: Path) -> None:
        found[name] = examine(Asked(str(file), name, seconds=4.0, secure=True, machine=MACHINE), lambda *_: None)

    threads = [threading.Thread(target=one, args=pair) for pair in (("ada", ada), ("bo", bo))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_a_peer_that_comes_with_another_key_is_named(lab: Path) -> None:
    new(lab)
    other = lab.parent / "other/lab.toml"
    other.parent.mkdir()
    other.write_text(lab.read_text())
    (other.parent / "keys").mkdir(mode=0o700)
    (lab.parent / "keys/bo.secret").rename(other.parent / "keys/bo.secret")
    (made,) = new(other, ["bo"], renew=True)
    found = both(lab, other)
    mine = {(one.check, one.about): one for one in found["ada"].findings if one.verdict == "problem"}
    assert made.public in mine["keys", "bo"].found
    assert ("reaching", "bo") in mine
    assert found["ada"].exit_code == IdentityError.exit_code
    assert not found["ada"].others["bo"].reached
