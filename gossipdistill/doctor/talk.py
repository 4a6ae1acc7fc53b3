"""The meetings over real sockets: those of a worker, with all limits set, on the ports of the roster.

It is one thread with one poll; Ctrl-C ends it at any time.
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
"""A message has at most this many frames, with the one in which a ROUTER names the connection."""
_HELD_BYTES_MAX = 256 << 20
Progress = Callable[[list[str], float], None]
"""It takes the names of the peers that are still waited for, and the seconds that are left."""


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
    """Meet the others until all is known, for at most `seconds`; for peers met by then, `grace_s` seconds more.

    `listen` and `dial` are IP addresses; without `listen` no peer can call. With `curve` all is encrypted, and callers
    without a trusted key are refused. Returns how long it took (s), and the refused callers as IP address -> key.
    """
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
            except (zmq.ZMQError, LookupError):  # too many open files, or no key: other checks report it
                continue
            for channel in Channel:
                self._watch(self._dealers[name][channel], channel, name)

    def close(self) -> None:
        """Close at once. What others have not read by then does not matter to them."""
        self._sockets.close_all()

    def turn(self) -> None:
        """Send what is due, and take in what arrives within a short time."""
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
        """End the doctor if messages of others take far more memory than any doctor or worker causes.

        Raises:
            AddressError: with a message for the user.
        """
        resident, before = self._resources.resident_bytes(), self._resident_before
        if resident is not None and before is not None and resident - before > _HELD_BYTES_MAX:
            raise AddressError(
                f"the doctor stops: others have sent it more than {_HELD_BYTES_MAX >> 20} MiB that form no message it "
                "knows. No peer of gossipdistill does that: find out which process has the addresses of the roster"
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
        """The name of the peer whose key the other end has proved to hold; None without keys."""
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
            at_s = time.monotonic()  # before sending: the answer may arrive before this thread runs again
            try:
                socket.send_multipart(frames, zmq.NOBLOCK)
            except zmq.ZMQError:  # not connected, the queue is full, or the caller has gone: it is sent again
                full.add(send.to)
                continue
            self._meetings.taken(send, at_s)


def _next(socket: ZmqSocket) -> list[zmq.Frame]:
    """The next message, with at most one frame too many kept; empty if there is none."""
    parts: list[zmq.Frame] = []
    with contextlib.suppress(zmq.Again):
        while not parts or parts[-1].more:
            parts = [*parts[:_FRAMES_MAX], socket.recv(zmq.NOBLOCK, copy=False)]
    return parts
