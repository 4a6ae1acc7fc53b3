"""`docker compose up` for real: four containers with names and addresses of their own, and one that is killed.

The engine is the bed's own; docker_bed.py says what it needs, and how many minutes. The commands of the same file run
without Docker in tests/test_compose_file.py.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from docker_bed import MINUTES, DockerBed, wait_until  # noqa: F401 - the minutes of this bed
from machine import NoBedError

pytestmark = pytest.mark.bed

PEERS = ["ada", "bo", "cy", "dee"]
OFTEN = "train.checkpoint_every_s=2"  # the default, ten seconds, is half of such a run


@pytest.fixture(scope="module")
def bed(say: Callable[[str], None]) -> Iterator[DockerBed]:
    try:
        with DockerBed(say=say) as bed:
            bed.build()
            yield bed
    except NoBedError as reason:
        say(f"SKIP docker bed: {reason}")
        pytest.skip(f"docker bed: {reason}")


@pytest.fixture
def compose(bed: DockerBed) -> Iterator[DockerBed]:
    everything = ("--profile", "*", "down", "--volumes", "--timeout", "0")
    bed.compose(*everything)  # of a test run that was killed
    yield bed
    bed.compose(*everything, check=True)


def kill_once_it_has_trained(bed: DockerBed, name: str) -> None:
    checkpoint = f"/runs/compose/{name}/checkpoints/*.json"
    assert wait_until(lambda: bed.compose("exec", "-T", name, "sh", "-c", f"ls {checkpoint}").returncode == 0, 180)
    bed.compose("kill", "--signal", "SIGKILL", name, check=True)


def containers(bed: DockerBed) -> dict[str, dict[str, Any]]:
    lines = bed.compose("ps", "--all", "--format", "json").stdout.splitlines()
    return {entry["Service"]: entry for entry in (json.loads(line) for line in lines if line.startswith("{"))}


def exit_codes(bed: DockerBed) -> dict[str, int]:
    return {name: container["ExitCode"] for name, container in containers(bed).items()}


def table(bed: DockerBed) -> str:
    return bed.compose("logs", "--no-log-prefix", "table").stdout


def inside(bed: DockerBed, service: str, script: str) -> str:
    """What a script prints in a fresh container with the volumes of this service."""
    words = ("run", "--rm", "--no-deps", "-T", "--entrypoint", "sh", service, "-c", script)
    return bed.compose(*words, check=True).stdout


def row_of(name: str, text: str) -> str:
    rows = [line for line in text.splitlines() if re.search(rf"^{name}\b", line)]
    assert rows, f"{name} is not in the table:\n{text}"
    return rows[0]


def test_compose_up_ends_by_itself_with_a_table(compose: DockerBed) -> None:
    with compose.in_background("up") as up:
        healthy = dict.fromkeys(PEERS, "healthy")
        assert wait_until(lambda: {n: containers(compose).get(n, {}).get("Health") for n in PEERS} == healthy, 120)
        up.wait(200)
    logs = compose.compose("logs").stdout
    assert exit_codes(compose) == dict.fromkeys([*PEERS, "table"], 0), logs
    steps = {name: int(re.split(r"  +", row_of(name, table(compose)))[2]) for name in PEERS}
    assert all("finished" in row_of(name, table(compose)) for name in PEERS)
    assert steps["dee"] < steps["ada"] / 2, "dee is the straggler"
    assert "INSECURE" not in logs

    public = inside(compose, "ada", "cat /roster/compose-4.toml")
    assert len(re.findall(r"^public_key = ", public, re.MULTILINE)) == 4
    for name in PEERS:
        secret = inside(compose, name, "cat /secret/*").split('secret = "')[1].split('"')[0]
        assert inside(compose, name, "ls /secret").split() == [f"{name}.secret"]
        assert secret not in logs
        assert secret not in inside(compose, "table", "cat /roster/*; find /runs -type f -exec cat {} +")


def test_a_killed_container_is_lost_and_the_others_finish(compose: DockerBed) -> None:
    with compose.in_background("up", SECONDS_OF_TRAINING="20", GOSSIPDISTILL_SET=OFTEN) as up:
        kill_once_it_has_trained(compose, "bo")
        up.wait(180)
    assert exit_codes(compose) == dict.fromkeys([*PEERS, "table"], 0) | {"bo": 137}
    for name in PEERS:
        assert ("lost" if name == "bo" else "finished") in row_of(name, table(compose))


def test_a_killed_container_that_is_started_again_finishes_too(compose: DockerBed) -> None:
    with compose.in_background("up", SECONDS_OF_TRAINING="20", GOSSIPDISTILL_SET=OFTEN) as up:
        kill_once_it_has_trained(compose, "bo")
        compose.compose("start", "bo", check=True)
        up.wait(180)
    assert wait_until(lambda: exit_codes(compose)["bo"] == 0, 60), compose.compose("logs", "bo").stdout
    assert "from its checkpoint" in compose.compose("logs", "bo").stdout
    again = compose.compose("run", "--rm", "--no-deps", "table", check=True).stdout
    for name in PEERS:
        assert "finished" in row_of(name, again)


def test_under_the_profile_chaos_all_troubles_happen_and_all_finish(compose: DockerBed) -> None:
    up = compose.compose("--profile", "chaos", "up", timeout_s=200)
    assert up.returncode == 0, up.stdout
    assert exit_codes(compose) == dict.fromkeys([*PEERS, "table", "chaos"], 0), up.stdout
    text = table(compose)
    assert all("finished" in row_of(name, text) for name in PEERS), text
    assert "finished (start 2)" in row_of("bo", text)
    fired = {int(number): int(count) for number, count in re.findall(r"^fault (\d),.* \(fired (\d+) x\)", text, re.M)}
    assert sorted(fired) == [1, 2, 3, 4], text
    assert (fired[1], fired[2], fired[4]) == (1, 1, 1)
    assert fired[3] > 0, "the cut has kept nothing back"

    # The plan is gone with those who had it: this is a quiet run again, from where the other has ended.
    compose.compose("--profile", "chaos", "rm", "--force", "chaos", check=True)
    quiet = compose.compose("up", timeout_s=200)
    assert quiet.returncode == 0, quiet.stdout
    assert "fault 1" not in quiet.stdout.rpartition("CPU ms/step")[2]


def test_a_container_that_is_stopped_saves_and_leaves(compose: DockerBed) -> None:
    with compose.in_background("up", SECONDS_OF_TRAINING="600"):
        saved = "ls /runs/compose/{}/checkpoints/*.json"
        for name in PEERS:
            words = ("exec", "-T", name, "sh", "-c", saved.format(name))
            assert wait_until(lambda words=words: compose.compose(*words).returncode == 0, 120)
        began_s = time.monotonic()
        compose.compose("stop", "bo", check=True)  # SIGTERM, and SIGKILL after stop_grace_period
        assert time.monotonic() - began_s < 5.0
        assert exit_codes(compose)["bo"] == 143
        told = ("exec", "-T", "ada", "grep", "-q", '"kind": "left", "peer": "bo"', "/runs/compose/ada/events.jsonl")
        assert wait_until(lambda: compose.compose(*told).returncode == 0, 30)
        compose.compose("stop", check=True)
    assert {name: exit_codes(compose)[name] for name in PEERS} == dict.fromkeys(PEERS, 143)
    result = json.loads(inside(compose, "ada", "cat /runs/compose/bo/result.json"))
    assert result["status"] == "left"
    assert result["steps"] > 0
