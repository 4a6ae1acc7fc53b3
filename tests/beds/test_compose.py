"""`docker compose up` for real: four containers with names and addresses of their own, and one that is killed.

The engine is the bed's own; docker_bed.py says what it needs, and how many minutes. The commands of the same file run
without Docker in tests/test_compose_file.py.
"""

import json
import re
from collections.abc import Iterator

import pytest
from docker_bed import DockerBed, NoBedError, wait_until

pytestmark = pytest.mark.bed

PEERS = ["ada", "bo", "cy", "dee"]


@pytest.fixture(scope="module")
def bed(pytestconfig: pytest.Config) -> Iterator[DockerBed]:
    terminal = pytestconfig.pluginmanager.getplugin("terminalreporter")
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")

    def say(line: str) -> None:
        with capture.global_and_fixture_disabled():
            terminal.ensure_newline()
            terminal.write_line(line)

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
        trained = wait_until(lambda: "bo" in compose.compose("logs", "bo").stdout, 60)
        assert trained
        compose.compose("kill", "--signal", "SIGKILL", "bo", check=True)
        up.wait(200)
    codes = exit_codes(compose)
    assert codes["bo"] == 137
    assert [codes[name] for name in PEERS if name != "bo"] == [0, 0, 0]
    text = table(compose)
    assert "lost" in row_of("bo", text)
    for name in PEERS:
        if name != "bo":
            assert "finished" in row_of(name, text)
