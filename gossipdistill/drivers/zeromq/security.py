"""Keys on sockets: CURVE for every connection of a driver, or for none; and the names that belong to keys.

Rules of this file
1. A connecting socket encrypts to the key of the peer that it is meant for, and reaches no other.
2. A binding socket accepts callers whose public key is trusted at that moment: libzmq asks `ZapHandler` about each
   caller (ZAP); without one, no caller is accepted. It attaches that key as User-Id to each message of the connection.
3. The owner of a key is looked up for each message, not when a connection is made: so messages of a peer that is
   revoked, or is given another key, are rejected on open connections too.

Keys are 40 characters of Z85, as `zmq.curve_keypair()` makes them. No text that is made here contains a secret key.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import zmq
from zmq.utils import z85

from gossipdistill.drivers.overload.newcomers import Newcomers
from gossipdistill.messages import Envelope
from gossipdistill.presence import Greeting, Refusal

_KEY_CHARACTERS = 40
DOMAIN = b"gossipdistill"
_ENDPOINT = "inproc://zeromq.zap.01"
_VERSION = b"1.0"
_ANSWERS_PER_TURN = 32
_NAMED_MAX = 64
_IPV4_IN_IPV6 = "::ffff:"
"""Sockets that listen for both show an IPv4 address with this prefix."""
DOCTOR = "doctor."
"""The doctor of a peer uses a name with this prefix; it has no key of its own."""


@dataclass(slots=True, eq=False)
class Curve:
    """My key pair, and the current public keys of all peers that may take part, by name. Changed on the loop's own
    thread.

    Raises:
        ValueError: for a key of another length than 40 characters of Z85.
    """

    public: bytes
    secret: bytes = field(repr=False)
    server_keys: Mapping[str, bytes]
    seed: bytes = b""
    """The key of the listener at a dialled address whose peer is not known."""
    _names: dict[str, str] = field(default_factory=dict, repr=False)
    _former: dict[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        _check({"my public key": self.public, "my secret key": self.secret})
        self.trust(self.server_keys)

    def trust(self, server_keys: Mapping[str, bytes]) -> frozenset[str]:
        """Trust these keys, which are those of all peers that may take part. Returns the names that have lost the key
        that they had."""
        _check(server_keys)
        before, self.server_keys = self.server_keys, dict(server_keys)
        self._names = {key.decode("ascii"): name for name, key in server_keys.items()}
        lost = frozenset(name for name, key in before.items() if server_keys.get(name) != key)
        self._former.update((before[name].decode("ascii"), name) for name in lost)
        return lost

    def key_of(self, name: str) -> bytes | None:
        """The present key of `name`, or of the peer whose doctor uses this name."""
        if not name:
            return self.seed or None
        return self.server_keys.get(name) or self.server_keys.get(name.removeprefix(DOCTOR))

    def name_of(self, key: str) -> str | None:
        """The name that has this key now; None for a key that is not trusted, or not any more."""
        return self._names.get(key)

    def former_name_of(self, key: str) -> str | None:
        """The name that had this key before it was revoked."""
        return self._former.get(key)

    def guard(self, binding: zmq.Socket[bytes]) -> None:
        """Accept only callers that a `ZapHandler` of this context accepts."""
        binding.setsockopt(zmq.CURVE_SERVER, 1)
        binding.setsockopt(zmq.ZAP_DOMAIN, DOMAIN)
        binding.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # without a ZAP handler: accept none, not all
        self._identify(binding)

    def seal(self, connecting: zmq.Socket[bytes], name: str) -> None:
        """Encrypt to the key of `name`, which must have one."""
        key = self.key_of(name)
        assert key is not None
        connecting.setsockopt(zmq.CURVE_SERVERKEY, key)
        self._identify(connecting)

    def _identify(self, socket: zmq.Socket[bytes]) -> None:
        socket.setsockopt(zmq.CURVE_PUBLICKEY, self.public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self.secret)


def may_say(name: str, envelope: Envelope) -> bool:
    """Whether the holder of the key of `name` may be the sender of this: under its own name; and its doctor, which has
    a name of its own, may send greetings and refusals."""
    if envelope.sender == name:
        return True
    is_doctor = envelope.sender == f"{DOCTOR}{name}"[:64]
    return is_doctor and isinstance(envelope.message, Greeting | Refusal)


class RefusedCaller(NamedTuple):
    """A caller that was turned away: its IP address and key, the reason in words, and whether its key is turned away
    for the first time, as far as that is remembered."""

    host: str
    key: str
    problem: str
    is_new: bool


@dataclass(slots=True, eq=False)
class ZapHandler:
    """Answers libzmq's requests (RFC 27, ZAP) about callers, by the current keys of a `Curve`. Never blocks.
    `turned_away` counts by reason."""

    curve: Curve
    newcomers: Newcomers = field(default_factory=Newcomers)
    """The callers with unknown keys that are let in to enrol, in a run with a join secret. All other messages of them
    are ignored."""
    clock: Callable[[], float] = time.monotonic
    turned_away: Counter[str] = field(default_factory=Counter)
    refused: deque[RefusedCaller] = field(default_factory=lambda: deque(maxlen=_NAMED_MAX))
    """The last callers that were turned away for their keys, until the owner has read them."""
    socket: zmq.Socket[bytes] | None = None
    _named: set[str] = field(default_factory=set)

    def open(self, socket: zmq.Socket[bytes]) -> None:
        """Start, with a ROUTER of the context whose binding sockets ask."""
        socket.setsockopt(zmq.LINGER, 0)
        socket.bind(_ENDPOINT)
        self.socket = socket

    def answer(self) -> bool:
        """Answer a turn's share of requests. Returns whether there may be more."""
        assert self.socket is not None
        for _ in range(_ANSWERS_PER_TURN):
            if not int(self.socket.get(zmq.EVENTS)) & zmq.POLLIN:
                return False
            frames = self.socket.recv_multipart(zmq.NOBLOCK)
            edge = frames.index(b"") + 1
            status, text, key = self._judge(frames[edge:])
            self.socket.send_multipart([*frames[:edge], _VERSION, frames[edge + 1], status, text, key, b""])
        return True

    def _judge(self, question: list[bytes]) -> tuple[bytes, bytes, bytes]:
        """[version, request, domain, address, identity, mechanism, credentials] -> status, its text, User-Id."""
        version, _, domain, address, _, mechanism, *credentials = question
        if (version, domain, mechanism) != (_VERSION, DOMAIN, b"CURVE") or [len(part) for part in credentials] != [32]:
            self.turned_away["no_key"] += 1
            return b"400", b"no key", b""
        encoded = z85.encode(credentials[0])
        key = encoded.decode("ascii")
        if self.curve.name_of(key) is not None:
            return b"200", b"OK", encoded
        former = self.curve.former_name_of(key)
        host = address.decode("ascii", "replace").removeprefix(_IPV4_IN_IPV6)
        if former is None and self.newcomers.let_in(key, host, self.clock()):
            return b"200", b"may enrol", encoded
        reason = "unknown_key" if former is None else "revoked_key"
        self.turned_away[reason] += 1
        is_new = key not in self._named and len(self._named) < _NAMED_MAX
        if is_new:
            self._named.add(key)
        whose = "a key that is not trusted" if former is None else f"the revoked key of {former}"
        problem = f"a caller from {host} was turned away: it has {whose}, {key}"
        self.refused.append(RefusedCaller(host, key, problem, is_new))
        return b"400", b"key not trusted", b""


def _check(keys: Mapping[str, bytes]) -> None:
    for whose, key in keys.items():
        if len(key) != _KEY_CHARACTERS:
            raise ValueError(f"{whose}: a key has {_KEY_CHARACTERS} characters of Z85, this one has {len(key)}")
