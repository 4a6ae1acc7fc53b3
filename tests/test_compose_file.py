"""`docker-compose.yml` without Docker: its commands as processes on loopback, and what it says against its roster.

tests/beds/test_compose.py runs the same file with containers.
"""

import os
import re
import shlex
import socket
import subprocess
import sys
import tomllib
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).resolve().parents[1]
ROSTER = PROJECT / "peers" / "compose-4.toml"
ENTRYPOINT = [sys.executable, "-m", "gossipdistill"]
PEERS = ["ada", "bo", "cy", "dee"]


def services(**variables: str) -> dict[str, Any]:
    """The services with anchors, merges and `${NAME:-default}` resolved."""
    text = (PROJECT / "docker-compose.yml").read_text()
    text = re.sub(r"\$\{(\w+):-([^}]*)\}", lambda match: variables.get(match[1], match[2]), text)
    found: dict[str, Any] = yaml.safe_load(text)["services"]
    return found


def addresses() -> dict[str, str]:
    return {peer["name"]: peer["address"] for peer in tomllib.loads(ROSTER.read_text())["peer"]}


def free_port_pair(avoid: set[int]) -> int:
    """A port that is free, as is the next one: control and data."""
    while True:
        with socket.socket() as control, socket.socket() as data:
            control.bind(("127.0.0.1", 0))
            port: int = control.getsockname()[1]
            try:
                data.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
        if not {port, port + 1} & avoid:
            avoid |= {port, port + 1}
            return port


def test_the_peers_are_those_of_the_roster_under_their_host_names() -> None:
    assert list(addresses()) == PEERS
    assert list(services()) == [*PEERS, "table"]
    for name, address in addresses().items():
        host, port = address.split(":")
        environment = services()[name]["environment"]
        assert host == environment["GOSSIPDISTILL_NAME"] == name
        assert environment["GOSSIPDISTILL_PEERS"] == ROSTER.stem
        assert environment["GOSSIPDISTILL_LISTEN"] == f"0.0.0.0:{port}"


def test_one_service_builds_the_image_that_all_use() -> None:
    assert {service["image"] for service in services().values()} == {"gossipdistill"}
    assert [name for name, service in services().items() if "build" in service] == ["ada"]


def test_every_process_hears_a_request_to_stop() -> None:
    assert all(service["init"] for service in services().values())


def test_the_table_is_printed_when_all_have_ended_however_they_ended() -> None:
    ended = {"condition": "service_completed_successfully", "required": False}
    assert services()["table"]["depends_on"] == dict.fromkeys(PEERS, ended)


def test_the_commands_train_four_peers_and_print_their_table(tmp_path: Path) -> None:
    ports: set[int] = set()
    here = {name: f"127.0.0.1:{free_port_pair(ports)}" for name in PEERS}
    roster = ROSTER.read_text()
    for name, address in addresses().items():
        roster = roster.replace(f'"{address}"', f'"{here[name]}"')
    (tmp_path / "compose-4.toml").write_text(roster)

    def start(name: str, service: dict[str, Any]) -> subprocess.Popen[str]:
        environment = os.environ | service["environment"] | {"GOSSIPDISTILL_OUT": str(tmp_path / "runs")}
        environment["GOSSIPDISTILL_PEERS"] = str(tmp_path / "compose-4.toml")
        environment["GOSSIPDISTILL_LISTEN"] = here.get(name, "")
        return subprocess.Popen(
            [*ENTRYPOINT, *shlex.split(service["command"])],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    everything = services(SECONDS_OF_TRAINING="3")
    table = everything.pop("table")
    with ExitStack() as ends:
        peers = {name: ends.enter_context(start(name, service)) for name, service in everything.items()}
        for peer in peers.values():
            ends.callback(peer.kill)
        printed = {name: peer.communicate(timeout=120)[0] for name, peer in peers.items()}
        for name, peer in peers.items():
            assert peer.returncode == 0, f"{name}: exit code {peer.returncode}\n{printed[name]}"

        show = ends.enter_context(start("table", table))
        ends.callback(show.kill)
        text = show.communicate(timeout=60)[0]
    assert show.returncode == 0, text
    for name in PEERS:
        assert re.search(rf"^{name}\b.*finished", text, re.MULTILINE), text


def test_the_build_context_holds_what_the_wheel_is_made_of() -> None:
    described = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    wheel = described["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {
        "pyproject.toml",
        "constraints.txt",
        described["project"]["readme"],
        *described["project"]["license-files"],
    }
    needed |= {*wheel["packages"], *wheel["force-include"]}
    kept = {line[1:] for line in (PROJECT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert kept == needed
