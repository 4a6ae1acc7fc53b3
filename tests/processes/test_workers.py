"""Workers that are started one by one, in any order: with a roster, without one, rightly and wrongly."""

from __future__ import annotations

import contextlib
import json
import signal
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from commands import START_S, Command, free_pairs, until, write_roster

Start = Callable[..., Command]


def test_a_cluster_refuses_who_does_not_fit_and_goes_on(start: Start, tmp_path: Path) -> None:
    ports = free_pairs(5)
    write_roster(tmp_path / "three.toml", ["ada", "bo", "cy"], ports[:3])
    write_roster(tmp_path / "other.toml", ["ada", "bo", "zed"], [*ports[:2], ports[3]])
    roster = ("--peers", "three.toml", "--seconds", "60")

    ada = start("worker", "--name", "ada", *roster)
    ada.expect(r"I see 1 of 3 peers after .*missing: bo at .*cy at ")
    ada.expect(r"training but not gossiping: .*nobody is there")
    bo = start("worker", "--name", "bo", *roster)
    ada.expect(r"learning from neighbours again")

    stranger = start("worker", "--name", "zed", "--peers", "other.toml", "--seconds", "60")
    settings = ("--set", "name=another", "--set", "task.transfer_examples=100")
    wrong = start("worker", "--name", "cy", *roster, *settings)
    for command, reason in (
        (stranger, "zed is not in the roster of (ada|bo)"),
        (
            wrong,
            "run: first-light at (ada|bo), another at this peer; transfer: [0-9a-f]+ at (ada|bo), [0-9a-f]+ at this",
        ),
    ):
        assert command.end() == 3, command.err
        command.expect(f"^gossipdistill: refused by (ada|bo): {reason}", 0)
    ada.expect("cy: refused: ")

    # Without keys nothing proves that it is the same peer: it gets its name when the other does not answer any more.
    newer = start(
        "worker",
        "--name",
        "ada",
        *roster,
        "--listen",
        f"127.0.0.1:{ports[4]}",
        "--advertise",
        f"127.0.0.1:{ports[4]}",
        "--fresh",
        "--out",
        "elsewhere",
    )
    newer.expect("the name ada is in use at ")
    assert ada.process.poll() is None
    ada.process.kill()
    newer.expect("exchanges, 2 of 3 peers")
    for command, number, code in ((bo, signal.SIGINT, 130), (newer, signal.SIGTERM, 143)):
        command.process.send_signal(number)
        assert command.end() == code, command.err


def test_workers_find_one_another_by_address_alone(start: Start, tmp_path: Path) -> None:
    (port,) = free_pairs(1)
    options = ("--steps", "300", "--set", "train.step_time_s=0.01", "--set", "linger_s=60", "--format", "json")
    later = start(
        "worker", "--name", "bo", "--peers", f"127.0.0.1:{port}", "--shard", "2/2", "--start-when", "2", *options
    )
    later.expect(r"bo: 1 of 2 peers here; waiting \d+ s more")
    first = start("worker", "--name", "ada", "--listen", f"127.0.0.1:{port}", "--shard", "1/2", *options)
    show = start("show", "--wait-s", "60", "--format", "json")
    assert (first.end(), later.end(), show.end()) == (0, 0, 0), first.err + later.err + show.err
    assert all(command.json()["peers"][0]["parcels_used"] > 0 for command in (first, later))
    assert [(peer["name"], peer["status"]) for peer in show.json()["peers"]] == [
        ("ada", "finished"),
        ("bo", "finished"),
    ]

    again = start("worker", "--name", "ada", "--listen", f"127.0.0.1:{port}", "--shard", "1/2", "--steps", "310")
    assert again.end() == 0
    again.expect("resumed: from its checkpoint at step 300", 0)
    events = tmp_path / "runs/first-light/ada/events.jsonl"
    assert "resumed" in {json.loads(line)["kind"] for line in events.read_text().splitlines()}


def test_a_worker_that_listens_nowhere_learns_and_teaches(start: Start, tmp_path: Path) -> None:
    ports = free_pairs(2)
    write_roster(tmp_path / "lab.toml", ["ada", "bo"], ports)
    with (tmp_path / "lab.toml").open("a") as roster:
        roster.write('[[peer]]\nname = "cy"\nlisten = "none"\n')
    options = (
        "--peers",
        "lab.toml",
        "--steps",
        "300",
        "--set",
        "train.step_time_s=0.01",
        "--set",
        "linger_s=60",
        "--start-when",
        "3",
        "--format",
        "json",
    )
    workers = {name: start("worker", "--name", name, *options) for name in ("ada", "bo")}
    workers["cy"] = start("worker", "--name", "cy", *options, env={"GOSSIPDISTILL_LISTEN": "none"})
    for name, worker in workers.items():
        assert worker.end() == 0, worker.err
        events = (tmp_path / f"runs/first-light/{name}/events.jsonl").read_text().splitlines()
        joined = {event["peer"] for event in map(json.loads, events) if event["kind"] == "joined"}
        assert joined == set(workers) - {name}
        result = json.loads((tmp_path / f"runs/first-light/{name}/result.json").read_text())
        used = {link["from"]: link["exchanges_per_s"] for link in result["links"]}
        assert set(used) == set(workers) - {name}, result["links"]
        assert min(used.values()) > 0


def test_who_leaves_hands_its_mass_over_and_who_comes_anew_goes_on_from_a_neighbours_state(
    start: Start, tmp_path: Path
) -> None:
    write_roster(tmp_path / "two.toml", ["ada", "dee"], free_pairs(2))
    padded = ("--set", "train.step_time_s=0.02", "--set", "train.checkpoint_every_s=1", "--format", "json")
    options = ("--peers", "two.toml", "--strategy", "sgp", "--set", "task.shards=disjoint", *padded)
    ada, dee = (start("worker", "--name", name, *options, "--seconds", "600") for name in ("ada", "dee"))
    until(lambda: step_of(tmp_path, "ada") > 250, START_S, "the training")  # longer than it takes to become a donor
    until(lambda: step_of(tmp_path, "dee") > 20, START_S, "the training")
    dee.process.terminate()
    assert dee.end() == 143, dee.err
    before = len(events_of(tmp_path, "dee", "adopted"))  # on a slow machine dee comes late already the first time
    (handed,) = events_of(tmp_path, "dee", "handed_over")
    assert handed["peer"] == "ada"
    assert handed["detail"]["weight"] > 0.0

    back = start("worker", "--name", "dee", *options, "--steps", "5", "--set", "linger_s=0", "--fresh")
    assert back.end() == 0, back.err
    assert [event["peer"] for event in events_of(tmp_path, "dee", "adopted")] == ["ada"] * (before + 1)
    assert back.json()["peers"][0]["val_accuracy"] > 0.6  # five steps from the start would end below one half
    ada.process.kill()
    assert {event["peer"] for event in events_of(tmp_path, "ada", "donates")} == {"dee"}


def events_of(folder: Path, name: str, kind: str) -> list[dict[str, Any]]:
    """What this peer has written of this kind."""
    lines = (folder / "runs/first-light" / name / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["kind"] == kind]


def step_of(folder: Path, name: str) -> int:
    """Of the newest checkpoint of this peer."""
    steps = [0]
    for path in (folder / "runs/first-light" / name / "checkpoints").glob("*.json"):
        with contextlib.suppress(OSError, ValueError):  # old ones go
            steps.append(json.loads(path.read_text())["note"]["content"]["progress"]["step"])
    return max(steps)


def test_newcomer_13_a_worker_that_nobody_has_answered_says_so_at_its_end_too(start: Start) -> None:
    (port,) = free_pairs(1)
    command = start(
        "worker", "--name", "bo", "--peers", f"127.0.0.1:{port}", "--shard", "2/2", "--seconds", "6", "--format", "json"
    )
    words = rf"nobody has answered at 127.0.0.1:{port}"
    command.expect(rf"{words} for \d s: nothing listens at this port \(connection refused\)")
    command.end()
    warnings = command.json()["peers"][0]["warnings"]
    assert any(line.startswith(f"{words}: nothing listens") for line in warnings), warnings


def test_a_port_in_use_is_said_at_once(start: Start, tmp_path: Path) -> None:
    ports = free_pairs(2)
    write_roster(tmp_path / "two.toml", ["ada", "bo"], ports)
    holder = start("worker", "--name", "ada", "--peers", "two.toml", "--seconds", "60")
    until((tmp_path / "runs/first-light/ada/config.json").exists, START_S, "the start of ada")
    second = start("worker", "--name", "ada", "--peers", "two.toml", "--seconds", "60")
    run = start("run", "--peers", "two.toml", "--steps", "5")
    for command in (second, run):
        assert command.end() == 5
        assert command.err.count("\n") == 0
        command.expect(
            rf"ada cannot listen at 127.0.0.1:{ports[0]}: Address already in use by process {holder.process.pid} .*"
            "; end that program, or",
            0,
        )
    holder.process.kill()


def test_three_secured_workers_in_any_order_and_a_revocation_while_they_run(start: Start, tmp_path: Path) -> None:
    write_roster(tmp_path / "lab.toml", ["ada", "bo", "cy"], free_pairs(3))
    made = start("keys", "new", "--peers", "lab.toml")
    assert made.end() == 0, made.err
    secrets = [tomllib.loads(file.read_text())["secret"] for file in (tmp_path / "keys").iterdir()]
    assert len(secrets) == 3

    roster = ("--peers", "lab.toml", "--secure", "--set", "train.step_time_s=0.2", "--set", "linger_s=0")
    cy = start("worker", "--name", "cy", *roster, "--seconds", "600")
    ada = start(
        "worker", "--name", "ada", *roster, "--seconds", "600", env={"GOSSIPDISTILL_KEY_FILE": "keys/ada.secret"}
    )
    ada.expect("2 of 3 peers")
    bo = start("worker", "--name", "bo", *roster, "--seconds", "600")
    for one in ada, bo, cy:
        one.expect("3 of 3 peers")
    revoked = start("keys", "revoke", "bo", "--peers", "lab.toml")
    assert revoked.end() == 0, revoked.err
    for one in ada, cy:
        one.expect("bo: refused: is not trusted any more")
    for one in ada, bo, cy:
        one.process.send_signal(signal.SIGTERM)
        assert one.end() == 143, one.err
    kept = [file.read_text(errors="replace") for file in (tmp_path / "runs").rglob("*") if file.is_file()]
    said = [one.err + one.out for one in (ada, bo, cy, made, revoked)]
    assert len(kept) > 6
    assert not [secret for secret in secrets for text in kept + said if secret in text]
