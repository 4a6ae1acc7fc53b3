"""What a machine says of itself: looked up, bound, dialled; and who holds a port, from a /proc made by hand."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gossipdistill.doctor import local
from gossipdistill.doctor.examine import Asked, examine
from gossipdistill.errors import ConfigError, UsageError
from gossipdistill.machine import lookups


def quiet(_missing: list[str], _left_s: float) -> None:
    """Nobody watches."""


@pytest.fixture
def held() -> Iterator[int]:
    """A port on which this process listens."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen(1)
        yield holder.getsockname()[1]


def write(folder: Path, *peers: tuple[str, str]) -> str:
    path = folder / "lab.toml"
    path.write_text("".join(f'[[peer]]\nname = "{name}"\naddress = "{address}"\n' for name, address in peers))
    return str(path)


def test_look_ups_tell_what_was_found_and_what_is_of_this_machine() -> None:
    found = lookups.look_up_all(["127.0.0.1", "240.0.0.1", "no-such-host.invalid"])
    assert (found["127.0.0.1"].addresses, found["127.0.0.1"].mine) == (("127.0.0.1",), True)
    assert (found["240.0.0.1"].addresses, found["240.0.0.1"].mine) == (("240.0.0.1",), False)
    assert found["no-such-host.invalid"].addresses == ()
    assert found["no-such-host.invalid"].error


def test_localhost_is_what_a_worker_takes_it_for_and_many_names_are_looked_up() -> None:
    hosts = ["localhost", *(f"127.0.0.{k}" for k in range(1, 200))]
    found = lookups.look_up_all(hosts)
    assert list(found) == hosts
    assert found["localhost"].addresses == ("127.0.0.1",)
    assert all(one.mine for one in found.values())


def test_a_name_server_that_does_not_answer_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    monkeypatch.setattr(lookups.socket, "getaddrinfo", lambda *_, **__: answered.wait(30) and [])
    try:
        found = lookups.look_up_all(["slow.lab"], within_s=0.05)
    finally:
        answered.set()
    assert found["slow.lab"].error == "no answer within 0.05 s"


def test_a_port_that_is_held_says_by_whom(held: int) -> None:
    control, data = local.ports_of("127.0.0.1", held)
    assert "in use" in control.problem
    assert data.number == held + 1
    if Path("/proc/net/tcp").exists():
        assert f"process {os.getpid()}" in control.holder


def test_an_address_of_another_machine_cannot_be_listened_on() -> None:
    control, data = local.ports_of("240.0.0.1", 7400)
    assert control.problem
    assert (control.holder, data.number) == ("", 7401)


def test_the_holder_of_a_port_in_a_proc_made_by_hand(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    row = "   0: 0100007F:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 0 0 {inode} 1"
    lines = [
        "  sl  local_address",
        row.format(port=7400, state="0A", inode=77),
        row.format(port=7401, state="01", inode=78),
    ]
    (tmp_path / "net" / "tcp").write_text("\n".join(lines))
    for pid, inode in (11, 76), (12, 77), (13, 78):
        (tmp_path / str(pid) / "fd").mkdir(parents=True)
        (tmp_path / str(pid) / "fd" / "3").symlink_to(f"socket:[{inode}]")
        (tmp_path / str(pid) / "cmdline").write_bytes(b"nginx\0-g\0daemon\0")
    assert lookups.holder(7400, tmp_path) == "process 12 (nginx -g daemon)"
    assert lookups.holder(7401, tmp_path) == ""  # a connection, not a listener
    assert lookups.holder(7402, tmp_path) == ""


def test_bare_connections_tell_a_listener_from_nothing(held: int) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        errors = local.dial_all({"ada": ("127.0.0.1", held), "bo": ("127.0.0.1", free.getsockname()[1])})
    assert errors == {"ada": "", "bo": "connection refused"}


def test_this_machine_alone(tmp_path: Path, held: int) -> None:
    """The peer of this machine is found by its address, and the others are not called."""
    where = write(tmp_path, ("ada", f"127.0.0.1:{held}"), ("bo", "240.0.0.7:7400"))
    summary = examine(Asked(where, seconds=0), quiet)
    assert (summary.name, summary.others, summary.waited_s) == ("ada", {}, 0)
    problems = {found.check: found.found for found in summary.findings if found.verdict == "problem"}
    assert set(problems) == {"addresses", "keys", "ports"}
    assert f"port {held} of 127.0.0.1 cannot be listened on" in problems["ports"]
    assert summary.exit_code == 3  # of the first problem
    assert summary.counts["problem"] == 4  # of keys two: no secret, and no public keys


def test_who_is_here_must_be_said_where_several_are(tmp_path: Path) -> None:
    where = write(tmp_path, ("ada", "127.0.0.1:23500"), ("bo", "localhost:23502"))
    summary = examine(Asked(where), quiet)
    assert (summary.name, summary.exit_code) == (None, 3)
    assert "say which: --name ada" in str(summary.findings)


def test_where_a_worker_would_listen(tmp_path: Path) -> None:
    where = write(tmp_path, ("ada", "240.0.0.6:7400"), ("bo", "240.0.0.7:7400"))
    summary = examine(Asked(where, "ada", listen="127.0.0.1:23504", seconds=0), quiet)
    assert "ports 23504 and 23505 of 127.0.0.1 can be listened on" in str(summary.findings)
    everywhere = examine(Asked(where, "ada", "0.0.0.0:23504", "0.0.0.0:23504", seconds=0), quiet)
    assert "say where they can: --advertise HOST:23504" in str(everywhere.findings)
    alone = examine(Asked(where, "ada", "none", seconds=0), quiet)
    assert "ports" not in {found.check for found in alone.findings}
    with pytest.raises(UsageError, match="leave out --advertise"):
        examine(Asked(where, "ada", "none", "240.0.0.6:7400"), quiet)


@pytest.mark.parametrize(
    ("where", "words"),
    [("4", "accepted: a roster"), ("127.0.0.1:7400", "not a roster"), ("nowhere.toml", "nowhere.toml")],
)
def test_what_is_no_roster(where: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        examine(Asked(where), quiet)


def test_port_zero_and_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean ada"):
        examine(Asked(write(tmp_path, ("ada", "127.0.0.1:7400")), "adda"), quiet)
    with pytest.raises(ConfigError, match="other peers could not call bo"):
        examine(Asked(write(tmp_path, ("ada", "127.0.0.1:7400"), ("bo", "127.0.0.1:0"))), quiet)
