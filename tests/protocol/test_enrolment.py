"""Enrolments: who may take part by the run's join secret, why others may not, and how it gets about."""

from __future__ import annotations

import hashlib
import hmac
from functools import partial

import pytest

from gossipdistill.events import EventKind
from gossipdistill.ids import Boot, PeerName
from gossipdistill.limits import Limits
from gossipdistill.mailbox import Mailbox
from gossipdistill.messages import Envelope, Message, Transmit
from gossipdistill.presence import Address, Contact, Enrolment, Enrolments, Greeting, Leave, Refusal, RefusalCode
from gossipdistill.protocol.enrolment import Book, Objection, proof_of
from gossipdistill.protocol.members import Identity
from gossipdistill.protocol.peer import Peer
from gossipdistill.protocol.turn import turn

SECRET = b"s" * 32
KEYS = {name: name[0] * 40 for name in ("ada", "bo", "cy", "dee")}
NAMES = ("ada", "bo", "cy")


def record(name: str, key: str = "", boot: int = 1, secret: bytes = SECRET, run: str = "lab") -> Enrolment:
    key = key or KEYS[name]
    return Enrolment(PeerName(name), key, boot, proof_of(secret, run, name, key, boot))


def book(name: str = "ada", secret: bytes | None = SECRET, **more: object) -> Book:
    made = Book("lab", PeerName(name), {name: KEYS[name]}, secret=secret, **more)  # type: ignore[arg-type]
    made.enrol_myself(KEYS[name], 1)
    return made


# --- the book -------------------------------------------------------------------------------------------------------


def test_a_proof_is_an_hmac_over_all_that_a_record_says() -> None:
    said = "gossipdistill enrolment 1\nlab\nbo\n" + KEYS["bo"] + "\n7"
    assert proof_of(SECRET, "lab", "bo", KEYS["bo"], 7) == hmac.new(SECRET, said.encode(), hashlib.sha256).hexdigest()
    others = [
        proof_of(b"t" * 32, "lab", "bo", KEYS["bo"], 7),
        proof_of(SECRET, "lap", "bo", KEYS["bo"], 7),
        proof_of(SECRET, "lab", "cy", KEYS["bo"], 7),
        proof_of(SECRET, "lab", "bo", KEYS["cy"], 7),
        proof_of(SECRET, "lab", "bo", KEYS["bo"], 8),
    ]
    assert len({proof_of(SECRET, "lab", "bo", KEYS["bo"], 7), *others}) == 6


def test_who_has_the_join_secret_is_accepted_and_comes_back_as_another_process() -> None:
    mine = book()
    assert mine.keys() == {"ada": KEYS["ada"]}
    for boot in 1, 1, 5, 3:
        assert mine.hear("lab", record("bo", boot=boot)) is None
    assert mine.records[PeerName("bo")].boot == 5
    assert mine.keys() == {"ada": KEYS["ada"], "bo": KEYS["bo"]}
    assert SECRET.decode() not in repr(mine)
    assert mine.records[PeerName("bo")].proof not in repr(mine)


@pytest.mark.parametrize(
    ("run", "told", "objection"),
    [
        ("lap", record("bo", run="lap"), Objection.OTHER_RUN),
        ("lab", record("bo", run="lap"), Objection.WRONG_PROOF),
        ("lab", record("bo", secret=b"t" * 32), Objection.WRONG_PROOF),
        ("lab", Enrolment(PeerName("bo"), KEYS["bo"], 2, record("bo").proof), Objection.WRONG_PROOF),
        ("lab", record("cy", KEYS["dee"]), Objection.NAME_HAS_ANOTHER_KEY),
        ("lab", record("ada", KEYS["dee"]), Objection.NAME_HAS_ANOTHER_KEY),
        ("lab", record("dee", KEYS["cy"]), Objection.KEY_HAS_ANOTHER_NAME),
        ("lab", record("dee"), Objection.REVOKED),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_record_that_is_not_in_order_changes_nothing(run: str, told: Enrolment, objection: Objection) -> None:
    mine = book()
    mine.hold_to({"cy": KEYS["cy"]}, {"dee"} if objection is Objection.REVOKED else set())
    before = mine.keys()
    assert mine.hear(run, told) is objection
    assert mine.keys() == before


def test_without_a_join_secret_nobody_enrols() -> None:
    mine = book(secret=None)
    assert mine.mine is None
    assert mine.hear("lab", record("bo")) is Objection.OTHER_RUN
    assert list(mine.pages()) == []


def test_what_a_roster_says_stands_above_records() -> None:
    mine = book()
    assert mine.hear("lab", record("bo")) is None
    assert mine.hear("lab", record("cy")) is None
    mine.hold_to({"bo": KEYS["dee"]}, {"cy"})
    assert mine.keys() == {"ada": KEYS["ada"], "bo": KEYS["dee"]}
    mine.hold_to({"dee": KEYS["bo"]}, set())
    assert mine.keys() == {"ada": KEYS["ada"], "cy": KEYS["cy"], "dee": KEYS["bo"]}


def test_a_book_is_bounded_and_is_told_in_pages() -> None:
    mine = book(limits=Limits(peers_max=3, enrolments_per_message_max=2))
    assert [mine.hear("lab", record(name)) for name in ("bo", "cy", "dee")] == [None, None, Objection.FULL]
    assert mine.hear("lab", record("cy", boot=9)) is None
    assert [[one.name for one in page.records] for page in mine.pages()] == [["ada", "bo"], ["cy"]]


# --- between peers --------------------------------------------------------------------------------------------------


class Room:
    """Processes with books, and messages that arrive at once; `known` says whose keys each has from the start. A
    process has the name of its peer; a second one of that name has a stroke behind it, and a key of its own."""

    def __init__(self, known: dict[str, tuple[str, ...]], secret: bytes | None = SECRET, twins: tuple[str, ...] = ()):
        self.now = 100.0
        processes = (*NAMES, *twins)
        self.key = {one: KEYS[one.rstrip("'")].swapcase() if one in twins else KEYS[one] for one in processes}
        self.at = {one: Address("10.0.0.1", 7400 + 2 * place) for place, one in enumerate(processes)}
        self.said: list[tuple[str, Message]] = []
        self.events: dict[str, list[tuple[EventKind, str, str]]] = {one: [] for one in processes}
        self.peers: dict[str, Peer] = {}
        self.mailboxes = {one: Mailbox() for one in processes}
        self.refused: list[Refusal] = []
        contacts = [Contact(PeerName(name), self.at[name], place) for place, name in enumerate(NAMES)]
        for one, key in self.key.items():
            name = one.rstrip("'")
            me = Identity(PeerName(name), Boot(1), self.at[one], NAMES.index(name), {})
            self.peers[one] = Peer(me, len(NAMES), contacts, now=self.now)
            given = {other: KEYS[other] for other in known.get(one, ())} | {name: key}
            mine = Book("lab", PeerName(name), given, secret=secret)
            mine.enrol_myself(key, 1)
            self.peers[one].key_distribution.book = mine

    def keys(self, process: str) -> dict[str, str]:
        held = self.peers[process].key_distribution.book
        assert held is not None
        return held.keys()

    def run(self, seconds: float) -> None:
        end_s = self.now + seconds
        while self.now < end_s:
            self.now += 0.05
            for one, peer in self.peers.items():
                done = turn(peer, self.mailboxes[one], self.now, partial(self._deliver, one))
                self.events[one] += [(event.kind, event.peer, event.reason) for event in done.events]

    def _deliver(self, sender: str, transmit: Transmit) -> None:
        """As the driver: a key that is not known is a newcomer's, and one is not dialled whose key is not known. So of
        two processes of one name each peer reaches the one whose key it knows."""
        to = str(transmit.envelope.to)
        receiver = next((one for one, key in self.key.items() if self.keys(sender).get(to) == key), None)
        if receiver is None:
            return
        self.said.append((receiver, transmit.envelope.message))
        if self.key[sender] == self.keys(receiver).get(str(transmit.envelope.sender)):
            self.peers[receiver].receive(transmit.envelope, self.now)
        elif isinstance(transmit.envelope.message, Enrolments):
            door = self.peers[receiver].key_distribution
            refusal = door.newcomer(self.key[sender], transmit.envelope, self.now)
            self.refused += [refusal] if refusal is not None else []


def test_a_newcomer_that_knows_one_peer_is_known_to_all_and_knows_them() -> None:
    room = Room({"ada": ("bo",), "bo": ("ada",), "cy": ("ada",)})
    room.run(4.0)
    assert [set(room.keys(name)) for name in NAMES] == [set(NAMES)] * 3
    assert all(room.peers[one].view.is_alive(PeerName(other)) for one in NAMES for other in NAMES if one != other)
    assert (EventKind.ENROLLED, "cy", "it has the join secret") in room.events["ada"]
    assert {kind for kind, peer, _ in room.events["bo"] if peer == "cy"} >= {EventKind.ENROLLED, EventKind.JOINED}
    assert room.refused == []
    assert room.peers["ada"].key_distribution.changed_keys() == room.peers["ada"].key_distribution.book.keys()  # type: ignore[union-attr]
    assert room.peers["ada"].key_distribution.changed_keys() is None
    before = len([1 for _, message in room.said if isinstance(message, Enrolments)])
    room.run(10.0)
    assert len([1 for _, message in room.said if isinstance(message, Enrolments)]) == before  # and then it is quiet


def test_who_has_another_join_secret_is_refused_with_the_reason_and_hurts_nobody() -> None:
    room = Room({"ada": ("bo",), "bo": ("ada",), "cy": ("ada", "bo")})
    held = room.peers["cy"].key_distribution.book
    assert held is not None
    held.secret = b"t" * 32
    held.enrol_myself(KEYS["cy"], 1)
    room.run(3.0)
    assert set(room.keys("ada")) == set(room.keys("bo")) == {"ada", "bo"}
    assert room.refused[0] == Refusal(
        RefusalCode.ENROLMENT, "wrong_proof: it does not have the join secret of this run"
    )
    assert [event for event in room.events["ada"] if event[1] == "cy"] == [
        (EventKind.REFUSED, "cy", "it does not have the join secret of this run")
    ]
    assert room.peers["ada"].key_distribution.refused["wrong_proof"] > 1
    assert room.peers["ada"].view.is_alive(PeerName("bo"))


@pytest.mark.parametrize("met", ["one peer", "two peers"])
def test_two_newcomers_that_race_for_one_name_harm_nobody_else(met: str) -> None:
    """Each peer keeps the key that it has heard first, and says so; neither newcomer takes the place of the other."""
    second_knows = "ada" if met == "one peer" else "bo"
    room = Room({"ada": ("bo",), "bo": ("ada",), "cy": ("ada",), "cy'": (second_knows,)}, twins=("cy'",))
    room.run(20.0)
    mine = {one: room.keys(one)["cy"] for one in ("ada", "bo")}
    assert (mine["ada"] == mine["bo"]) == (met == "one peer")
    for one, other in ("ada", "bo"), ("bo", "ada"):
        assert room.peers[one].view.is_alive(PeerName(other))
        assert EventKind.DEAD not in {kind for kind, peer, _ in room.events[one] if peer == other}
        assert room.peers[one].view.is_alive(PeerName("cy"))
    told = [reason for one in ("ada", "bo") for kind, peer, reason in room.events[one] if kind is EventKind.REFUSED]
    assert 1 <= len(told) <= 2
    assert all(reason.startswith("its name has another key already") for reason in told)
    before = dict(mine)
    room.run(20.0)
    assert {one: room.keys(one)["cy"] for one in ("ada", "bo")} == before


def test_a_newcomer_may_speak_for_its_own_name_and_key_only() -> None:
    room = Room({})
    ada = room.peers["ada"]
    messages: list[Message] = [
        Enrolments("lab", ()),
        Enrolments("lab", (record("cy"),)),
        Enrolments("lab", (record("bo", KEYS["dee"]),)),
        Leave("a lie"),
        Greeting(Address("10.0.0.9", 7400), 1, {}),
    ]
    for message in messages:
        envelope = Envelope(PeerName("bo"), Boot(1), "ada", 0, message)
        refusal = ada.key_distribution.newcomer(KEYS["bo"], envelope, 1.0)
        assert refusal is not None
        assert refusal.detail == "not_own_key: it has shown no record of its own name and key"
    assert set(room.keys("ada")) == {"ada"}
    assert ada.key_distribution.refused == {"not_own_key": 5}


def test_what_a_member_tells_is_checked_and_said_once() -> None:
    room = Room({"ada": ("bo",), "bo": ("ada",)})
    room.run(2.0)
    ada = room.peers["ada"]
    for _ in range(3):
        lie = Enrolments("lab", (record("cy", secret=b"t" * 32), record("dee")))
        ada.receive(Envelope(PeerName("bo"), Boot(1), "ada", 1, lie), room.now)
    told = [(event.kind, event.peer, event.reason) for event in ada.events() if event.kind is not EventKind.JOINED]
    assert told == [
        (EventKind.REFUSED, "cy", "it does not have the join secret of this run, by what bo tells"),
        (EventKind.ENROLLED, "dee", "told by bo"),
    ]
    assert ada.key_distribution.refused == {"wrong_proof": 3}


def test_strangers_that_are_refused_are_remembered_in_a_bounded_number() -> None:
    room = Room({})
    ada = room.peers["ada"]
    for number in range(200):
        envelope = Envelope(PeerName(f"x{number}"), Boot(1), "ada", 0, Enrolments("lab", ()))
        ada.key_distribution.newcomer("k" * 40, envelope, 1.0)
    assert len(ada.events()) == ada.limits.strangers_max
    assert ada.key_distribution.refused == {"not_own_key": 200}


def test_without_a_book_nothing_is_said_of_enrolments() -> None:
    room = Room(dict.fromkeys(NAMES, NAMES), secret=None)
    for peer in room.peers.values():
        peer.key_distribution.book = None
    ada = room.peers["ada"]
    assert (
        ada.key_distribution.newcomer(KEYS["bo"], Envelope(PeerName("bo"), Boot(1), "ada", 0, Leave("x")), 1.0)
        is not None
    )
    ada.receive(Envelope(PeerName("bo"), Boot(1), "ada", 1, Enrolments("lab", (record("cy"),))), 1.0)
    ada.key_distribution.tell_all(PeerName("bo"))
    assert ada.key_distribution.changed_keys() is None
    ada.handle_timeout(200.0)
    assert not [one for one in ada.transmits() if isinstance(one.envelope.message, Enrolments)]


def test_with_a_book_and_no_join_secret_there_is_nothing_to_tell() -> None:
    room = Room(dict.fromkeys(NAMES, NAMES), secret=None)
    room.run(2.0)
    assert all(room.peers[one].view.is_alive(PeerName(other)) for one in NAMES for other in NAMES if one != other)
    assert not [message for _, message in room.said if isinstance(message, Enrolments)]
