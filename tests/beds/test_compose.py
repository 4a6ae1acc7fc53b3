"""`docker compose up` for real: four containers with names and addresses of their own, and one that is killed.

The engine is the bed's own; docker_bed.py says what it needs, and how many minutes. The commands of the same file run
without Docker in tests/test_compose_file.py.
"""

import json
import re
from collections.abc import Callable, Iterator

import pytest
from docker_bed import MINUTES, DockerBed, wait_until  # noqa: F401 - the minutes of this bed
from machine import NoBedError

pytestmark = pytest.mark.bed

PEERS = ["ada", "bo", "cy", "dee"]


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
    bed.compose("down", "--volumes", "--timeout", "0")  # of a test run that was killed
    yield bed
    bed.compose("down", "--volumes", "--timeout", "0", check=True)


def kill_once_it_has_trained(bed: DockerBed, name: str) -> None:
    checkpoint = f"/runs/compose/{name}/checkpoints/*.json"  # the first is written after ten seconds of training
    assert wait_until(lambda: bed.compose("exec", "-T", name, "sh", "-c", f"ls {checkpoint}").returncode == 0, 60)
    bed.compose("kill", "--signal", "SIGKILL", name, check=True)


def exit_codes(bed: DockerBed) -> dict[str, int]:
    lines = bed.compose("ps", "--all", "--format", "json").stdout.splitlines()
    containers = [json.loads(line) for line in lines if line.startswith("{")]
    return {container["Service"]: container["ExitCode"] for container in containers}


def table(bed: DockerBed) -> str:
    return bed.compose("logs", "--no-log-prefix", "table").stdout


def row_of(name: str, text: str) -> str:
    rows = [line for line in text.splitlines() if re.search(rf"\b{name}\b", line)]
    assert rows, f"{name} is not in the table:\n{text}"
    return "\n".join(rows)


def test_compose_up_ends_by_itself_with_a_table(compose: DockerBed) -> None:
    up = compose.compose("up", timeout_s=200)
    assert up.returncode == 0, up.stdout
    assert exit_codes(compose) == dict.fromkeys([*PEERS, "table"], 0), up.stdout
    for name in PEERS:
        assert "finished" in row_of(name, table(compose))


def test_a_killed_container_is_lost_and_the_others_finish(compose: DockerBed) -> None:
    with compose.in_background("up", SECONDS_OF_TRAINING="20") as up:
        kill_once_it_has_trained(compose, "bo")
        up.wait(180)
    assert exit_codes(compose) == dict.fromkeys([*PEERS, "table"], 0) | {"bo": 137}
    for name in PEERS:
        assert ("lost" if name == "bo" else "finished") in row_of(name, table(compose))


def test_a_killed_container_that_is_started_again_finishes_too(compose: DockerBed) -> None:
    with compose.in_background("up", SECONDS_OF_TRAINING="20") as up:
        kill_once_it_has_trained(compose, "bo")
        compose.compose("start", "bo", check=True)
        up.wait(180)
    assert wait_until(lambda: exit_codes(compose)["bo"] == 0, 60), compose.compose("logs", "bo").stdout
    assert "from its checkpoint" in compose.compose("logs", "bo").stdout
    again = compose.compose("run", "--rm", "--no-deps", "table", check=True).stdout
    for name in PEERS:
        assert "finished" in row_of(name, again)
