"""Two processes of one name in one folder: the second is refused, and death frees the folder at once."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from gossipdistill.config.plan import Asked, plan_local
from gossipdistill.errors import ConfigError
from gossipdistill.launchers.local import LocalRun
from gossipdistill.runtime import folder_lock
from gossipdistill.runtime.folder_lock import FILE, FolderLock, hold_folder, refuse_held
from gossipdistill.runtime.release import Release
from gossipdistill.runtime.stopping import StopRequest
from gossipdistill.runtime.worker_process import WorkerProcess

HOLD_AND_FORK = """
import os, sys, time
from pathlib import Path
from gossipdistill.runtime.folder_lock import hold_folder
with hold_folder(Path(sys.argv[1]), "ada"):
    if os.fork() == 0:
        print(os.getpid(), flush=True)  # by the child, which has let the lock go by then
        sys.stdin.read()  # until the test closes the pipe
        os._exit(0)
    sys.stdin.read()
"""


class Clock:
    """A clock that goes on when somebody waits."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def now(self) -> float:
        return self.now_s

    def pause(self, seconds: float) -> None:
        self.now_s += seconds


def holding(folder: Path, clock: Clock | None = None, name: str = "ada") -> AbstractContextManager[FolderLock]:
    clock = clock or Clock()
    return hold_folder(folder, name, clock.now, clock.pause)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the folder, with a forked child of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD_AND_FORK, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip().isdigit()
    yield process
    assert process.stdin is not None
    process.stdin.close()  # ends both
    process.stdout.read()
    process.stdout.close()
    process.wait()


def test_newcomer_14_the_second_of_one_name_is_refused_with_the_first_ones_process_id(
    other: subprocess.Popen[str], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught, holding(tmp_path):
        pass
    assert f"process {other.pid} runs in this folder as ada and is alive" in str(caught.value)
    assert "--name = 'ada'" in str(caught.value)
    assert "--out" in str(caught.value)


def test_newcomer_14_a_kill_frees_the_folder_at_once_though_a_forked_child_lives(
    other: subprocess.Popen[str], tmp_path: Path
) -> None:
    other.send_signal(signal.SIGKILL)
    other.wait()
    clock = Clock()
    with holding(tmp_path, clock):
        assert clock.now_s == 0.0
        assert (tmp_path / FILE).read_text().startswith(f"process {os.getpid()} on ")


def test_newcomer_14_other_names_have_folders_of_their_own_and_a_folder_is_free_afterwards(tmp_path: Path) -> None:
    with holding(tmp_path / "run/ada"), holding(tmp_path / "run/bo", name="bo"):
        refuse_held(tmp_path / "run/cy", "cy")
        assert not (tmp_path / "run/cy").exists()
        with pytest.raises(ConfigError, match=f"process {os.getpid()} runs"), holding(tmp_path / "run/ada"):
            pass
    for _ in range(2):
        refuse_held(tmp_path / "run/ada", "ada")


def test_newcomer_14_a_worker_a_run_and_a_run_under_a_plan_are_refused_before_they_touch_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_lock, "_DYING_S", 0.0)
    specs = plan_local(Asked(peers="2", steps=5, out=tmp_path, settings=["name=x"]))
    (tmp_path / "x").mkdir()
    with holding(specs[1].folder, name="bo"):
        (specs[1].folder / "result.json").write_text("{}")
        with pytest.raises(ConfigError, match="runs in this folder as bo"):
            WorkerProcess(specs[1], lambda record: None, StopRequest(), Release()).run()
        with pytest.raises(ConfigError, match="runs in this folder as bo"):
            LocalRun(specs[1:], tmp_path / "x", lambda name, record: None).run()
        assert sorted(path.name for path in specs[1].folder.iterdir()) == [FILE, "result.json"]


def test_one_that_is_just_ending_is_waited_for(tmp_path: Path) -> None:
    clock = Clock()
    first = holding(tmp_path)
    first.__enter__()

    def pause(seconds: float) -> None:
        clock.pause(seconds)
        if clock.now_s > 1.0:
            first.__exit__(None, None, None)

    with hold_folder(tmp_path, "ada", clock.now, pause):
        assert 1.0 < clock.now_s < 2.0


def test_newcomer_14_a_file_system_without_locks_is_tolerated_with_a_notice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(number: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(folder_lock.fcntl, "flock", no_locks)
    with holding(tmp_path) as lock:
        assert "has no file locks (No locks available)" in lock.problem
        assert "second process of ada" in lock.problem


def test_what_the_file_says_of_the_holder_is_not_believed_blindly(tmp_path: Path) -> None:
    with holding(tmp_path):
        (tmp_path / FILE).write_text("process 12 on \x1b[31mevil\n")
        with pytest.raises(ConfigError) as caught, holding(tmp_path):
            pass
    assert "another process runs in this folder" in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_a_folder_that_cannot_be_made_is_the_users_error(tmp_path: Path) -> None:
    (tmp_path / "ada").write_text("a file")
    with pytest.raises(ConfigError, match="cannot be written: "), holding(tmp_path / "ada"):
        pass
