"""Real workers on machines of their own: partitions, deaf directions, long wires, translated addresses, dead names.

Asserted is who was found dead and who came back, that nobody's training waited for it, and that those between whom
nothing was wrong went on exchanging.
"""

from __future__ import annotations

import json
import shutil
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from commands import Command, until
from lab import ALONE, STEPS_PER_EXCHANGE, Lab, exchanges
from machine import NoBedError
from net_bed import NetBed, Wire, seconds_of

pytestmark = pytest.mark.bed

MINUTES = 8
QUIET_STEPS = 250

MakeLab = Callable[..., Lab]
Results = dict[str, dict[str, Any]]


@pytest.fixture
def lab_of(tmp_path: Path, started: Callable[..., Command], say: Callable[[str], None]) -> Iterator[MakeLab]:
    """Makes machines for peers of these names, and one for the yardstick; or the test is skipped with the reason."""
    with ExitStack() as ends:

        def make(*peers: str, hosts: dict[str, str] | None = None, **how: Any) -> Lab:
            try:
                bed = ends.enter_context(NetBed([*peers, ALONE], **how))
            except NoBedError as reason:
                say(f"SKIP network bed: {reason}")
                pytest.skip(f"network bed: {reason}")
            lab = Lab(bed, tmp_path, started, peers)
            lab.write_roster(hosts)
            return lab

        yield make


def quiet(lab: Lab, steps: int = QUIET_STEPS) -> tuple[float, float]:
    """Let all train undisturbed for a while: the yardstick of what comes."""
    began_s = time.monotonic()
    lab.train_on([*lab.peers, ALONE], steps)
    return began_s, time.monotonic()


def assert_exchanged(lab: Lab, results: Results, pairs: list[tuple[str, str]], share: float) -> None:
    """Of what the sender has published, these receivers have used so much, both ways."""
    for sender, receiver in [way for pair in pairs for way in permutations(pair)]:
        published = min(results[sender]["steps"], results[receiver]["steps"]) / STEPS_PER_EXCHANGE
        used = exchanges(results, sender, receiver)
        assert used >= share * published, f"{receiver} used {used} of {published:.0f} of {sender}: {lab.log()}"


def test_a_split_and_a_deaf_direction_are_seen_healed_and_waited_for_by_nobody(lab_of: MakeLab) -> None:
    lab = lab_of("ada", "bo", "cy", "dee")
    lab.start_all()
    quiet_s = quiet(lab)

    cut_at, cut_s = lab.told(), time.monotonic()
    lab.bed.split(["ada", "bo"], ["cy", "dee"])
    torn = [(here, there) for here in ("ada", "bo") for there in ("cy", "dee")]
    for here, there in torn:
        lab.await_event(here, "dead", there, cut_at)
        lab.await_event(there, "dead", here, cut_at)
    lab.train_on([*lab.peers, ALONE], 100)  # and on, each side for itself
    healed_at, healed_s = lab.told(), time.monotonic()
    lab.bed.heal()
    for here, there in torn:
        lab.await_event(here, "returned", there, healed_at)
        lab.await_event(there, "returned", here, healed_at)
    lab.assert_nobody_waited(lab.peers, quiet_s, (cut_s, healed_s))
    quiet(lab)

    # TCP needs both directions, so these two lose one another altogether; but the others know that both live.
    deaf_at, deaf_s = lab.told(), time.monotonic()
    lab.bed.cut("ada", "cy")
    lab.await_event("ada", "unreachable", "cy", deaf_at)
    lab.await_event("cy", "unreachable", "ada", deaf_at)
    lab.train_on([*lab.peers, ALONE], 100)
    open_at, open_s = lab.told(), time.monotonic()
    lab.bed.heal()
    lab.await_event("ada", "reachable", "cy", open_at)
    lab.await_event("cy", "reachable", "ada", open_at)
    lab.assert_nobody_waited(lab.peers, quiet_s, (deaf_s, open_s))
    quiet(lab)

    whole = [("ada", "bo"), ("cy", "dee")]
    for one, other in permutations(lab.peers, 2):
        assert other not in lab.heard(one, "dead", deaf_at), lab.log()
        if (one, other) not in torn and (other, one) not in torn:
            assert other not in lab.heard(one, "dead", cut_at), lab.log()
    apart = (open_s - cut_s) / (time.monotonic() - quiet_s[0])
    results = lab.end_all()
    assert_exchanged(lab, results, whole, 0.9)
    assert_exchanged(lab, results, torn, 0.8 * (1 - apart))  # as much as when they could, not what came before alone


def test_behind_a_long_thin_lossy_wire_a_peer_takes_part_and_costs_nobody_anything(lab_of: MakeLab) -> None:
    wire = Wire(delay_s=0.1, loss=0.02, bytes_per_s=250_000)
    lab = lab_of("ada", "bo", "dee", wires={"dee": wire})
    lab.start_all()
    quiet_s = quiet(lab)
    for one, other in permutations(lab.peers, 2):
        assert other not in lab.heard(one, "dead", dict.fromkeys(lab.peers, 0)), lab.log()

    # Then its cable is pulled: no connection is closed, nothing comes back.
    pulled_at, pulled_s = lab.told(), time.monotonic()
    lab.bed.unplug("dee")
    for name in ("ada", "bo"):
        lab.await_event(name, "dead", "dee", pulled_at)
        lab.await_event("dee", "dead", name, pulled_at)
    lab.train_on([*lab.peers, ALONE], 100)
    plugged_at, plugged_s = lab.told(), time.monotonic()
    lab.bed.plug("dee")
    for name in ("ada", "bo"):
        lab.await_event(name, "returned", "dee", plugged_at)
        lab.await_event("dee", "returned", name, plugged_at)
    lab.assert_nobody_waited(lab.peers, quiet_s, (pulled_s, plugged_s))
    # Long enough that the wait of TCP after the silence, which lasts as long again, is a part of it and not most.
    quiet(lab, 3 * QUIET_STEPS)
    apart = (plugged_s - pulled_s) / (time.monotonic() - quiet_s[0])
    results = lab.end_all()
    assert_exchanged(lab, results, [("ada", "bo")], 0.9)
    assert_exchanged(lab, results, [("ada", "dee"), ("bo", "dee")], 0.5 * (1 - apart))


@pytest.fixture
def three_machines(lab_of: MakeLab, tmp_path: Path, started: Callable[..., Command]) -> Lab:
    """By the README: keys are made once; roster, run file and each peer's own secret lie on its machine."""
    lab = lab_of("ada", "bo", "cy")
    assert started("new", "first").end() == 0
    for name in lab.peers:
        (tmp_path / name).mkdir()
        for file in ("first/first-light.toml", "lab.toml", f"keys/{name}.secret"):
            shutil.copy(tmp_path / file, tmp_path / name)
    return lab


def test_three_machines_by_the_readme_in_any_order(three_machines: Lab, tmp_path: Path) -> None:
    def line(name: str, *words: str) -> Command:
        folder = tmp_path / name
        return three_machines.started(*words, within=three_machines.bed.on(name, folder), folder=folder)

    doctors = {name: line(name, "doctor", "--peers", "lab.toml") for name in ("cy", "ada", "bo")}
    for name, doctor in doctors.items():
        assert doctor.end() == 0, f"{name}: {doctor.out}{doctor.err}"
    words = ("worker", "first-light.toml", "--peers", "lab.toml", "--start-when", "3", "--start-within", "180")
    workers = {name: line(name, *words, "--name", name, "--key", f"{name}.secret") for name in ("bo", "cy", "ada")}
    for name, worker in workers.items():
        assert worker.end() == 0, f"{name}: {worker.err}"
        assert "insecure" not in worker.err
        folder = tmp_path / name
        result = json.loads((folder / "runs/first-light" / name / "result.json").read_text())
        assert result["status"] == "finished"
        assert {link["from"] for link in result["links"] if link["exchanges"]} == set(workers) - {name}
        secret = tomllib.loads((folder / f"{name}.secret").read_text())["secret"]
        written = [file.read_bytes() for file in (folder / "runs").rglob("*") if file.is_file()]
        assert all(secret.encode() not in text for text in [*written, worker.out.encode(), worker.err.encode()])


def test_the_doctor_names_the_direction_that_is_closed(three_machines: Lab, tmp_path: Path) -> None:
    bed = three_machines.bed
    bed.refuse_calls("bo", "ada")
    words = ("doctor", "--peers", "lab.toml", "--format", "json")
    doctors = {
        name: three_machines.started(*words, within=bed.on(name, tmp_path / name), folder=tmp_path / name)
        for name in three_machines.peers
    }
    assert [doctors[name].end() for name in ("ada", "bo", "cy")] == [5, 5, 0]
    wrong = {
        name: [(found["check"], found["about"]) for found in doctor.json()["findings"] if found["verdict"] == "problem"]
        for name, doctor in doctors.items()
    }
    assert wrong == {"ada": [("reaching", "bo")], "bo": [("reached by", "ada")], "cy": []}


def test_who_can_only_call_out_learns_and_teaches(lab_of: MakeLab) -> None:
    """`cy` is at home, behind a router that translates addresses; `bo` has an address, and a firewall against `ada`."""
    lab = lab_of("ada", "bo", "cy", home=["cy"], hosts={"cy": ""})
    lab.bed.refuse_calls("bo", "ada")
    lab.start_all()
    quiet(lab)
    results = lab.end_all()
    assert_exchanged(lab, results, [("ada", "cy"), ("bo", "cy"), ("ada", "bo")], 0.8)


def test_a_name_that_takes_ten_seconds_to_fail_stalls_nobody(lab_of: MakeLab) -> None:
    """`zed.lab` is asked of a name server that never answers; the peers' own names are in their hosts files. ZeroMQ
    would look it up in the thread that serves all sockets of a process, and all edges would go dark at once."""
    lab = lab_of("ada", "bo", "zed", hosts={name: f"{name}.lab" for name in ("ada", "bo", "zed")})
    for name in ("ada", "bo", ALONE):
        lab.bed.write_hosts(name, {f"{other}.lab": lab.bed.addresses[other] for other in ("ada", "bo")})
        lab.bed.forsake_resolver(name, keeper="zed")
    assert seconds_of(lab.bed, "ada", "getent", "ahosts", "zed.lab") >= 9.0, "the bed is not what it is meant to be"

    for name in ("ada", "bo"):
        lab.start(name, "--start-when", "2", "--start-within", "180")
    lab.start_alone()
    living = ["ada", "bo", ALONE]
    lab.train_on(living, 50)
    began_s = time.monotonic()
    until(lambda: time.monotonic() > began_s + 25, 60, "two failures of the resolver, and the times between")
    lab.train_on(living, 50)
    for name in ("ada", "bo"):
        pause_s = lab.longest_pause_s(name, began_s, began_s + 25)
        assert pause_s <= 1.0 + lab.longest_pause_s(ALONE, began_s, began_s + 25)
        assert not lab.heard(name, "suspect", dict.fromkeys(living, 0)) & {"ada", "bo"}, lab.log()
        assert not lab.heard(name, "no_exchange", dict.fromkeys(living, 0)), lab.log()
    lab.peers = ["ada", "bo"]
    assert_exchanged(lab, lab.end_all(), [("ada", "bo")], 0.9)
