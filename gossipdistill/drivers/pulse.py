"""Signs of life of the network: the loop says each second that it goes on, if libzmq's two I/O threads do.

Each I/O thread is given a socket that connects to where nobody can ever listen: it tries again once a second or so, and
says so to a monitor. One that stands still says nothing, and all its connections stand still with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from gossipdistill.drivers.sockets import Channel, Sockets, ZmqSocket, drain

BEAT_S = 1.0
_SILENT_BEATS_MAX = 60
"""So many beats without a word of an I/O thread. Beats, not seconds: a process that was stopped meanwhile is well."""
_WORDS_AT_ONCE = 64


class StandstillError(RuntimeError):
    """An I/O thread of libzmq does not go on, and cannot be made to."""


@dataclass(slots=True)
class Pulse:
    """Of one driver. `tell` is called with each beat; `fail` once, when an I/O thread has been silent for too long."""

    sockets: Sockets
    tell: Callable[[], None]
    fail: Callable[[Exception], None]
    silent: dict[Channel, int] = field(default_factory=dict)
    """Beats since the last word, by I/O thread."""
    _monitors: dict[Channel, ZmqSocket] = field(default_factory=dict)
    _timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """From now on, on the running loop."""
        for channel in Channel if self.sockets.reconnects else ():
            self._monitors[channel] = self.sockets.pulse(channel)
            self.silent[channel] = 0
        self._beat()

    def end(self) -> None:
        """No longer: the sockets are about to be closed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._monitors.clear()

    def _beat(self) -> None:
        for channel, monitor in self._monitors.items():
            self.silent[channel] = 0 if drain(monitor, _WORDS_AT_ONCE) else self.silent[channel] + 1
        still = [channel.name.lower() for channel, beats in self.silent.items() if beats > _SILENT_BEATS_MAX]
        if still:
            waited_s = _SILENT_BEATS_MAX * BEAT_S
            problem = f"libzmq's I/O thread for {' and '.join(still)} has stood still for {waited_s:.0f} s"
            self.fail(StandstillError(problem))
            return
        self.tell()
        self._timer = asyncio.get_running_loop().call_later(BEAT_S, self._beat)
