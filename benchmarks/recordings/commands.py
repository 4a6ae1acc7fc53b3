"""`gossipdistill ARGS...` in forks of this process: nothing is imported twice, and files are as a real worker's."""

from __future__ import annotations

import importlib
import os
import pkgutil
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import gossipdistill
from gossipdistill.cli import main

SEED = 7
_PREFIX = "gossipdistill."
_PORTS = range(25_000, 32_000, 2)


def called(folder: Path, *lines: Sequence[str]) -> list[str]:
    """What these commands, side by side in `folder`, print on standard output. All of them must end with 0.

    Call it before anything is trained in this process: threads do not survive a fork.
    """
    _import_all()
    children = [_fork(folder, number, line) for number, line in enumerate(lines)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    said = [(folder / f"{number}.err").read_text() for number in range(len(lines))]
    assert not any(codes), f"exit codes {codes}:\n" + "\n".join(said)
    return [(folder / f"{number}.out").read_text() for number in range(len(lines))]


def workers(folder: Path, names: Sequence[str], *options: str) -> list[str]:
    """One `gossipdistill worker` for each name, of one roster; returns what they print."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = (f'[[peer]]\nname = "{name}"\naddress = "127.0.0.1:{port}"\n' for name, port in _addresses(names))
    (folder / "roster.toml").write_text("".join(entries))
    common = ("--peers", "roster.toml", "--device", "cpu", "--seed", str(SEED), "--start-when", str(len(names)))
    return called(folder, *(("worker", "--name", name, *common, *options) for name in names))


def _import_all() -> None:
    """Once, and not once per fork."""
    for name in ("torch._dynamo", *(module.name for module in pkgutil.walk_packages(gossipdistill.__path__, _PREFIX))):
        if not name.endswith("__main__"):
            importlib.import_module(name)


def _fork(folder: Path, number: int, line: Sequence[str]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.chdir(folder)
        for descriptor, end in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{number}.{end}", os.O_CREAT | os.O_TRUNC | os.O_WRONLY), descriptor)
        for name in [name for name in os.environ if name.startswith("GOSSIPDISTILL_")]:
            del os.environ[name]
        sys.argv = ["gossipdistill", *line]
        main()
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.stdout.flush()
        os._exit(code)  # nothing of the parent's is to run twice


def _addresses(names: Sequence[str]) -> list[tuple[str, int]]:
    first = 2 * (os.getpid() % 1500)
    free = [port for port in _PORTS[first // 2 :] if all(map(_is_free, (port, port + 1)))]
    return list(zip(names, free, strict=False))


def _is_free(port: int) -> bool:
    with socket.socket() as probe, suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False
