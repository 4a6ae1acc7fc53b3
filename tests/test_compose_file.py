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

from gossipdistill.faults import load_fault_plan

PROJECT = Path(__file__).resolve().parents[1]
ROSTER = PROJECT / "peers" / "compose-4.toml"
ENTRYPOINT = [sys.executable, "-m", "gossipdistill"]
PEERS = ["ada", "bo", "cy", "dee"]


def services(**variables: str) -> dict[str, Any]:
    """The services with anchors, merges and `${NAME:-default}` resolved."""
    text = (PROJECT / "docker-compose.yml").read_text()
    text = re.sub(r"(?<!\$)\$\{(\w+):-([^}]*)\}", lambda match: variables.get(match[1], match[2]), text)
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
    assert list(services()) == [*PEERS, "chaos", "table"]
    for name, address in addresses().items():
        host, port = address.split(":")
        environment = services()[name]["environment"]
        assert host == environment["GOSSIPDISTILL_NAME"] == name
        assert environment["GOSSIPDISTILL_PEERS"] == f"/roster/{ROSTER.name}"
        assert environment["GOSSIPDISTILL_LISTEN"] == f"0.0.0.0:{port}"
        assert f":{int(port):X} " in services()[name]["healthcheck"]["test"][1]
    fixed = [services()[name]["networks"]["gossip"]["ipv4_address"] for name in PEERS]
    assert len(set(fixed)) == len(PEERS)


def test_secrets_are_shared_by_nobody() -> None:
    for name in PEERS:
        assert services()[name]["environment"]["GOSSIPDISTILL_KEY_FILE"] == f"/secret/{name}.secret"
    mounts = {
        name: dict(volume.split(":")[:2] for volume in service["volumes"]) for name, service in services().items()
    }
    for name, mounted in mounts.items():
        shared = {volume for other in mounts if other != name for volume in mounts[other]}
        assert {volume for volume, where in mounted.items() if where == "/secret"}.isdisjoint(shared)
    assert all("insecure" not in str(service) for service in services().values())


def test_one_service_builds_the_image_that_all_use() -> None:
    assert {service["image"] for service in services().values()} == {"gossipdistill"}
    assert [name for name, service in services().items() if "build" in service] == ["ada"]


def test_every_process_hears_a_request_to_stop() -> None:
    assert all(service["init"] for service in services().values())


def test_the_table_is_printed_when_all_have_ended_however_they_ended() -> None:
    ended = {"condition": "service_completed_successfully", "required": False}
    assert services()["table"]["depends_on"] == dict.fromkeys(PEERS, ended)


def test_peers_await_a_plan_only_under_the_profile_chaos() -> None:
    chaos = services()["chaos"]
    assert chaos["profiles"] == ["chaos"]
    for name in PEERS:
        assert services()[name]["depends_on"] == {"chaos": {"condition": "service_healthy", "required": False}}
    plan = re.search(r'echo "([\w-]+)" > /plan/name', chaos["command"][0])
    assert plan
    assert load_fault_plan(plan[1], PEERS).process_faults()


def test_every_dependency_of_the_image_is_pinned() -> None:
    pinned = re.findall(r"^([a-z0-9-]+)==", (PROJECT / "constraints-image.txt").read_text(), re.MULTILINE)
    pinned += re.findall(r"^([a-z0-9-]+)==", (PROJECT / "constraints.txt").read_text(), re.MULTILINE)
    described = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {re.split(r"[^\w-]", line)[0].lower() for line in described} <= set(pinned)
    assert re.search(r"^ARG BASE=python:3\.11\.\d+-slim-\w+$", (PROJECT / "Dockerfile").read_text(), re.MULTILINE)


def test_the_commands_train_four_peers_and_print_their_table(tmp_path: Path) -> None:
    ports: set[int] = set()
    here = {name: f"127.0.0.1:{free_port_pair(ports)}" for name in PEERS}
    roster = ROSTER.read_text()
    for name, address in addresses().items():
        roster = roster.replace(f'"{address}"', f'"{here[name]}"')
    (tmp_path / "roster").mkdir()
    (tmp_path / "roster" / ROSTER.name).write_text(roster)
    program = tmp_path / "bin/gossipdistill"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.join(ENTRYPOINT)} "$@"\n')
    program.chmod(0o700)

    def on_this_machine(text: str, name: str) -> str:
        places = {
            "/roster": tmp_path / "roster",
            "/secret": tmp_path / f"secret-{name}",
            "/plan": tmp_path / "plan",
            "/runs": tmp_path / "runs",
        }
        for inside, outside in places.items():
            text = re.sub(rf"(?<![\w.]){inside}\b", str(outside), text)
        return text.replace("$$", "$")

    def start(name: str, service: dict[str, Any]) -> subprocess.Popen[str]:
        environment = {key: on_this_machine(str(value), name) for key, value in service["environment"].items()}
        environment["GOSSIPDISTILL_LISTEN"] = here.get(name, "")
        environment["PATH"] = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
        scripted = isinstance(service["command"], list)
        command = [*service["entrypoint"], *service["command"]] if scripted else [str(program), service["command"]]
        return subprocess.Popen(
            [on_this_machine(word, name) for word in command] if scripted else command,
            cwd=tmp_path,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    everything = services(SECONDS_OF_TRAINING="3")
    table = everything.pop("table")
    del everything["chaos"]
    with ExitStack() as ends:
        peers = {name: ends.enter_context(start(name, service)) for name, service in everything.items()}
        for peer in peers.values():
            ends.callback(peer.kill)
        printed = {name: peer.communicate(timeout=240)[0] for name, peer in peers.items()}
        for name, peer in peers.items():
            assert peer.returncode == 0, f"{name}: exit code {peer.returncode}\n{printed[name]}"
        assert "INSECURE" not in "".join(printed.values())

        show = ends.enter_context(start("table", table))
        ends.callback(show.kill)
        text = show.communicate(timeout=60)[0]
    assert show.returncode == 0, text
    for name in PEERS:
        assert re.search(rf"^{name}\b.*finished", text, re.MULTILINE), text
    assert (tmp_path / "roster" / ROSTER.name).read_text().count("public_key") == len(PEERS)


def test_the_build_context_holds_what_the_wheel_is_made_of() -> None:
    described = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    wheel = described["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {
        "pyproject.toml",
        "constraints.txt",
        "constraints-image.txt",
        described["project"]["readme"],
        *described["project"]["license-files"],
    }
    needed |= {*wheel["packages"], *wheel["force-include"]}
    kept = {line[1:] for line in (PROJECT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert kept == needed
