"""Real doctors on the loopback: one has another version, one finds its port taken, one does not run."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from commands import Command, free_pairs, write_roster

from gossipdistill.keys.issuing import new

Start = Callable[..., Command]
OTHER_VERSION = "import gossipdistill as g; g.__version__ = '9.9.9'; from gossipdistill.cli import main; main()"
OTHER_WIRE = "import gossipdistill.wire.codec as c; c.WIRE_VERSION = 99; from gossipdistill.cli import main; main()"
WITHIN_S = 60.0


def doctor(folder: Path, program: str, name: str, seconds: str) -> subprocess.Popen[str]:
    """A doctor that is not quite this one."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("GOSSIPDISTILL_")}
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            program,
            "doctor",
            "--peers",
            "lab.toml",
            "--name",
            name,
            "--seconds",
            seconds,
            "--format",
            "json",
        ],
        cwd=folder,
        env=clean,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def findings(summary: dict[str, object], verdict: str) -> set[tuple[str, str]]:
    found = summary["findings"]
    assert isinstance(found, list)
    return {(one["check"], one["about"]) for one in found if one["verdict"] == verdict} - {
        ("CPU threads", "CPU threads")
    }


def test_two_doctors_that_are_well_end_by_themselves(start: Start, tmp_path: Path) -> None:
    new(write_roster(tmp_path / "lab.toml", ["ada", "bo"], free_pairs(2)))
    options = ("--peers", "lab.toml", "--secure", "--format", "json")
    both = [start("doctor", "--name", name, *options) for name in ("ada", "bo")]
    assert [one.end(WITHIN_S) for one in both] == [0, 0]
    for one, other in zip(both, ("bo", "ada"), strict=True):
        summary = one.json()
        assert findings(summary, "problem") | findings(summary, "warning") == set()
        met = summary["others"][other]
        assert (met["kind"], met["reached"], met["reaches_me"]) == ("doctor", True, True)
        assert met["large_transfer_bytes"] == 64_000_000
        assert met["large_transfer_bytes_per_s"] > 1e6
        assert 0 < met["round_trip_s"] < 1


def test_another_version_a_taken_port_and_one_that_does_not_run(start: Start, tmp_path: Path) -> None:
    names, ports = ["ada", "bo", "cy", "dee", "eve"], free_pairs(5)
    write_roster(tmp_path / "lab.toml", names, ports)
    others = [doctor(tmp_path, OTHER_VERSION, "bo", "6"), doctor(tmp_path, OTHER_WIRE, "eve", "6")]
    try:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", ports[2]))
            taken.listen(8)
            ada = start("doctor", "--peers", "lab.toml", "--name", "ada", "--seconds", "6", "--format", "json")
            cy = start("doctor", "--peers", "lab.toml", "--name", "cy", "--seconds", "6", "--format", "json")
            assert ada.end(WITHIN_S) == 3  # eve's wire version comes first
            assert cy.end(WITHIN_S) == 5
        bo = json.loads(others[0].communicate(timeout=WITHIN_S)[0])
    finally:
        for process in others:
            process.kill()
            process.communicate()
    summary = ada.json()
    assert findings(summary, "problem") == {("versions", "eve"), ("reaching", "cy"), ("reaching", "dee")}, summary
    assert findings(summary, "warning") == {("versions", "bo")}
    said = {(one["check"], one["about"]): f"{one['found']} -> {one['advice']}" for one in summary["findings"]}
    assert "wire version 99, this machine 3" in said["versions", "eve"]
    assert "gossipdistill 9.9.9 there" in said["versions", "bo"]
    assert "calls here, but cannot be reached" in said["reaching", "cy"]
    assert "nothing listens" in said["reaching", "dee"]
    assert "doctor --peers lab.toml --name dee" in said["reaching", "dee"]
    taken_port = next(one for one in cy.json()["findings"] if one["check"] == "ports" and one["verdict"] == "problem")
    assert str(ports[2]) in taken_port["found"]
    assert bo["others"]["ada"]["large_transfer_bytes"] == 64_000_000


def test_a_worker_is_met_and_takes_no_note_of_it(start: Start, tmp_path: Path) -> None:
    write_roster(tmp_path / "lab.toml", ["ada", "bo"], free_pairs(2))
    worker = start("worker", "--name", "bo", "--peers", "lab.toml", "--seconds", "60")
    worker.expect(r"bo: step")
    ada = start("doctor", "--peers", "lab.toml", "--name", "ada", "--seconds", "30", "--format", "json")
    assert ada.end(WITHIN_S) == 0
    met = ada.json()["others"]["bo"]
    assert (met["kind"], met["reached"], met["reaches_me"]) == ("worker", True, True)
    here = start("doctor", "--peers", "lab.toml", "--name", "bo", "--seconds", "0")
    assert here.end(WITHIN_S) == 0
    assert "a worker answers there" in here.out
    worker.process.send_signal(signal.SIGINT)
    assert worker.end() == 130
    assert "doctor" not in (tmp_path / "runs" / "first-light" / "bo" / "events.jsonl").read_text()


def test_ctrl_c_ends_it_at_once_and_waiting_is_said_in_plain_words(start: Start, tmp_path: Path) -> None:
    write_roster(tmp_path / "lab.toml", ["ada", "bo"], free_pairs(2))
    ada = start("doctor", "--peers", "lab.toml", "--name", "ada")
    ada.expect(r"meeting or awaiting bo, at most \d+ s")
    ada.process.send_signal(signal.SIGINT)
    assert ada.end(5.0) == 130
    assert ada.out == ""
    assert "\x1b" not in ada.err


def test_the_table_says_what_to_do(start: Start, tmp_path: Path) -> None:
    write_roster(tmp_path / "lab.toml", ["ada", "bo"], free_pairs(2))
    ada = start("doctor", "--peers", "lab.toml", "--name", "ada", "--seconds", "0.5")
    assert ada.end(WITHIN_S) == 5
    assert "-> start there: gossipdistill doctor --peers lab.toml --name bo" in ada.out
    assert "1 problem" in ada.out
    assert "\x1b" not in ada.out
