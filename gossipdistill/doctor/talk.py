"""The meetings over real sockets: those that a worker would have, with every bound set, on the roster's own ports.

One thread, one poll; Ctrl-C ends it wherever it is.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping

import zmq

from gossipdistill.doctor.meetings import Meetings, Send
from gossipdistill.drivers.channels import Channel
from gossipdistill.drivers.overload.resources import Resources
from gossipdistill.drivers.zeromq.security import DOCTOR, Curve
from gossipdistill.drivers.zeromq.sockets import Sockets, ZmqSocket
from gossipdistill.errors import AddressError
from gossipdistill.limits import DEFAULT_LIMITS
from gossipdistill.presence import Address
from gossipdistill.wire.codec import decode, encode
from gossipdistill.wire.errors import WireError

_TURN_MS = 20
_MESSAGES_PER_TURN = 32
_TURNED_AWAY_MAX = 256
_FRAMES_MAX = 3
"""Of a message, with what a ROUTER says of its connection."""
_HELD_BYTES_MAX = 256 << 20
Progress = Callable[[list[str], float], None]
"""Told of those who are still awaited, and of the seconds that are left."""


def talk(
    meetings: Meetings,
    boot: int,
    listen: Address | None,
    dial: Mapping[str, Address],
    seconds: float,
    grace_s: float,
    progress: Progress,
    curve: Curve | None = None,
) -> tuple[float, dict[str, str]]:
    """Meet the others until all is known, at most `seconds`; with those who were met by then, `grace_s` more.

    `listen` and `dial` are IP addresses; without `listen` nobody can call. With `curve` all is encrypted, and nobody
    else is heard. Returns how long it took, and who was turned away: IP address -> the key that it had.
    """  # fmt: skip
    line = _Line(Sockets(DEFAULT_LIMITS, curve=curve, guarded=False), meetings)
    began_s = now = time.monotonic()
    try:
        line.open(listen, dial)
        while True:
            now = time.monotonic()
            left_s = began_s + seconds - now
            missing = meetings.missing(now)
            if not missing or (left_s <= 0 and (not meetings.busy(now) or left_s < -grace_s)):
                break
            progress(missing, max(left_s, 0.0))
            line.turn()
            line.refuse_unread()
    finally:
        line.close()
    return now - began_s, line.turned_away


class _Line:
    """The sockets of one doctor."""

    def __init__(self, sockets: Sockets, meetings: Meetings) -> None:
        self._sockets, self._meetings = sockets, meetings
        self._routers: dict[Channel, ZmqSocket] = {}
        self._dealers: dict[str, tuple[ZmqSocket, ZmqSocket]] = {}
        self._origins: dict[ZmqSocket, tuple[Channel, str]] = {}
        self._poller = zmq.Poller()
        self._resources = Resources()
        self._resident_before = self._resources.resident_bytes()
        self.turned_away: dict[str, str] = {}

    def open(self, listen: Address | None, dial: Mapping[str, Address]) -> None:
        """Bind, and begin to connect."""
        if listen is not None:
            for channel in Channel:
                try:
                    self._watch(self._sockets.bind(listen, channel), channel, "")
                except zmq.ZMQError as error:
                    port = listen.port + channel
                    raise AddressError(f"cannot listen at port {port} of {listen.host}: {error.strerror}") from None
        door = self._sockets.zap_handler
        if door is not None and door.socket is not None:
            self._poller.register(door.socket, zmq.POLLIN)
        for name, address in dial.items():
            try:
                self._dealers[name] = self._sockets.connect(address, name)
            except (zmq.ZMQError, LookupError):  # too many open files, or no key: other checks say so
                continue
            for channel in Channel:
                self._watch(self._dealers[name][channel], channel, name)

    def close(self) -> None:
        """At once; what others have not read by then was for their comfort only."""
        self._sockets.close_all()

    def turn(self) -> None:
        """Say what is due, and hear what has come within a moment."""
        now, wall_s = time.monotonic(), time.time()
        self._send(self._meetings.due(now, wall_s))
        for socket, _ in self._poller.poll(_TURN_MS):
            if socket not in self._origins:
                self._answer_callers()
                continue
            channel, name = self._origins[socket]
            for _ in range(_MESSAGES_PER_TURN):
                parts = _next(socket)
                if not parts:
                    break
                self._hear(channel, name, [part.bytes for part in parts], self._who(name, parts[-1]))

    def refuse_unread(self) -> None:
        """End all that, when what others have sent takes far more memory than any doctor or worker makes it take.

        Raises:
            AddressError: in words for the user.
        """
        resident, before = self._resources.resident_bytes(), self._resident_before
        if resident is not None and before is not None and resident - before > _HELD_BYTES_MAX:
            raise AddressError(
                f"the doctor stops: others have sent it more than {_HELD_BYTES_MAX >> 20} MiB that make no message it "
                "knows. No peer of gossipdistill does that: see who answers at the addresses of the roster"
            )

    def _watch(self, socket: ZmqSocket, channel: Channel, name: str) -> None:
        self._origins[socket] = (channel, name)
        self._poller.register(socket, zmq.POLLIN)
        if not name:
            self._routers[channel] = socket

    def _answer_callers(self) -> None:
        door = self._sockets.zap_handler
        assert door is not None
        door.answer()
        while door.refused:
            caller = door.refused.popleft()
            if len(self.turned_away) < _TURNED_AWAY_MAX:
                self.turned_away[caller.host] = caller.key

    def _who(self, name: str, part: zmq.Frame) -> str | None:
        """Whose key the other end has proved to hold; None without keys."""
        curve = self._sockets.curve
        if curve is None or name:
            return name or None
        return curve.name_of(str(part.get("User-Id"))) or ""

    def _hear(self, channel: Channel, name: str, frames: list[bytes], whose: str | None) -> None:
        origin: str | bytes = name
        if not name:
            origin, *frames = frames
        now, wall_s = time.monotonic(), time.time()
        try:
            envelope = decode(frames)
        except WireError as error:
            self._send(self._meetings.heard_other_version(origin, error, now))
            return
        if self._sockets.curve is None or envelope.sender in (whose, f"{DOCTOR}{whose}"[:64]):
            self._send(self._meetings.heard(channel, origin, envelope, now, wall_s))

    def _send(self, sends: list[Send]) -> None:
        full: set[str] = set()
        for send in sends:
            if send.to and (send.to in full or send.to not in self._dealers):
                continue
            frames: list[bytes | memoryview] = list(encode(send.envelope))
            socket = self._dealers[send.to][send.channel] if send.to else self._routers[send.channel]
            if not send.to:
                frames.insert(0, send.route)
            at_s = time.monotonic()  # the answer may be there before this thread has its turn again
            try:
                socket.send_multipart(frames, zmq.NOBLOCK)
            except zmq.ZMQError:  # nobody is connected, the queue is full, or the caller has gone: it is said again
                full.add(send.to)
                continue
            self._meetings.taken(send, at_s)


def _next(socket: ZmqSocket) -> list[zmq.Frame]:
    """The next message, of which no more than one frame too many is kept; empty when there is none."""
    parts: list[zmq.Frame] = []
    with contextlib.suppress(zmq.Again):
        while not parts or parts[-1].more:
            parts = [*parts[:_FRAMES_MAX], socket.recv(zmq.NOBLOCK, copy=False)]
    return parts
