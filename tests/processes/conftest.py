from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commands import Command

Start = Callable[..., Command]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `gossipdistill ARGS...` in a folder of its own."""
    commands: list[Command] = []

    def begin(*args: str, env: dict[str, str] | None = None) -> Command:
        commands.append(Command(args, tmp_path, env))
        return commands[-1]

    yield begin
    for command in commands:
        command.clean_up()
