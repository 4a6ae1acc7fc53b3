"""The links to others: a pair of DEALERs for each address that is dialled, and the routes back to peers that dialled
me.

Rules of this file
1. Names are resolved here, asynchronously; libzmq is given IP addresses only (it resolves in its I/O thread, and one
   dead name then stalls every socket of the context).
2. Addresses come from others. Links to addresses that are no member's are few, all links together are bounded, and a
   link that cannot be opened is an event.
3. With keys, a link is opened to the key of its name, and closed as soon as that is not trusted any more. A link that
   the other end does not let in is opened again now and then: libzmq itself gives up for good when it is refused.
4. A connection serves both directions. What cannot be sent through a link of mine goes back through the connection that
   the other end opened, if there is one: so a peer that nobody can reach (behind NAT, `listen = "none"`) takes part.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import Collection
from dataclasses import dataclass, field

import zmq

from gossipdistill.drivers.channels import Channel
from gossipdistill.drivers.event_sink import EventSink
from gossipdistill.drivers.zeromq.link import NEVER, Link
from gossipdistill.drivers.zeromq.monitors import Monitors
from gossipdistill.drivers.zeromq.names import look_up
from gossipdistill.drivers.zeromq.readable_sockets import ReadableSocket, ReadableSockets
from gossipdistill.drivers.zeromq.sockets import Sockets
from gossipdistill.events import EventKind
from gossipdistill.limits import Limits
from gossipdistill.presence import Address
from gossipdistill.protocol.peer import Peer

_KEY_MISSED_TIMES = 3
_REFUSED_AFTER_S = 4.0
"""A sealed link that has accepted nothing for this long may have been refused."""


@dataclass(slots=True)
class Links:
    """All links by control address."""

    sockets: Sockets
    limits: Limits
    peer: Peer
    readable: ReadableSockets
    monitors: Monitors
    events: EventSink
    by_place: dict[tuple[Address, str], Link] = field(default_factory=dict)
    """Links are keyed by address; with keys also by name, or a peer that claims another's address would cause a dial
    with the wrong key."""
    closed: list[Link] = field(default_factory=list)
    """Links whose sockets were closed since the owner last asked: what was in flight through them is lost."""

    def to(self, address: Address, name: str, now: float) -> Link:
        """The link to this address, which is opened if necessary."""
        place = (address, name if self.sockets.curve is not None else "")
        link = self.by_place.get(place)
        if link is None:
            self._make_room()
            link = self.by_place[place] = Link(address, name, place=place)
            self.tend(link, now)
        link.used_s = now
        return link

    def tend(self, link: Link, now: float) -> None:
        """Open a link, or open it again: a name may have moved to another machine (a container that was replaced)."""
        if now < link.try_at_s or (link.resolving is not None and not link.resolving.done()):
            return
        link.try_at_s = now + self.limits.reopen_interval_s
        if self.sockets.reconnects and not _is_literal(link.address.host):
            link.resolving = asyncio.get_running_loop().create_task(self._resolve(link))
        elif not link.sockets or not self.sockets.reconnects or self._is_refused(link, now):
            self._open(link, link.address.host, now)

    def close_those_of(self, names: Collection[str]) -> None:
        """Close the links to these names: their keys are not trusted any more. A link that is needed is opened again,
        if there is another key."""
        for link in self.by_place.values():
            if link.name in names:
                self._close(link)
                link.host, link.try_at_s = "", NEVER

    def has_heard(self, address: Address) -> bool:
        """Whether a message has arrived through a link to this address."""
        return any(link.heard for link in self.by_place.values() if link.address == address)

    def far_ends(self) -> dict[tuple[str, int], Channel]:
        """The far ends of my connections: host and port, each with its channel."""
        links = self.by_place.values()
        return {(link.host, link.address.port + channel): channel for link in links for channel in Channel}

    async def close(self) -> None:
        """Drop all links, and wait for the look-ups to end."""
        resolving = [link.resolving for link in self.by_place.values() if link.resolving is not None]
        for link in list(self.by_place.values()):
            self._drop(link)
        await asyncio.gather(*resolving, return_exceptions=True)

    def _make_room(self) -> None:
        members = self.peer.membership.admission.addresses()
        strangers = [link for link in self.by_place.values() if link.address not in members]
        for link in strangers[: len(strangers) + 1 - self.limits.stranger_links_max]:
            self._drop(link)
        if len(self.by_place) >= self.limits.links_max:
            self._drop(min(self.by_place.values(), key=lambda link: link.used_s))

    def _drop(self, link: Link) -> None:
        del self.by_place[link.place]
        if link.resolving is not None:
            link.resolving.cancel()
        self._close(link)

    def _close(self, link: Link) -> None:
        if link.sockets:
            self.readable.leave(link.sockets)
            self.monitors.end(link)
            self.closed.append(link)
            self.sockets.close(*link.sockets)
            link.sockets = ()

    async def _resolve(self, link: Link) -> None:
        """Look the name up, and go to its next address if the one in use does not answer."""
        try:
            found = await look_up(link.address)
            hosts = list(dict.fromkeys(str(entry[4][0]) for entry in found))
            host = hosts[(hosts.index(link.host) + 1) % len(hosts) if link.host in hosts else 0]
        except (OSError, ValueError, IndexError) as error:  # ValueError: no name at all, such as "a..b"
            link.failures += 1
            if link.failures == 3:
                self.events.tell(EventKind.WARNING, f"cannot resolve the name {link.address.host}: {error}; retrying")
            return
        link.failures = 0
        if host != link.host or not link.sockets or self._is_refused(link, link.try_at_s):
            self._open(link, host, link.try_at_s)

    def _is_refused(self, link: Link, now: float) -> bool:
        """Whether the other end may have refused me: nothing was accepted for long enough."""
        return self.sockets.curve is not None and now - max(link.opened_s, *link.took_s) > _REFUSED_AFTER_S

    def _open(self, link: Link, host: str, now: float) -> None:
        self._close(link)
        link.host, link.took_s, link.opened_s = host, [NEVER, NEVER], now
        try:
            link.sockets = self.sockets.connect(Address(host, link.address.port), link.name)
            link.key = self.sockets.key_of(link.name)
        except (zmq.ZMQError, LookupError) as error:
            link.failures += 1
            # In a run with a join secret the key may arrive with the next messages of others.
            if link.failures == (1 if isinstance(error, zmq.ZMQError) else _KEY_MISSED_TIMES):
                reason = error.strerror if isinstance(error, zmq.ZMQError) else error.args[0]
                self.events.tell(EventKind.WARNING, f"cannot open a connection to {link.address}: {reason}; retrying")
            return
        for channel, socket in zip(Channel, link.sockets, strict=True):
            self.readable.listen_to(ReadableSocket(socket, channel, link))


def _is_literal(host: str) -> bool:
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host)
        return True
    return False
