"""With keys: libzmq's requests about callers are answered on the driver's loop."""

from __future__ import annotations

from dataclasses import dataclass

from gossipdistill.drivers.event_sink import EventSink
from gossipdistill.drivers.zeromq.loop import DriverLoop
from gossipdistill.drivers.zeromq.security import ZapHandler
from gossipdistill.events import EventKind


@dataclass(slots=True)
class ZapService:
    """Lets a `ZapHandler` answer every request. Each key that is turned away is reported once."""

    zap: ZapHandler
    loop: DriverLoop
    events: EventSink

    def begin(self) -> None:
        """Answer from now on."""
        assert self.zap.socket is not None
        self.loop.listen(self.zap.socket, self._answer)
        self.loop.call(self._answer)

    def end(self) -> None:
        """Stop answering: the sockets are about to be closed."""
        if self.zap.socket is not None:
            self.loop.listen_no_more(self.zap.socket)
            self.zap.socket = None

    def _answer(self) -> None:
        if self.zap.socket is None:
            return
        more = self.zap.answer()
        while self.zap.refused:
            caller = self.zap.refused.popleft()
            if caller.is_new:
                self.events.tell(EventKind.REFUSED, caller.problem, code="key")
        if more:
            self.loop.call_soon(self._answer)
