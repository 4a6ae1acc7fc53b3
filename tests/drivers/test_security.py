"""Who is let in, who is believed, and what a revocation does to connections that are open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgpack
import pytest
import zmq
from zmq.utils import z85

from gossipdistill.drivers.channels import Channel
from gossipdistill.drivers.overload.newcomers import Newcomers
from gossipdistill.drivers.zeromq.security import Curve, ZapHandler
from gossipdistill.drivers.zeromq.sockets import Sockets
from gossipdistill.events import EventKind
from gossipdistill.ids import Boot, PeerName
from gossipdistill.messages import Envelope, Leave, Message, Mode
from gossipdistill.presence import NOWHERE, Address, Greeting, Ping
from gossipdistill.protocol.enrolment import Book
from gossipdistill.wire.codec import decode, encode

from .harness import DEADLINE_S, LIMITS, Node, exchange_works, free_address, wait_until

Pair = tuple[bytes, bytes]
SLOW_S = 30.0
"""For what may need a link to be opened again, which takes some seconds."""


def pairs(*names: str) -> dict[str, Pair]:
    return {name: zmq.curve_keypair() for name in names}


def publics(keys: dict[str, Pair], *without: str) -> dict[str, bytes]:
    return {name: public for name, (public, _) in keys.items() if name not in without}


def texts(keys: dict[str, Pair], *without: str) -> dict[str, str]:
    return {name: key.decode() for name, key in publics(keys, *without).items()}


def secured(name: str, roster: dict[str, Address], keys: dict[str, Pair], *without: str) -> Node:
    return Node(name, roster, curve=Curve(*keys[name], publics(keys, *without)))


def two(nodes: list[Node], *more: str) -> tuple[Node, Node, dict[str, Pair]]:
    """ada and bo have met; of `more` there are keys and addresses."""
    keys = pairs("ada", "bo", *more)
    roster = {name: free_address() for name in keys}
    ada, bo = (secured(name, roster, keys) for name in ("ada", "bo"))
    nodes += [ada, bo]
    wait_until(lambda: ada.sees("bo") and bo.sees("ada"))
    return ada, bo, keys


@contextmanager
def caller(
    node: Node, pair: Pair | None, channel: Channel = Channel.CONTROL, **options: bytes
) -> Iterator[zmq.Socket[bytes]]:
    """A raw socket that calls this node, with a key or without."""
    context = zmq.Context()
    try:
        socket = context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        if pair is not None:
            assert node.driver.curve is not None
            socket.setsockopt(zmq.CURVE_SERVERKEY, node.driver.curve.public)
            socket.setsockopt(zmq.CURVE_PUBLICKEY, pair[0])
            socket.setsockopt(zmq.CURVE_SECRETKEY, pair[1])
        for option, value in options.items():
            socket.setsockopt(getattr(zmq, option), value)
        at = node.roster[node.name]
        socket.connect(f"tcp://{at._replace(port=at.port + channel)}")
        yield socket
    finally:
        context.destroy(linger=0)


def say(socket: zmq.Socket[bytes], sender: str, message: Message, boot: int = 1, to_boot: int = 1) -> None:
    socket.send_multipart(encode(Envelope(PeerName(sender), Boot(boot), "ada", to_boot, message)))


def malformed(node: Node, code: str) -> int:
    return node.driver.peer.unreadable.counts.get(code, 0)


# --- at the door ----------------------------------------------------------------------------------------------------


def test_a_key_that_nobody_trusts_is_turned_away_with_an_event(nodes: list[Node]) -> None:
    ada, bo, _ = two(nodes)
    stranger = zmq.curve_keypair()
    door = ada.driver.sockets.zap_handler
    assert door is not None
    with caller(ada, stranger) as control, caller(ada, stranger, Channel.DATA) as data:
        say(control, "bo", Leave("a lie"))
        data.send(b"a lie")
        wait_until(lambda: door.turned_away["unknown_key"] == 2)
        said = wait_until(lambda: [event for event in ada.events() if event.detail.get("code") == "key"])
    assert [(event.kind, event.peer) for event in said] == [(EventKind.REFUSED, "")]
    assert f"it has a key that is not trusted, {stranger[0].decode()}" in said[0].reason
    exchange_works(ada, bo, 1)
    assert not ada.driver.peer.unreadable.counts
    assert set(ada.driver.traffic) == {"bo"}


def test_who_has_no_key_at_all_gets_nothing_through(nodes: list[Node]) -> None:
    ada, bo, _ = two(nodes)
    for channel in Channel:
        with caller(ada, None, channel) as socket:
            monitor = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            say(socket, "bo", Leave("a lie"))
            assert monitor.poll(8000), "the connection is cut"
            socket.disable_monitor()
    exchange_works(ada, bo, 1)
    assert not ada.driver.peer.unreadable.counts


def test_without_a_doorkeeper_nobody_is_let_in() -> None:
    public, secret = zmq.curve_keypair()
    at = free_address()
    listening, calling = (Sockets(LIMITS, curve=Curve(public, secret, {"ada": public})) for _ in range(2))
    try:
        router = listening.bind(at, Channel.CONTROL)
        assert listening.zap_handler is not None
        assert listening.zap_handler.socket is not None
        listening.close(listening.zap_handler.socket)
        dealer, _ = calling.connect(at, "ada")
        assert not dealer.poll(300, zmq.POLLOUT)
        assert not router.poll(0)
    finally:
        calling.close_all()
        listening.close_all()


def test_the_doorkeeper_answers_every_question_and_remembers_a_bounded_number_of_keys() -> None:
    public, secret = zmq.curve_keypair()
    former, _ = zmq.curve_keypair()
    curve = Curve(public, secret, {"ada": public, "bo": former})
    assert curve.trust({"ada": public}) == {"bo"}
    said: list[str] = []
    door = ZapHandler(curve)

    def asked(*parts: bytes) -> tuple[bytes, bytes]:
        status, _, user = door._judge(list(parts))
        while door.refused:
            caller = door.refused.popleft()
            said.extend([caller.problem] if caller.is_new else [])
        return status, user

    head = (b"1.0", b"1", b"gossipdistill", b"10.0.0.9", b"")
    assert asked(*head, b"CURVE", z85.decode(public)) == (b"200", public)
    assert asked(*head, b"CURVE", z85.decode(former)) == (b"400", b"")
    assert "from 10.0.0.9 was turned away: it has the revoked key of bo" in said[0]
    for question in [
        (*head, b"NULL"),
        (*head, b"PLAIN", b"ada", b"password"),
        (*head, b"CURVE", b"short"),
        (b"2.0", *head[1:], b"CURVE", z85.decode(public)),
        (*head[:2], b"global", *head[3:], b"CURVE", z85.decode(public)),
    ]:
        assert asked(*question) == (b"400", b"")
    for number in range(500):
        assert asked(*head, b"CURVE", number.to_bytes(32, "big"))[0] == b"400"
        assert asked(*head, b"CURVE", number.to_bytes(32, "big"))[0] == b"400"
    assert door.turned_away == {"revoked_key": 1, "no_key": 5, "unknown_key": 1000}
    assert len(said) == 64


# --- who is believed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channel", Channel, ids=lambda channel: channel.name.lower())
def test_another_peers_name_is_refused_on_either_socket(channel: Channel, nodes: list[Node]) -> None:
    ada, bo, keys = two(nodes, "eve")
    with caller(ada, keys["eve"], channel) as eve:
        say(eve, "bo", Leave("a lie"))
        say(eve, "zed", Leave("a lie"))
        say(eve, "doctor.bo", Greeting(Address("127.0.0.1", 7400), 0, {"run": "test"}))
        say(eve, "doctor.eve", Ping(1, 1, True))
        wait_until(lambda: malformed(ada, "sender") == 4)
    (event,) = (event for event in ada.events() if event.kind is EventKind.MALFORMED)
    assert (event.peer, event.reason) == ("eve", "the holder of the key of eve claims to be bo")
    exchange_works(ada, bo, 1)
    assert "bo" in ada.mailbox.neighbourhood().alive


def test_a_doctor_may_greet_under_the_key_of_its_peer(nodes: list[Node]) -> None:
    ada, _, keys = two(nodes, "eve")
    with caller(ada, keys["eve"]) as eve:
        greeting = Greeting(Address("127.0.0.1", 7400), 0, {"run": "test"})
        eve.send_multipart(encode(Envelope(PeerName("doctor.eve"), Boot(5), "doctor.nobody", 0, greeting)))
        assert eve.poll(8000)
        assert "this address belongs to ada" in str(decode(eve.recv_multipart()).message)
    assert not ada.driver.peer.unreadable.counts


def test_another_wire_version_is_refused_by_the_name_of_its_key_and_is_no_offence(nodes: list[Node]) -> None:
    ada, bo, keys = two(nodes, "eve")
    with caller(ada, keys["eve"]) as eve:
        for _ in range(40):  # more than offences would be forgiven
            eve.send(msgpack.packb([2, 1, "bo", 5, "ada", 0]))
        wait_until(lambda: malformed(ada, "version") == 40)
        eve.send(msgpack.packb([2, 1, "eve", 5, "ada", 0]))
        wait_until(lambda: EventKind.REFUSED in ada.kinds("eve"))
    assert ada.kinds("eve") == [EventKind.MALFORMED, EventKind.REFUSED]
    exchange_works(ada, bo, 1)


def test_who_answers_on_my_connection_speaks_in_its_own_name_only(nodes: list[Node]) -> None:
    ada, bo, keys = two(nodes, "eve")
    context = zmq.Context()
    try:
        eve = context.socket(zmq.ROUTER)
        eve.setsockopt(zmq.CURVE_SERVER, 1)
        eve.setsockopt(zmq.CURVE_SECRETKEY, keys["eve"][1])
        eve.bind(f"tcp://{ada.roster['eve']}")
        assert eve.poll(1000 * DEADLINE_S), "ada or bo greets her"
        connection, greeting = eve.recv_multipart()
        victim, other = (ada, bo) if decode([greeting]).sender == "ada" else (bo, ada)
        lie = Envelope(PeerName(other.name), Boot(1), victim.name, 1, Leave("a lie"))
        eve.send_multipart([connection, *encode(lie)])
        wait_until(lambda: malformed(victim, "sender") == 1)
        wait_until(lambda: EventKind.MALFORMED in victim.kinds("eve"))  # counted first, and told after
        assert victim.sees(other.name)
    finally:
        context.destroy(linger=0)


def test_a_caller_that_claims_the_connection_of_another_does_not_get_it(nodes: list[Node]) -> None:
    """cy listens nowhere: all that she is sent goes back through the connections that she opened."""
    keys = pairs("ada", "cy", "eve")
    roster = {"ada": free_address(), "cy": NOWHERE, "eve": NOWHERE}
    ada, cy = (secured(name, roster, keys) for name in ("ada", "cy"))
    nodes += [ada, cy]
    wait_until(lambda: ada.sees("cy") and cy.sees("ada"))
    ada.post(1, "cy", size=4000)
    wait_until(lambda: cy.values("ada") == [1])
    route = ada.driver.routes.to("cy", 1)
    assert route is not None
    for channel, connection in route.connections.items():
        with caller(ada, keys["eve"], channel, ROUTING_ID=connection) as eve:
            say(eve, "eve", Ping(1, 1, False))
            ada.post(2 + channel, "cy", Mode.PULL, size=4000)
            wait_until(lambda c=channel: cy.values("ada")[-1] == 2 + c)
            assert not eve.poll(0)


# --- revocation -----------------------------------------------------------------------------------------------------


def test_a_revocation_acts_on_connections_that_are_open_and_can_be_taken_back(nodes: list[Node]) -> None:
    ada, bo, keys = two(nodes, "cy")
    cy = secured("cy", ada.roster, keys)
    nodes.append(cy)
    wait_until(lambda: all(node.sees(*(other.name for other in nodes if other is not node)) for node in nodes))
    exchange_works(ada, bo, 1)
    for node in ada, cy:
        node.network.trust(texts(keys, "bo"))
    wait_until(lambda: EventKind.REFUSED in ada.kinds("bo") and EventKind.REFUSED in cy.kinds("bo"))
    before = ada.driver.traffic["bo"]
    received, sent = before.bytes_received, before.bytes_sent
    bo.post(2, "ada")
    wait_until(lambda: malformed(ada, "revoked") > 0)
    wait_until(lambda: not ada.sees("bo") and not cy.sees("bo"))
    assert ada.values("bo") == [1]
    assert (before.bytes_received, before.bytes_sent) == (received, sent)
    exchange_works(ada, cy, 3)
    assert keys["bo"][1].decode() not in repr(ada.events() + bo.events())
    for node in ada, cy:
        node.network.trust(texts(keys))
    wait_until(lambda: ada.sees("bo") and bo.sees("ada"), SLOW_S)
    exchange_works(ada, bo, 4)


def test_a_peer_that_is_given_another_key_is_known_by_that_alone(nodes: list[Node]) -> None:
    ada, bo, keys = two(nodes)
    renewed = keys | {"bo": zmq.curve_keypair()}
    ada.network.trust(texts(renewed))
    wait_until(lambda: not ada.sees("bo"))
    bo.stop("crashed")
    nodes.remove(bo)
    again = Node("bo", ada.roster, boot=2, curve=Curve(*renewed["bo"], publics(renewed)))
    nodes.append(again)
    wait_until(lambda: ada.sees("bo") and again.sees("ada"), SLOW_S)
    exchange_works(ada, again, 1)


def test_who_is_trusted_later_meets_the_others_by_itself(nodes: list[Node]) -> None:
    keys = pairs("ada", "bo")
    roster = {"ada": free_address(), "bo": free_address()}
    ada, bo = secured("ada", roster, keys, "bo"), secured("bo", roster, keys)
    nodes += [ada, bo]
    door = ada.driver.sockets.zap_handler
    assert door is not None
    wait_until(lambda: door.turned_away["unknown_key"] >= 2)
    ada.network.trust(texts(keys))
    wait_until(lambda: ada.sees("bo") and bo.sees("ada"), SLOW_S)
    exchange_works(ada, bo, 1)


# --- enrolment ------------------------------------------------------------------------------------------------------

JOIN = b"j" * 32


def joining(name: str, roster: dict[str, Address], keys: dict[str, Pair], *known: str, join: bytes = JOIN) -> Node:
    """One with a join secret that knows its own key and those of `known`."""
    given = {other: keys[other][0].decode() for other in (name, *known)}
    book = Book("test", PeerName(name), given, secret=join)
    book.enrol_myself(given[name], 1)
    return Node(name, roster, book=book, curve=Curve(*keys[name], {n: key.encode() for n, key in given.items()}))


def test_newcomers_enrol_with_one_peer_and_are_known_to_all(nodes: list[Node]) -> None:
    keys = pairs("ada", "bo", "cy")
    roster = {name: free_address() for name in keys}
    nodes += [joining("ada", roster, keys), joining("bo", roster, keys, "ada"), joining("cy", roster, keys, "ada")]
    ada, bo, cy = nodes
    wait_until(lambda: bo.sees("ada", "cy") and cy.sees("ada", "bo") and ada.sees("bo", "cy"), SLOW_S)
    for value, (one, other) in enumerate([(ada, bo), (bo, cy), (cy, ada)], start=1):
        exchange_works(one, other, value)
    assert EventKind.ENROLLED in ada.kinds("bo")
    assert EventKind.ENROLLED in bo.kinds("cy")


def test_who_has_not_the_join_secret_is_told_why_and_heard_no_further(nodes: list[Node]) -> None:
    keys = pairs("ada", "bo", "eve")
    roster = {name: free_address() for name in keys}
    nodes += [joining("ada", roster, keys), joining("bo", roster, keys, "ada")]
    ada, bo = nodes
    wait_until(lambda: ada.sees("bo") and bo.sees("ada"), SLOW_S)
    eve = joining("eve", roster, keys, "ada", join=b"g" * 32)
    nodes.append(eve)
    wait_until(lambda: EventKind.REFUSED_BY in eve.kinds("ada"))
    (told,) = (event for event in eve.events() if event.kind is EventKind.REFUSED_BY)
    assert (told.detail["code"], told.reason) == (
        "enrolment",
        "wrong_proof: it does not have the join secret of this run",
    )
    with caller(ada, zmq.curve_keypair()) as stranger:
        say(stranger, "bo", Leave("a lie"))
        say(stranger, "bo", Ping(1, 1, True))
        wait_until(lambda: ada.driver.ingress.unheard >= 2)
    assert not ada.sees("eve")
    exchange_works(ada, bo, 1)
    assert not ada.driver.peer.unreadable.counts


def test_a_newcomer_of_another_wire_version_is_told_so_and_no_member_for_it(nodes: list[Node]) -> None:
    keys = pairs("ada", "bo", "eve")
    roster = {"ada": free_address(), "bo": free_address()}
    nodes += [joining("ada", roster, keys), joining("bo", roster, keys, "ada")]
    ada, bo = nodes
    wait_until(lambda: ada.sees("bo") and bo.sees("ada"), SLOW_S)
    with caller(ada, keys["eve"]) as eve:
        eve.send(msgpack.packb([2, 18, "bo", 2**40, "ada", 0, "test", []]))
        assert eve.poll(8000)
        head = msgpack.unpackb(eve.recv())
    assert head[:6] == [2, 3, "ada", 1, "bo", 2**40]
    assert head[6:8] == [
        "wire_version",
        "the caller speaks wire version 2 and ada 3: install the same gossipdistill on both",
    ]
    exchange_works(ada, bo, 1)


def test_a_name_that_has_a_key_is_not_taken_by_another_and_a_revoked_one_does_not_enrol(nodes: list[Node]) -> None:
    keys = pairs("ada", "bo", "cy")
    roster = {name: free_address() for name in keys}
    ada, bo = joining("ada", roster, keys), joining("bo", roster, keys, "ada")
    nodes += [ada, bo]
    wait_until(lambda: ada.sees("bo") and bo.sees("ada"), SLOW_S)
    other = joining("bo", {**roster, "bo": free_address()}, keys | {"bo": zmq.curve_keypair()}, "ada")
    nodes.append(other)
    wait_until(lambda: ada.driver.peer.key_distribution.refused["name_has_another_key"])
    other.stop()
    nodes.remove(other)
    ada.network.trust({}, {"cy"})
    cy = joining("cy", roster, keys, "ada")
    nodes.append(cy)
    wait_until(lambda: ada.driver.peer.key_distribution.refused["revoked"])
    exchange_works(ada, bo, 1)
    assert not ada.sees("cy")


def test_a_key_that_nobody_knows_is_let_in_until_its_proof_was_wrong() -> None:
    public, secret = zmq.curve_keypair()
    now = [0.0]
    door = ZapHandler(Curve(public, secret, {}), newcomers=Newcomers(3, 30.0), clock=lambda: now[0])

    def asked(number: int) -> bytes:
        key = number.to_bytes(32, "big")
        return door._judge([b"1.0", b"1", b"gossipdistill", b"10.0.0.9", b"", b"CURVE", key])[0]

    def text(number: int) -> str:
        return z85.encode(number.to_bytes(32, "big")).decode()

    assert [asked(number) for number in (1, 2, 2, 3)] == [b"200"] * 4
    door.newcomers.failed(text(2))
    assert [asked(2), asked(1)] == [b"400", b"200"]
    assert door.turned_away["unknown_key"] == 1
    now[0] = 30.5
    assert asked(2) == b"200"
    door.newcomers.places_max = 0
    assert asked(3) == b"400"


# --- secrets --------------------------------------------------------------------------------------------------------


def test_a_secret_is_in_no_text(nodes: list[Node]) -> None:
    ada, _, keys = two(nodes)
    secret = keys["ada"][1].decode()
    shown = [ada.driver, ada.driver.curve, ada.driver.sockets.zap_handler, ada.driver.links, ada.events()]
    assert secret not in repr(shown)
    with pytest.raises(ValueError, match="my secret key: a key has 40 characters of Z85, this one has 39") as error:
        Curve(keys["ada"][0], keys["ada"][1][1:], {})
    assert secret[1:] not in str(error.value)
