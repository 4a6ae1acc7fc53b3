"""Signs of life of the network: the loop writes one each second, if libzmq's two I/O threads run.

Each I/O thread has a socket that connects to an address where nothing can ever listen: it tries again about once a
second, and reports this to a monitor. A blocked thread reports nothing, and all its connections are blocked with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import dataclass, field
from typing import IO

from gossipdistill.drivers.channels import Channel
from gossipdistill.drivers.zeromq.loop import DriverLoop
from gossipdistill.drivers.zeromq.sockets import Sockets, ZmqSocket, drain

BEAT_S = 1.0
SILENT_BEATS_MAX = 60
"""An I/O thread counts as blocked after this many beats without a report. Beats, not seconds: a process that was
stopped meanwhile is healthy."""
_WORDS_AT_ONCE = 64


class StandstillError(RuntimeError):
    """An I/O thread of libzmq is blocked, and cannot be restarted."""


@dataclass(slots=True)
class Pulse:
    """The signs of life of one driver."""

    sockets: Sockets
    loop: DriverLoop
    silent: dict[Channel, int] = field(default_factory=dict)
    """The number of beats since the last report, by I/O thread."""
    _monitors: dict[Channel, ZmqSocket] = field(default_factory=dict)
    _heartbeat: IO[bytes] | None = None
    _timer: asyncio.TimerHandle | None = None

    def begin(self, heartbeat: IO[bytes] | None) -> None:
        """Start. A byte is written to `heartbeat` with each beat, as long as it is open."""
        self._heartbeat = heartbeat
        for channel in Channel if self.sockets.reconnects else ():
            self._monitors[channel] = self.sockets.pulse(channel)
            self.silent[channel] = 0
        self.loop.call(self._beat)

    def end(self) -> None:
        """Stop: the sockets are about to be closed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._monitors.clear()

    def _beat(self) -> None:
        for channel, monitor in self._monitors.items():
            self.silent[channel] = 0 if drain(monitor, _WORDS_AT_ONCE) else self.silent[channel] + 1
        still = [channel.name.lower() for channel, beats in self.silent.items() if beats > SILENT_BEATS_MAX]
        if still:
            waited_s = SILENT_BEATS_MAX * BEAT_S
            problem = f"libzmq's I/O thread for {' and '.join(still)} has stood still for {waited_s:.0f} s"
            raise StandstillError(problem)
        if self._heartbeat is not None:
            with contextlib.suppress(OSError, ValueError):  # closed, or its reader is slow
                os.write(self._heartbeat.fileno(), b".")
        self._timer = self.loop.call_later(BEAT_S, self._beat)
