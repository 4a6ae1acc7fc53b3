"""One newcomer with the join secret among floods of keys without it."""

from __future__ import annotations

import random

from gossipdistill.drivers.channels import Channel
from gossipdistill.drivers.overload.guard import first_to_go
from gossipdistill.drivers.overload.newcomers import Newcomers
from gossipdistill.drivers.overload.resources import Connection
from gossipdistill.ids import Boot, PeerName
from gossipdistill.limits import DEFAULT_LIMITS
from gossipdistill.messages import Envelope
from gossipdistill.presence import Enrolment, Enrolments
from gossipdistill.protocol.enrolment import proof_of
from gossipdistill.wire.codec import encode

from .harness import Node, free_address, wait_until
from .test_security import JOIN, joining, pairs


def attempts_until_heard(host: str, keys_per_s: float, round_trip_s: float, seed: int) -> int:
    """How often a newcomer from this address tries in vain, once a second, while keys come from 10.0.0.1."""
    flips, door = random.Random(seed), Newcomers(DEFAULT_LIMITS.newcomers_max, DEFAULT_LIMITS.newcomer_s)
    now, number, attempt = 0.0, 0, 0
    while True:
        start_s = now + flips.random()
        for until_s in start_s, start_s + round_trip_s:
            while now < until_s:
                now += flips.expovariate(keys_per_s)
                number += 1
                assert door.let_in(f"x{number}", "10.0.0.1", now)
                if flips.random() < 0.5:
                    door.failed(f"x{number - flips.randrange(64)}")
            if until_s == start_s:
                assert door.let_in("bo", host, now), "a flood keeps nobody out"
        if door.is_heard_first("bo"):
            return attempt
        attempt += 1


def test_a_newcomer_from_elsewhere_is_heard_at_once_however_many_keys_come() -> None:
    for keys_per_s in 70.0, 500.0, 5000.0:
        assert {attempts_until_heard("10.0.0.2", keys_per_s, 0.5, seed) for seed in range(5)} == {0}


def test_a_newcomer_from_the_same_address_is_heard_within_five_seconds() -> None:
    assert {attempts_until_heard("10.0.0.1", 70.0, 0.2, seed) for seed in range(20)} == {0}
    assert max(attempts_until_heard("10.0.0.1", 500.0, 0.05, seed) for seed in range(20)) < 5


def test_places_are_given_up_by_failed_proofs_first_then_by_the_oldest_of_the_fullest_address() -> None:
    door = Newcomers(4, 30.0)
    for key, host in ("a", "one"), ("b", "two"), ("c", "two"), ("d", "one"):
        assert door.let_in(key, host, 0.0)
    door.failed("d")
    assert door.let_in("e", "two", 1.0)
    assert list(door.by_key) == ["a", "b", "c", "e"]
    assert door.let_in("f", "three", 2.0)
    assert list(door.by_key) == ["a", "c", "e", "f"]
    assert door.displaced == 2
    assert door.let_in("g", "three", 30.5)
    assert list(door.by_key) == ["e", "f", "g"]
    assert not door.is_heard_first("a")


def test_few_words_of_a_key_are_judged_first() -> None:
    door = Newcomers(4, 30.0)
    assert door.let_in("a", "one", 0.0)
    assert [door.is_heard_first("a") for _ in range(6)] == [True] * 4 + [False] * 2
    door.enrolled("a")
    assert not door.by_key


def test_wrong_proofs_and_all_the_words_of_strangers_do_not_drown_the_right_one(nodes: list[Node]) -> None:
    """Every word comes in the same instant, after the share of strangers has been used up."""
    keys = pairs("ada", "bo")
    ada = joining("ada", {"ada": free_address(), "bo": free_address()}, keys)
    nodes.append(ada)
    ingress, curve, found = ada.driver.ingress, ada.driver.curve, list[tuple[str | None, int]]()
    assert curve is not None

    def say(name: str, key: str, secret: bytes) -> None:
        record = Enrolment(PeerName(name), key, 1, proof_of(secret, "test", name, key, 1))
        frames = encode(Envelope(PeerName(name), Boot(1), "", 0, Enrolments("test", (record,))))
        readable = ada.driver.routers[Channel.CONTROL]
        ingress._hear_newcomer([memoryview(part) for part in frames], readable, b"", key, curve)

    def flood() -> None:
        now, clock = ingress.clock(), ingress.clock
        ingress.clock = lambda: now
        while ingress._rate_limits.breach("", Channel.CONTROL, 1, now) is None:
            pass
        for number in range(200):
            ingress.newcomers.let_in(f"{number:040d}", "10.0.0.1", now)
            for _ in range(2):
                say(f"x{number}", f"{number:040d}", b"w" * 32)
        unheard = ingress.unheard
        ingress.newcomers.let_in(keys["bo"][0].decode(), "10.0.0.1", now)
        say("bo", keys["bo"][0].decode(), JOIN)
        ingress.clock = clock
        found.append((curve.name_of(keys["bo"][0].decode()), unheard))

    ada.network.call(flood)
    assert wait_until(lambda: found)[0] == ("bo", 200)  # of each other key the second word


def test_who_is_ended_for_want_of_files() -> None:
    """Half, of the addresses that have most, the oldest first."""
    flood = [Connection(fd, 100 + fd, 4000, ("10.0.0.1", fd)) for fd in range(10)]
    others = [Connection(50 + n, 50 + n, 4000, (f"10.0.1.{n}", 9)) for n in range(3)]
    gone = first_to_go([*others, *flood])
    assert [one.inode for one in sorted(gone, key=lambda one: one.inode)] == [100, 101, 102, 103, 104, 105, 106]
    assert first_to_go([]) == []
