"""Reports, for each dialled address that never answered, what is wrong with it, as far as a plain connection shows.

A ZeroMQ socket retries for ever and reports nothing. So now and then such an address is tried with a plain connection,
and where ZeroMQ answers, the neighbouring ports too: a peer has two, and it is easy to give the wrong one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from gossipdistill.drivers.event_sink import EventSink
from gossipdistill.drivers.zeromq.links import Links
from gossipdistill.drivers.zeromq.loop import DriverLoop
from gossipdistill.drivers.zeromq.names import look_up
from gossipdistill.events import EventKind
from gossipdistill.limits import Limits
from gossipdistill.presence import Address
from gossipdistill.protocol.peer import Peer

_DIAL_S = 2.0
"""A connection, a look-up or the first bytes may take this many seconds."""
_SIGNATURE_BYTES = 10
"""A ZMTP greeting (RFC 23/ZMTP) begins with this many bytes: FF, eight bytes, 7F; both ends send it at once."""
_SAID_MAX = 8
"""At most this many addresses are tried in one round."""
_PAUSE_GROWS = 3
_PAUSE_MAX_S = 120.0


class Door(Enum):
    """The kind of listener at a port."""

    ZMTP = "zmtp"
    OTHER = "other"
    CLOSED = "closed"


@dataclass(slots=True)
class Unanswered:
    """The check of unanswered addresses of one driver. A problem of an address is reported once as long as it lasts."""

    peer: Peer
    links: Links
    limits: Limits
    clock: Callable[[], float]
    events: EventSink
    loop: DriverLoop
    _watching: asyncio.Task[None] | None = None
    _said: dict[Address, tuple[str, str]] = field(default_factory=dict)

    def begin(self) -> None:
        """Start checking now and then."""
        self._watching = self.loop.start(self.watch())

    def end(self) -> None:
        """Stop checking."""
        if self._watching is not None:
            self._watching.cancel()

    async def watch(self) -> None:
        """Check now and then, at growing intervals, until cancelled."""
        began_s, pause_s = self.clock(), self.limits.view_after_s
        while True:
            await asyncio.sleep(pause_s)
            await self.look(self.clock() - began_s)
            pause_s = min(_PAUSE_GROWS * pause_s, _PAUSE_MAX_S)

    async def look(self, since_s: float) -> None:
        """Try the addresses that have not answered in the `since_s` seconds since the start, all at once."""
        silent = [
            (name, address)
            for name, address in self.peer.membership.admission.unanswered()
            if not self.links.has_heard(address)
        ]
        silent = silent[:_SAID_MAX]
        reasons = await asyncio.gather(*(why(address) for _, address in silent))
        still = {
            address for _, address in self.peer.membership.admission.unanswered() if not self.links.has_heard(address)
        }
        for (name, address), reason in zip(silent, reasons, strict=True):
            who = f"{name} has not answered at {address}" if name else f"nobody has answered at {address}"
            if address in still and self._said.get(address) != (who, reason):
                self._said[address] = (who, reason)
                self.events.tell(EventKind.VIEW, f"{who} for {since_s:.0f} s: {reason}")

    def lines(self) -> list[str]:
        """The last report of each address, without the time; only for a peer that no other has ever answered."""
        return [f"{who}: {reason}" for who, reason in list(self._said.values())]


async def why(address: Address) -> str:
    """Why no peer answers at this control address, and what to check, in words."""
    try:
        found = await asyncio.wait_for(look_up(address), _DIAL_S)
    except TimeoutError:
        return f"the name {address.host} was not found within {_DIAL_S:g} s; is it right, and does the network work?"
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return f"the name {address.host} is not found ({reason}); is it spelt right, and known on this machine?"
    host = str(found[0][4][0]) if found else address.host
    try:
        door = await dial(host, address.port)
    except ConnectionRefusedError:
        return (
            "nothing listens at this port (connection refused); is the address right, and has that peer been started?"
        )
    except TimeoutError:
        return (
            f"no answer within {_DIAL_S:g} s; is the address right and the machine up, and are ports {address.port} "
            f"and {address.data_port} open in its firewall?"
        )
    except OSError as error:
        return f"no connection ({error.strerror or error}); is the address right, and is there a way to that machine?"
    if door is not Door.ZMTP:
        return "something listens there, but it is no gossipdistill; is the port right?"
    before, after = await asyncio.gather(_behind(host, address.port - 1), _behind(host, address.port + 1))
    if before is Door.ZMTP and after is not Door.ZMTP:
        control = address._replace(port=address.port - 1)
        return f"this seems to be the data port of the peer at {control}; give that address instead"
    return (
        "something that speaks ZeroMQ listens there, and does not greet this peer; is it a peer of this run, of this "
        "version, and with keys that fit?"
    )


async def dial(host: str, port: int) -> Door:
    """The kind of listener at a port of an IP address.

    Raises:
        OSError: when no connection can be made; TimeoutError after `_DIAL_S`.
    """
    reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port), _DIAL_S)
    try:
        first = await asyncio.wait_for(reader.readexactly(_SIGNATURE_BYTES), _DIAL_S)
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return Door.OTHER
    finally:
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(writer.wait_closed(), _DIAL_S)
    return Door.ZMTP if first[0] == 0xFF and first[-1] == 0x7F else Door.OTHER


async def _behind(host: str, port: int) -> Door:
    try:
        return await dial(host, port)
    except OSError:
        return Door.CLOSED
