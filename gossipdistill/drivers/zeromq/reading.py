"""From sockets to messages: reads the frames that have arrived, a turn's share at a time.

Rule of this file
A turn reads at most `turn_messages_max` messages and `turn_bytes_max` bytes of one socket, so that no turn of the loop
takes long; what is left is read in the next one.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import zmq

from gossipdistill.drivers.channels import Channel
from gossipdistill.drivers.overload.unread_bytes import UnreadLedger
from gossipdistill.drivers.zeromq.ingress import Ingress
from gossipdistill.drivers.zeromq.readable_sockets import ReadableSocket, ReadableSockets
from gossipdistill.drivers.zeromq.sockets import may_read
from gossipdistill.limits import Limits

_FRAMES_MAX = 2
"""A message has at most this many frames, besides the one in which a ROUTER names its connection."""
_SKIPPED_PER_TURN = 1024
"""At most this many frames of an overlong message are skipped in one turn: about two milliseconds."""


@dataclass(slots=True)
class Reading:
    """Reads the sockets of one driver."""

    limits: Limits
    ingress: Ingress
    sockets: ReadableSockets
    unread: UnreadLedger

    def drain_all(self, first: ReadableSocket | None) -> None:
        """Read from the sockets that may have something, control before data, each a turn's share; always from
        `first`."""
        ready = self.sockets.ready
        if first is not None:
            ready[first] = None
        for readable in sorted(ready, key=_channel_of):
            if not self.drain(readable):
                ready.pop(readable, None)

    def drain(self, readable: ReadableSocket) -> bool:
        """Read a turn's share. Returns whether there may be more."""
        self.sockets.behind.discard(readable)
        ingress, left_bytes = self.ingress, self.limits.turn_bytes_max
        for _ in range(self.limits.turn_messages_max):
            if not may_read(readable.socket):  # this check is ten times cheaper than an exception
                return False
            if readable in self.sockets.overlong and not self._skip(readable):
                break
            parts = self._next(readable)
            if not parts:
                return False
            frames = [part.buffer for part in parts]
            size, unread = sum(map(len, frames)), ingress.unread
            if ingress.curve is None:
                speaker = ingress.receive(frames, readable)
            else:
                key = str(parts[-1].get("User-Id")) if readable.link is None else readable.link.key
                speaker = ingress.receive_sealed(frames, readable, key, ingress.curve)
            self._delivered(parts[0], len(parts), size, speaker, ingress.unread > unread)
            left_bytes -= size
            if left_bytes <= 0:
                break
        if not may_read(readable.socket):
            return False
        self.sockets.behind.add(readable)
        return True

    def _next(self, readable: ReadableSocket) -> list[zmq.Frame]:
        """The frames of the next message; of an overlong one, one frame more than allowed, and the rest is skipped over
        several turns. Empty when there is no message."""
        parts: list[zmq.Frame] = []
        for _ in range(_FRAMES_MAX + 1 + (readable.link is None)):
            try:
                parts.append(readable.socket.recv(zmq.NOBLOCK, copy=False))
            except zmq.Again:
                return []  # only before the first frame: a message arrives whole
            if not parts[-1].more:
                return parts
        self.sockets.overlong.add(readable)
        return parts

    def _skip(self, readable: ReadableSocket) -> bool:
        """Skip a turn's share of an overlong message. Returns whether its end was reached."""
        size = frames = 0
        while frames < _SKIPPED_PER_TURN:
            frame = readable.socket.recv(zmq.NOBLOCK, copy=False)
            size, frames = size + len(frame), frames + 1
            if not frame.more:
                self.sockets.overlong.discard(readable)
                break
        self._delivered(frame, frames, size, "", True)
        return not frame.more

    def _delivered(self, frame: zmq.Frame, frames: int, size: int, sender: str, unread: bool) -> None:
        """Note that a message was read, or dropped `unread`; `frame` is one of its frames."""
        if self.unread.is_watched:
            with contextlib.suppress(zmq.ZMQError):  # for a peer with ZMTP 1 or 2, libzmq does not report it
                self.unread.delivered(int(frame.get(zmq.SRCFD)), frames, size, sender, unread)


def _channel_of(readable: ReadableSocket) -> Channel:
    return readable.channel
