"""A worker whose network stands still is ended from outside, and one whose learner is blocked hears a signal."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator

import pytest

from gossipdistill.runtime import watchdog
from gossipdistill.runtime.stopping import StopRequest
from gossipdistill.runtime.watchdog import Watchdog

_BLOCK_FOR_EVER = """
lock = ctypes.create_string_buffer(64)
library.pthread_mutex_lock(lock)
print("blocked", flush=True)
library.pthread_mutex_lock(lock)
"""


@contextlib.contextmanager
def run(code: str) -> Iterator[subprocess.Popen[str]]:
    """This code in a process of its own, as far as it is blocked."""
    process = subprocess.Popen(
        [sys.executable, "-c", code + _BLOCK_FOR_EVER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process:
        try:
            assert process.stdout.readline() == "blocked\n"
            yield process
        finally:
            process.kill()


def test_a_process_that_stands_still_with_pythons_lock_is_ended_and_says_where() -> None:
    code = """
import ctypes, os
from gossipdistill.runtime.watchdog import Watchdog
library = ctypes.PyDLL(None)  # which keeps the lock
dog = Watchdog(1.0)
assert dog.start() == ""
os.write(dog.heartbeat.fileno(), b".")
"""
    with run(code) as process:
        _, err = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGABRT
    assert f"the network thread of process {process.pid} has stood still for 1 s: it is ended" in err
    assert 'File "<string>", line 12 in <module>' in err


def test_sigterm_ends_a_process_whose_main_thread_is_blocked() -> None:
    code = """
import ctypes, os
from gossipdistill.runtime.stopping import StopRequest
library = ctypes.CDLL(None)
StopRequest(grace_s=0.1).install()
"""
    with run(code) as process:
        process.terminate()
        process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM


def test_one_signal_is_one_request_whichever_way_tells_of_it_first(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []
    monkeypatch.setattr("gossipdistill.runtime.stopping._leave_at_once", left.append)
    for ways in ("handled", "piped"), ("piped", "handled"):
        stop = StopRequest()
        told = {"handled": stop._handled, "piped": stop._piped}
        for way in ways:
            stop._heard(signal.SIGTERM, told[way])
        assert (stop.reason, stop.exit_code, left) == ("terminated", 143, [])
        for way in ways:
            stop._heard(signal.SIGTERM, told[way])
        assert left.pop() == 143
        stop.settled()
    assert left == []


def watched(looks: Iterable[str], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether a process that shows this in one look after the other is ended: "." a beat, "T" stopped, "" nothing."""
    seen, now, ended = iter(looks), [""], list[float]()

    def select(*_: object) -> tuple[list[int], list[int], list[int]]:
        now[0] = next(seen, "end")
        return ([0] if now[0] in (".", "end") else []), [], []

    monkeypatch.setattr(watchdog.select, "select", select)
    monkeypatch.setattr(watchdog.os, "read", lambda *_: b"" if now[0] == "end" else b".")
    monkeypatch.setattr(watchdog, "was_stopped", lambda _: now[0] == "T")
    monkeypatch.setattr(watchdog.signal, "signal", lambda *_: None)
    monkeypatch.setattr(watchdog, "_end", lambda _, silent_s: ended.append(silent_s))
    with monkeypatch.context():
        watchdog.watch(os.getppid(), 5.0)
    return bool(ended)


def test_who_was_stopped_or_has_not_begun_is_not_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not watched([""] * 100, monkeypatch)
    assert not watched([".", *["T"] * 100, *[""] * 4, "."], monkeypatch)
    assert not watched([".", *[""] * 4] * 20, monkeypatch)
    assert watched([".", *["T"] * 100, *[""] * 5], monkeypatch)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def test_a_stopped_process_is_known(sleeper: subprocess.Popen[bytes]) -> None:
    assert not watchdog.was_stopped(sleeper.pid)
    sleeper.send_signal(signal.SIGSTOP)
    os.waitpid(sleeper.pid, os.WUNTRACED)
    assert watchdog.was_stopped(sleeper.pid)
    assert not watchdog.was_stopped(2**30)


def test_it_goes_with_its_worker() -> None:
    dog = Watchdog()
    assert dog.start() == ""
    process, heartbeat = dog._process, dog.heartbeat
    assert process is not None
    assert heartbeat is not None
    assert os.write(heartbeat.fileno(), b".") == 1
    dog.stop()
    assert process.returncode == 0
    assert heartbeat.closed


def test_it_goes_with_its_worker_although_all_of_its_group_was_stopped() -> None:
    """As a fault plan does, before a kill."""
    code = """
from gossipdistill.runtime.watchdog import Watchdog
dog = Watchdog()
dog.start()
print(dog._process.pid, flush=True)
input()
"""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, start_new_session=True) as worker:
        assert worker.stdout is not None
        watcher = os.pidfd_open(int(worker.stdout.readline()))
        os.killpg(worker.pid, signal.SIGSTOP)
        worker.kill()
    assert select.select([watcher], [], [], 20.0)[0], "it is still there"
    os.close(watcher)
