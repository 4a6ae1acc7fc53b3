"""A link serves both directions, whichever end opened it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import zmq

from gossipdistill.drivers.zeromq.security import Curve
from gossipdistill.events import EventKind
from gossipdistill.ids import Boot, PeerName
from gossipdistill.messages import Envelope, Mode
from gossipdistill.presence import NOWHERE, Ping
from gossipdistill.wire.codec import decode, encode

from .harness import LIMITS, Node, exchange_works, free_address, trio, uv_loop, wait_until


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uv_loop], ids=["asyncio", "uvloop"])
def test_one_whom_nobody_can_reach_takes_part(loop: Any, nodes: list[Node]) -> None:
    ada, bo, cy = trio(nodes, loop=loop)
    assert cy.driver.bound == NOWHERE
    assert not cy.driver.routers
    for value, (one, other) in enumerate([(ada, cy), (cy, bo), (ada, bo)], start=1):
        exchange_works(one, other, value)
    large = 2 * LIMITS.piece_bytes_max + 8
    for one, other in (ada, cy), (cy, ada):
        one.post(9, other.name, Mode.PULL, size=large)
        wait_until(lambda a=one, b=other: b.values(a.name)[-1:] == [9])
        assert other.got[-1].payload.nbytes == large
    assert (NOWHERE, "") not in ada.driver.links.by_place
    cy.stop("interrupted")
    wait_until(lambda: EventKind.LEFT in ada.kinds("cy"))


def test_one_whom_nobody_can_reach_is_taken_back_when_it_was_restarted(nodes: list[Node]) -> None:
    ada, _, cy = trio(nodes)
    ada.post(1, "cy")
    wait_until(lambda: cy.values("ada") == [1])
    cy.network.call(cy.driver.fail, SystemError("as kill -9: no last word"))  # type: ignore[arg-type]
    wait_until(lambda: cy.network.failure() is not None)
    nodes.remove(cy)
    again = Node("cy", cy.roster, boot=2)
    nodes.append(again)
    wait_until(lambda: again.values("ada") == [1])
    exchange_works(again, ada, 5)


def test_where_my_own_connection_does_not_get_through_the_other_ones_serves(nodes: list[Node]) -> None:
    """As behind NAT without knowing it: `bo` says an address at which nobody answers."""
    listens, says = free_address(), free_address()
    ada_at = free_address()
    ada = Node("ada", {"ada": ada_at, "bo": says})
    bo = Node("bo", {"ada": ada_at, "bo": says}, listen=listens)
    nodes += [ada, bo]
    wait_until(lambda: ada.sees("bo") and bo.sees("ada"))
    exchange_works(ada, bo, 1)
    ada.post(2, "bo", Mode.PULL, size=LIMITS.piece_bytes_max + 8)
    wait_until(lambda: bo.values("ada")[-1:] == [2])
    assert [event for event in ada.events() if event.kind is EventKind.WARNING] == []


def test_who_answers_on_my_connection_is_whom_i_dialled(nodes: list[Node]) -> None:
    roster = {"ada": free_address(), "bo": free_address(), "eve": free_address()}
    ada, bo = Node("ada", roster), Node("bo", roster)
    nodes += [ada, bo]
    with zmq.Context() as context, context.socket(zmq.ROUTER) as eve:
        eve.setsockopt(zmq.LINGER, 0)
        eve.bind(f"tcp://{roster['eve']}")
        assert eve.poll(5000), "ada or bo greets her"
        caller, greeting = eve.recv_multipart()
        victim = ada if decode([greeting]).sender == "ada" else bo
        other = bo if victim is ada else ada
        wait_until(lambda: victim.sees(other.name))
        lie = Envelope(PeerName(other.name), Boot(1), victim.name, 1, Ping(1, 99, True))
        eve.send_multipart([caller, *encode(lie)])
        wait_until(lambda: victim.driver.peer.unreadable.counts.get("sender"))
    assert EventKind.MALFORMED in victim.kinds("eve")
    assert other.name not in victim.mailbox.neighbourhood().done


# --- keys -----------------------------------------------------------------------------------------------------------


def curves(*names: str) -> dict[str, Curve]:
    pairs = {name: zmq.curve_keypair() for name in names}
    publics = {name: public for name, (public, _) in pairs.items()}
    return {name: Curve(public, secret, publics) for name, (public, secret) in pairs.items()}


def test_with_keys_everything_works_and_who_has_none_is_not_heard(nodes: list[Node]) -> None:
    keys = curves("ada", "bo")
    roster = {"ada": free_address(), "bo": free_address(), "cy": NOWHERE, "dee": free_address()}
    ada, bo = [Node(name, roster, curve=keys[name]) for name in ("ada", "bo")]
    cy = Node("cy", roster)
    nodes += [ada, bo, cy]
    wait_until(lambda: ada.sees("bo") and bo.sees("ada"))
    exchange_works(ada, bo, 1)
    ada.post(2, "bo", Mode.PULL, size=LIMITS.piece_bytes_max + 8)
    wait_until(lambda: bo.values("ada")[-1:] == [2])
    assert "cy" not in ada.driver.traffic or not ada.driver.traffic["cy"].bytes_received
    assert not cy.sees("ada")
    problem = f"cannot open a connection to {roster['dee']}: no public key of dee; retrying"
    wait_until(lambda: problem in [event.reason for event in ada.events()])


def test_who_does_not_hold_the_key_that_was_promised_is_not_spoken_to(nodes: list[Node]) -> None:
    keys, others = curves("ada", "bo"), curves("ada", "bo")
    roster = {"ada": free_address(), "bo": free_address()}
    nodes += [Node("ada", roster, curve=keys["ada"]), Node("bo", roster, curve=others["bo"])]
    ada, bo = nodes
    wait_until(lambda: "bo" in ada.driver.traffic and ada.driver.traffic["bo"].not_taken >= 3)
    assert not ada.sees("bo")
    assert not bo.sees("ada")


def test_a_key_of_the_wrong_length_is_an_error_that_names_whose() -> None:
    public, secret = zmq.curve_keypair()
    with pytest.raises(ValueError, match="bo: a key has 40 characters of Z85, this one has 3"):
        Curve(public, secret, {"bo": b"abc"})
    assert secret.decode() not in repr(Curve(public, secret, {}))
