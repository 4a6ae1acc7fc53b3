"""Digests of storms: what a storm shows and what is said in it, as two short hashes per seed.

*shown*: events, arrivals, verdicts, ends of processes, faults, and counts at the end. It costs next to nothing.
*said*: each message as the wire carries it, with the time it was sent. It costs a fifth of the storm.

Names of classes and sentences are left out of both, so they may change; what travels, and when, may not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from multiprocessing import Pool
from pathlib import Path

import msgpack

from gossipdistill.events import Event
from gossipdistill.faults import ActKind
from gossipdistill.messages import Envelope, Received, Returned, Settlement, Transmit
from gossipdistill.sim.host import Host
from gossipdistill.sim.observer import Observer
from gossipdistill.sim.scenario import Outcome, Storm, blow, storm_of
from gossipdistill.sim.world import World
from gossipdistill.wire.codec import encode

FILE = "storms.txt"
_HEAD = 6
_SENTENCES = {3: _HEAD + 1, 7: _HEAD, 13: _HEAD + 3}
"""Kind of a message on the wire -> where in its head a sentence for people stands: refusal, leave, receipt."""
_KIND = 1
_DIGITS = 10


class Shown(Observer):
    """A digest of what a storm shows."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)

    def on_start(self, now_s: float, host: Host) -> None:
        self._note("start", now_s, host.name, host.incarnation, host.boot)

    def on_end(self, now_s: float, host: Host, how: str) -> None:
        self._note("end", now_s, host.name, how, host.steps, host.messages_sent, host.messages_received)
        self._note(host.bytes_sent, host.bytes_received)

    def on_fault(self, now_s: float, kind: ActKind, peer: str) -> None:
        self._note("fault", now_s, kind.value, peer)

    def on_event(self, now_s: float, host: Host, event: Event) -> None:
        self._note("event", now_s, host.name, event.kind.value, event.peer, *sorted(event.detail.items()))

    def on_received(self, now_s: float, host: Host, received: Received) -> None:
        what, slot = received.delivery.value, (received.peer, received.topic, received.key)
        what = "returned" if isinstance(received, Returned) else what
        self._note("arrival", now_s, host.name, what, *slot, *received.version)

    def on_settle(self, now_s: float, host: Host, settlement: Settlement) -> None:
        verdict = "absorbed" if settlement.absorbed else "refused"
        self._note("verdict", now_s, host.name, verdict, settlement.sender, settlement.topic, *settlement.version)

    def at_end(self, now_s: float, world: World) -> None:
        self._note("messages", now_s, *sorted(world.kinds_sent.values()))
        for name, host in sorted(world.hosts.items()):
            self._note(name, host.steps, host.messages_sent, host.messages_received, host.bytes_sent)

    def digest(self, outcome: Outcome) -> str:
        """Of the whole storm, whose outcome this is."""
        final = self._hash.copy()
        ends = (outcome.events, outcome.virtual_s, outcome.arrivals, len(outcome.violations))
        final.update(repr((ends, sorted(outcome.fired.values()))).encode())
        return final.hexdigest()[:_DIGITS]

    def _note(self, *what: str | float | tuple[str, object]) -> None:
        self._hash.update(repr(what).encode())


class Said(Observer):
    """A digest of all messages, sentences for people left out."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)

    def on_transmit(self, now_s: float, host: Host, transmit: Transmit) -> None:
        self._hash.update(f"{now_s!r} {transmit.address.host}:{transmit.address.port}".encode())
        for frame in frames_without_sentences(transmit.envelope):
            self._hash.update(frame)

    def digest(self) -> str:
        """Of the whole storm."""
        return self._hash.hexdigest()[:_DIGITS]


def frames_without_sentences(envelope: Envelope) -> list[bytes | memoryview]:
    """The frames of an envelope; the text that some messages carry for people is empty."""
    frames = encode(envelope)
    kind = frames[0][_KIND + 1]  # after the length of the list and the version, a byte each
    if kind in _SENTENCES:
        head = msgpack.unpackb(frames[0])
        head[_SENTENCES[kind]] = ""
        frames[0] = msgpack.packb(head)
    return frames


def digest_of(seed: int, of: Callable[[int], Storm] = storm_of) -> str:
    """The line of this seed without the seed: `SHOWN SAID`."""
    shown, said = Shown(), Said()
    outcome = blow(of(seed), observers=[shown, said])
    return f"{shown.digest(outcome)} {said.digest()}"


def recorded(folder: Path) -> dict[int, tuple[str, str]]:
    """Seed -> (shown, said)."""
    rows = (line.split() for line in (folder / FILE).read_text().splitlines())
    return {int(seed): (shown, said) for seed, shown, said in rows}


def taken(seeds: Iterable[int], jobs: int = 1) -> Iterable[tuple[int, tuple[str, str]]]:
    """Digests of these storms, as each is known."""
    with Pool(jobs) as pool:
        for seed, line in pool.imap(_one, seeds):
            shown, said = line.split()
            yield seed, (shown, said)


def _one(seed: int) -> tuple[int, str]:
    return seed, digest_of(seed)
