"""What all beds share: their minutes, what they say while they run, and that the machine is left as it was found."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "processes"))

from commands import Command
from machine import changes, footprint

MINUTES_TOGETHER_MAX = 36
"""All of CI has fifty, and `make test` takes ten of them. What beds declare is for a machine that has nothing of them
yet, and a slow one at that."""
Say = Callable[[str], None]


def minutes_of(module: object) -> float:
    """Each bed declares `MINUTES`: what it may take on a loaded machine that has nothing of it yet."""
    return float(getattr(module, "MINUTES"))  # noqa: B009 - a bed that declares none is a mistake of ours


def pytest_report_collectionfinish(items: list[pytest.Item]) -> list[str]:
    beds = {item.path.stem: minutes_of(item.module) for item in items if item.path.parent == Path(__file__).parent}
    if not beds:
        return []
    together = sum(beds.values())
    assert together <= MINUTES_TOGETHER_MAX, f"the beds declare {together:g} minutes: {beds}"
    each = ", ".join(f"{name.removeprefix('test_')} {minutes:g}" for name, minutes in beds.items())
    return [f"beds: at most {together:g} minutes together: {each}"]


@pytest.fixture(scope="session", autouse=True)
def hanging_up_ends() -> Iterator[None]:
    """Also where the beds themselves were started by `nohup`, which processes hand on and workers respect."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(scope="session")
def say(pytestconfig: pytest.Config) -> Say:
    """A line for whoever waits, although pytest captures output."""
    terminal = pytestconfig.pluginmanager.getplugin("terminalreporter")
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")

    def line(text: str) -> None:
        with capture.global_and_fixture_disabled():
            terminal.ensure_newline()
            terminal.write_line(text)

    return line


@pytest.fixture(scope="module", autouse=True)
def in_its_minutes(request: pytest.FixtureRequest, say: Say) -> Iterator[None]:
    """A bed takes no longer than it declares, and leaves firewall, interfaces and namespaces as they were."""
    before, began_s = footprint(), time.monotonic()
    yield
    took_s = time.monotonic() - began_s
    say(
        f"{request.module.__name__.removeprefix('test_')} bed: {took_s:.0f} s of {minutes_of(request.module):g} minutes"
    )
    assert not changes(before, footprint())
    assert took_s <= 60 * minutes_of(request.module)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """Starts `gossipdistill ARGS...`, in a folder of the test's own unless told another; `within` is `bed.on(NAME)`."""
    commands: list[Command] = []

    def begin(
        *args: str, env: dict[str, str] | None = None, within: Sequence[str] = (), folder: Path = tmp_path
    ) -> Command:
        commands.append(Command(args, folder, env, within))
        return commands[-1]

    yield begin
    for command in commands:
        command.clean_up()
