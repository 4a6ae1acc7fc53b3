"""Each check of the doctor by itself, on cases made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gossipdistill.doctor.case import Case, Finding, Keys, Machine, Meeting, Port, Verdict
from gossipdistill.doctor.checks import CHECKS
from gossipdistill.errors import AddressError, ConfigError, IdentityError
from gossipdistill.machine.lookups import LookUp
from gossipdistill.presence import NOWHERE, Address
from gossipdistill.roster import PeerEntry, Roster

VERSIONS = {"gossipdistill": "0.1.0", "wire": "2", "torch": "2.13.0", "pyzmq": "27.0"}
MET = Meeting(
    "doctor",
    True,
    True,
    "bo",
    VERSIONS,
    "2",
    (0.001, 0.003, 0.002),
    0.01,
    0.002,
    64_000_000,
    0.5,
)


def case_of(**changes: Any) -> Case:
    """Two machines that are well, seen from ada's."""
    roster = Roster(
        peer=(
            PeerEntry(name="ada", address=Address("192.0.2.1", 7400)),
            PeerEntry(name="bo", address=Address("bo.lab", 7402)),
        )
    )
    whole = Case(
        "lab.toml",
        roster,
        Machine(4, None, 1024, VERSIONS),
        "ada",
        True,
        Address("192.0.2.1", 7400),
        Address("192.0.2.1", 7400),
        "192.0.2.1",
        ("ada",),
        {"192.0.2.1": LookUp(("192.0.2.1",), 0.0, mine=True), "bo.lab": LookUp(("192.0.2.2",), 0.01)},
        (Port(7400), Port(7401)),
        {"bo": MET},
        keys=Keys(True, "keys/ada.secret"),
    )
    return replace(whole, **changes)


def with_peers(*entries: PeerEntry, **changes: Any) -> Case:
    return case_of(roster=Roster(peer=entries), **changes)


def with_bo(**changes: Any) -> Case:
    return case_of(meetings={"bo": replace(MET, **changes)})


def worst(check: str, case: Case) -> Finding:
    """The worst finding of one check; what is not well must come with advice, what is well without."""
    found = CHECKS[check].look(case)
    assert found
    for one in found:
        assert bool(one.advice) == (one.verdict is not Verdict.OK), one
    return max(found, key=lambda one: list(Verdict).index(one.verdict))


def says(check: str, case: Case, verdict: Verdict, *words: str) -> None:
    found = worst(check, case)
    assert found.verdict is verdict, found
    for word in words:
        assert word in f"{found.about}: {found.found} -> {found.advice}", (word, found)


WELL = {
    "roster": "2 peers, names valid and distinct: ada, bo",
    "this machine": "is this machine, at 192.0.2.1:7400",
    "keys": "its secret keys/ada.secret fits its public key in the roster",
    "names": "is 192.0.2.2, found in 10 ms",
    "addresses": "have addresses that the others can use",
    "ports": "ports 7400 and 7401 of 192.0.2.1 can be listened on",
    "versions": "torch 2.13.0",
    "reaching": "a doctor answers at bo.lab:7402",
    "reached by": "has called 192.0.2.1:7400",
    "round trip": "median 2.0 ms, worst 3.0 ms of 3",
    "transfer": "1 kB in 2.0 ms; 64 MB in 0.50 s, 128.0 MB/s",
    "clock": "0.010 s ahead of this one",
    "open files": "1024; 1 other needs about 136",
    "CPU threads": "4 CPUs for 1 peer of this machine; each worker takes 4",
}


def test_there_is_a_well_case_for_each_check() -> None:
    assert WELL.keys() == CHECKS.keys()


@pytest.mark.parametrize("check", CHECKS)
def test_on_machines_that_are_well_each_check_says_so(check: str) -> None:
    found = CHECKS[check].look(case_of())
    assert {one.verdict for one in found} == {Verdict.OK}
    assert any(WELL[check] in one.found for one in found), found
    assert CHECKS[check].exit_code in (ConfigError.exit_code, AddressError.exit_code, IdentityError.exit_code)


def test_a_roster_of_one() -> None:
    says(
        "roster", with_peers(PeerEntry(name="ada", address=Address("a", 1))), Verdict.WARNING, "no other to learn from"
    )


def test_a_large_roster_says_how_many_are_called() -> None:
    peers = [PeerEntry(name=f"p{k}", address=Address(f"h{k}", 7400)) for k in range(100)]
    says("roster", with_peers(*peers), Verdict.OK, "100 peers", "p7, ...", "1 of them are called")


@pytest.mark.parametrize(
    ("here", "words"),
    [
        (("ada", "bo"), ("2 peers are on this machine", "--name ada")),
        ((), ("none of the roster's addresses", "--name")),
    ],
)
def test_a_machine_that_nobody_has_named(here: tuple[str, ...], words: tuple[str, ...]) -> None:
    says("this machine", case_of(name="", here=here), Verdict.PROBLEM, *words)


def test_a_machine_known_by_its_address_and_one_that_is_another() -> None:
    says("this machine", case_of(named=False), Verdict.OK, "by its address 192.0.2.1:7400")
    elsewhere = case_of(look_ups={"192.0.2.1": LookUp(("192.0.2.1",), 0.0)})
    says("this machine", elsewhere, Verdict.WARNING, "is not one of its addresses", "--listen 0.0.0.0:7400")
    says("this machine", replace(elsewhere, listen=Address("0.0.0.0", 7400)), Verdict.OK)


def test_names_that_are_slow_or_not_found() -> None:
    lost = case_of(look_ups={"bo.lab": LookUp((), 5.0, "no answer within 5 s")})
    says("names", lost, Verdict.PROBLEM, "bo.lab: is not found: no answer within 5 s (after 5000 ms)", "/etc/hosts")
    slow = case_of(look_ups={"bo.lab": LookUp(("192.0.2.2",), 1.5)})
    says("names", slow, Verdict.WARNING, "found after 1500 ms", "/etc/resolv.conf")


def test_loopback_is_for_rosters_of_one_machine() -> None:
    mine = PeerEntry(name="ada", address=Address("127.0.0.1", 7400))
    far = PeerEntry(name="bo", address=Address("bo.lab", 7400))
    near = PeerEntry(name="bo", address=Address("localhost", 7402))
    says("addresses", with_peers(mine, far), Verdict.PROBLEM, "ada: 127.0.0.1:7400 means the caller's own machine")
    local = {"listen": mine.address, "advertise": mine.address, "bound_host": "127.0.0.1"}
    says("addresses", with_peers(mine, near, **local), Verdict.OK)


def test_listening_everywhere_needs_an_address_that_others_can_dial() -> None:
    everywhere = Address("0.0.0.0", 7400)
    says("addresses", case_of(listen=everywhere), Verdict.OK)
    says(
        "addresses",
        case_of(listen=everywhere, advertise=everywhere),
        Verdict.PROBLEM,
        "others cannot dial 0.0.0.0",
        "--advertise HOST:7400",
    )


def test_an_own_name_that_is_loopback_on_the_own_machine() -> None:
    listen = Address("ada.lab", 7400)
    says(
        "addresses",
        case_of(listen=listen, bound_host="127.0.1.1"),
        Verdict.PROBLEM,
        "ada.lab is 127.0.1.1",
        "/etc/hosts",
    )


def test_link_local_addresses() -> None:
    ada, bo = Address("192.0.2.1", 7400), Address("169.254.3.4", 7400)
    case = with_peers(PeerEntry(name="ada", address=ada), PeerEntry(name="bo", address=bo))
    says("addresses", case, Verdict.WARNING, "link-local")


@pytest.mark.parametrize(
    ("ports", "verdict", "words"),
    [
        (
            [Port(7400, "Address already in use", "process 7 (nginx)"), Port(7401)],
            Verdict.PROBLEM,
            ["port 7400 of 192.0.2.1 cannot be listened on", "held by process 7 (nginx)", "end that program"],
        ),
        (
            [Port(7400, "Address already in use", "", True), Port(7401, "Address already in use", "", True)],
            Verdict.WARNING,
            ["ports 7400 and 7401", "a worker answers there", "nothing, if it is this peer's"],
        ),
        ([Port(80, "Permission denied"), Port(81, "Permission denied")], Verdict.PROBLEM, ["a port from 1024 on"]),
        ([Port(7400, "Cannot assign requested address")], Verdict.PROBLEM, ["is this ada's machine?"]),
    ],
)
def test_ports_that_cannot_be_had(ports: list[Port], verdict: Verdict, words: list[str]) -> None:
    case = case_of(ports=tuple(ports))
    assert not case.listens
    says("ports", case, verdict, *words)
    assert CHECKS["reached by"].look(case) == []


def test_a_peer_that_listens_nowhere_has_no_ports_to_look_at() -> None:
    case = case_of(ports=(), listen=NOWHERE, advertise=NOWHERE, bound_host="")
    assert CHECKS["ports"].look(case) == []
    assert CHECKS["reached by"].look(case) == []
    says("addresses", case, Verdict.OK)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"reached": True, "answered_as": "cy"}, ["at bo.lab:7402 answers cy", "confused"]),
        ({"reaches_me": True}, ["calls here, but cannot be reached", "7402 and 7403", "firewall of bo"]),
        ({"dial_error": "connection refused"}, ["nothing listens", "gossipdistill doctor --peers lab.toml --name bo"]),
        ({"dial_error": "timed out"}, ["no connection to bo.lab:7402: timed out", "firewall silent"]),
        ({"dial_error": ""}, ["something listens", "no gossipdistill"]),
    ],
)
def test_others_that_are_not_reached(changes: dict[str, Any], words: list[str]) -> None:
    case = case_of(meetings={"bo": Meeting(**changes)}, keys=Keys(False))
    says("reaching", case, Verdict.PROBLEM, "bo: ", *words)


def test_one_whose_name_is_not_found_was_not_called() -> None:
    case = case_of(look_ups={"bo.lab": LookUp((), 0.1, "unknown")}, meetings={"bo": Meeting()})
    says("reaching", case, Verdict.PROBLEM, "bo.lab is not found", "check of names")


def test_one_that_dials_out_only() -> None:
    peers = PeerEntry(name="ada", address=Address("192.0.2.1", 7400)), PeerEntry(name="bo", listen="none")
    says("reaching", with_peers(*peers, meetings={"bo": Meeting()}), Verdict.WARNING, "has not called here")
    called = Meeting("doctor", reaches_me=True)
    says("reaching", with_peers(*peers, meetings={"bo": called}), Verdict.OK, "has called here")


def test_one_that_answers_and_does_not_come_back() -> None:
    says("reached by", with_bo(reaches_me=False), Verdict.PROBLEM, "has not reached 192.0.2.1:7400", "7400 and 7401")
    assert CHECKS["reached by"].look(case_of(meetings={"bo": Meeting()})) == []


def test_round_trips_longer_than_a_probe_waits() -> None:
    says("round trip", with_bo(round_trips_s=(0.3, 0.4, 0.5)), Verdict.WARNING, "median 400.0 ms", "200 ms")
    says("round trip", with_bo(round_trips_s=(0.01,)), Verdict.OK, "10.0 ms")
    assert CHECKS["round trip"].look(with_bo(round_trips_s=())) == []


@pytest.mark.parametrize(
    ("changes", "verdict", "words"),
    [
        ({"small_s": None}, Verdict.PROBLEM, ["control port 7402 answers, its data port 7403 does not", "both ports"]),
        ({"large_s": 32.0}, Verdict.WARNING, ["64 MB in 32.00 s, 2.0 MB/s", "exchange.every_steps"]),
        ({"large_s": None, "large_bytes": 0}, Verdict.WARNING, ["nothing arrived in time"]),
        ({"large_s": None, "large_bytes": 0, "large_wanted": False}, Verdict.OK, ["many peers"]),
    ],
)
def test_transfers(changes: dict[str, Any], verdict: Verdict, words: list[str]) -> None:
    says("transfer", with_bo(**changes), verdict, *words)


def test_a_worker_is_not_troubled_with_bodies() -> None:
    assert CHECKS["transfer"].look(with_bo(kind="worker", small_s=None)) == []
    says("versions", with_bo(kind="worker", versions={}), Verdict.OK, "a worker does not say")


def test_versions_that_differ() -> None:
    says("versions", with_bo(wire_version="3"), Verdict.PROBLEM, "wire version 3, this machine 2", "on both")
    other = with_bo(versions=VERSIONS | {"torch": "2.4.0"})
    says("versions", other, Verdict.WARNING, "torch 2.4.0 there, 2.13.0 here")


@pytest.mark.parametrize(
    ("ahead_s", "verdict"), [(-1.5, Verdict.OK), (90.0, Verdict.WARNING), (-90.0, Verdict.WARNING)]
)
def test_clocks_are_never_a_problem(ahead_s: float, verdict: Verdict) -> None:
    says("clock", with_bo(clock_ahead_s=ahead_s), verdict, "behind" if ahead_s < 0 else "ahead")
    assert CHECKS["clock"].look(with_bo(clock_ahead_s=None)) == []


def test_open_files_follow_the_size_of_the_roster() -> None:
    peers = [PeerEntry(name=f"p{k}", address=Address(f"h{k}", 7400)) for k in range(101)]
    says("open files", with_peers(*peers), Verdict.WARNING, "100 others need about 928", "ulimit -n 1184")
    few = replace(with_peers(*peers), machine=Machine(4, None, 256, VERSIONS))
    says("open files", few, Verdict.PROBLEM, "at most 256", "256 should be in reserve", "ulimit -n 1184")
    plenty = replace(with_peers(*peers), machine=Machine(4, None, 1184, VERSIONS))
    says("open files", plenty, Verdict.OK)
    says("open files", case_of(machine=Machine(4, None, -1, VERSIONS)), Verdict.OK, "no limit")


@pytest.mark.parametrize(
    ("said", "peers", "verdict", "words"),
    [
        ("4", 1, Verdict.OK, "OMP_NUM_THREADS=4"),
        ("4,2", 1, Verdict.OK, "OMP_NUM_THREADS=4,2"),
        ("4", 2, Verdict.WARNING, "set it to 2"),
        ("1", 1, Verdict.WARNING, "some are idle"),
        ("1", 8, Verdict.OK, "4 CPUs for 8 peers"),
        ("many", 1, Verdict.WARNING, "is not a number of threads"),
        ("0", 1, Verdict.WARNING, "is not a number of threads"),
    ],
)
def test_threads(said: str, peers: int, verdict: Verdict, words: str) -> None:
    here = tuple(f"p{k}" for k in range(peers))
    says("CPU threads", case_of(machine=Machine(4, said, 1024, VERSIONS), here=here), verdict, words)


# --- keys -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "verdict", "words"),
    [
        (Keys(False), Verdict.OK, ["are not needed: all addresses are on this machine"]),
        (Keys(True), Verdict.OK, ["no secret is looked for"]),
        (Keys(True, "", "bad mode", "do: chmod 600 x"), Verdict.PROBLEM, ["ada: bad mode -> do: chmod 600 x"]),
        (
            Keys(True, "a", missing=("bo",)),
            Verdict.PROBLEM,
            ["has no public key of bo", "gossipdistill keys new --peers lab.toml"],
        ),
        (Keys(True, "a", revoked=("bo",)), Verdict.WARNING, ["revoked, and not listened to: bo", "keys trust bo KEY"]),
        (
            Keys(True, "a", others={"bo": "K" * 40}),
            Verdict.PROBLEM,
            ["bo: calls from its address with another key than the roster's: KKKK", "keys trust bo KEY --replace"],
        ),
    ],
)
def test_keys(keys: Keys, verdict: Verdict, words: list[str]) -> None:
    says("keys", case_of(keys=keys), verdict, *words)


def test_before_keys_were_looked_at_nothing_is_said_of_them() -> None:
    assert CHECKS["keys"].look(case_of(keys=None)) == []
    assert CHECKS["keys"].exit_code == 7


def test_who_listens_and_does_not_have_the_key() -> None:
    silent = {"bo": Meeting()}
    says("reaching", case_of(meetings=silent), Verdict.PROBLEM, "does not have bo's key", "keys show --peers lab.toml")
    says("reaching", case_of(meetings=silent, keys=Keys(False)), Verdict.PROBLEM, "but it is no gossipdistill")
