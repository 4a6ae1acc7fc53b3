"""From sockets to messages: the frames of what has come, a turn's share at a time.

Rule of this file
A turn reads at most `turn_messages_max` messages and `turn_bytes_max` bytes of one socket, so that no turn of the loop
takes long; what is left is read in the next one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import zmq

from gossipdistill.drivers.ingress import Ingress
from gossipdistill.drivers.links import Inlet
from gossipdistill.drivers.sockets import may_read
from gossipdistill.limits import Limits

_FRAMES_MAX = 2
"""Of a message, beside what a ROUTER says of its connection."""
_SKIPPED_PER_TURN = 1024
"""Frames of an overlong message: about two milliseconds."""


@dataclass(slots=True)
class Reading:
    """Reads the sockets of one driver."""

    limits: Limits
    ingress: Ingress
    delivered: Callable[[zmq.Frame, int, int, str, bool], None]
    """Told of each message: one of its frames, their number, its size, who speaks on its connection, and whether it was
    dropped unread."""
    behind: set[Inlet] = field(default_factory=set)
    """Sockets that were not read to their end the last time."""
    _overlong: set[Inlet] = field(default_factory=set)
    """Sockets whose next frames are the rest of a message of more frames than any has."""

    def drain(self, inlet: Inlet) -> bool:
        """Read a turn's share. Whether there may be more."""
        self.behind.discard(inlet)
        ingress, left_bytes = self.ingress, self.limits.turn_bytes_max
        for _ in range(self.limits.turn_messages_max):
            if not may_read(inlet.socket):  # asking is ten times cheaper than an exception
                return False
            if inlet in self._overlong and not self._skip(inlet):
                break
            parts = self._next(inlet)
            if not parts:
                return False
            frames = [part.buffer for part in parts]
            size, unread = sum(map(len, frames)), ingress.unread
            if ingress.curve is None:
                speaker = ingress.receive(frames, inlet)
            else:
                key = str(parts[-1].get("User-Id")) if inlet.link is None else inlet.link.key
                speaker = ingress.receive_sealed(frames, inlet, key, ingress.curve)
            self.delivered(parts[0], len(parts), size, speaker, ingress.unread > unread)
            left_bytes -= size
            if left_bytes <= 0:
                break
        if not may_read(inlet.socket):
            return False
        self.behind.add(inlet)
        return True

    def _next(self, inlet: Inlet) -> list[zmq.Frame]:
        """The frames of the next message, or one more than any has; the rest is skipped, over several turns. Empty when
        there is none."""
        parts: list[zmq.Frame] = []
        for _ in range(_FRAMES_MAX + 1 + (inlet.link is None)):
            try:
                parts.append(inlet.socket.recv(zmq.NOBLOCK, copy=False))
            except zmq.Again:
                return []  # only before the first: a message comes whole
            if not parts[-1].more:
                return parts
        self._overlong.add(inlet)
        return parts

    def _skip(self, inlet: Inlet) -> bool:
        """Skip a turn's share of an overlong message. Whether its end was reached."""
        size = frames = 0
        while frames < _SKIPPED_PER_TURN:
            frame = inlet.socket.recv(zmq.NOBLOCK, copy=False)
            size, frames = size + len(frame), frames + 1
            if not frame.more:
                self._overlong.discard(inlet)
                break
        self.delivered(frame, frames, size, "", True)
        return not frame.more

    def leave(self, inlet: Inlet) -> None:
        """This socket is read no longer."""
        self.behind.discard(inlet)
        self._overlong.discard(inlet)
