"""A link to one peer: a pair of sockets to its address; and the route back to a process that dialled me."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from gossipdistill.drivers.channels import Channel
from gossipdistill.drivers.overload.rate_limits import Budget
from gossipdistill.drivers.zeromq.sockets import ZmqSocket
from gossipdistill.presence import NOWHERE, Address

_DEAF_AFTER_S = 1.0
"""A link that has accepted nothing for this long, and accepts nothing now, is bypassed if there is a route back."""
NEVER = float("-inf")


@dataclass(slots=True, eq=False)
class Link:
    """The link to one control address: two sockets, opened once the name is resolved to `host`."""

    address: Address
    name: str = ""
    """The peer that is expected there; "" when only the address is known."""
    place: tuple[Address, str] = (NOWHERE, "")
    sockets: tuple[ZmqSocket, ...] = ()
    host: str = ""
    resolving: asyncio.Task[None] | None = None
    try_at_s: float = NEVER
    failures: int = 0
    opened_s: float = NEVER
    key: str = ""
    """The key that the other end has proved to hold; "" without keys."""
    used_s: float = NEVER
    heard: bool = False
    """This says whether a valid message has arrived through it."""
    took_s: list[float] = field(default_factory=lambda: [NEVER, NEVER])
    """The times at which control and data last accepted a message, since they were opened."""
    budget: Budget = field(default_factory=dict)

    def is_deaf(self, channel: Channel, now: float) -> bool:
        """Whether a message that was not accepted just now means that no peer is connected, rather than that the queue
        is full."""
        if channel is Channel.CONTROL:
            return now - self.took_s[Channel.CONTROL] > _DEAF_AFTER_S
        # A slow reader's data queue may be full for long; its control queue is not.
        return self.took_s[Channel.DATA] == NEVER or now - self.took_s[Channel.CONTROL] > _DEAF_AFTER_S


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """The route back to a process that dialled me: for each channel, the name that my ROUTER has for its connection. A
    new connection is another route."""

    boot: int
    connections: Mapping[Channel, bytes]


@dataclass(slots=True)
class Routes:
    """Routes back by name: to members, and to the last few strangers, which choose their names themselves."""

    strangers_max: int
    members: dict[str, Route] = field(default_factory=dict)
    strangers: dict[str, Route] = field(default_factory=dict)

    def note(self, name: str, boot: int, channel: Channel, connection: bytes, is_member: bool) -> None:
        """Note that a message of this process arrived through that connection."""
        table = self.members if is_member else self.strangers
        known = table.get(name)
        if known is not None:
            if known.boot > boot or (known.boot == boot and known.connections.get(channel) == connection):
                return
            if known.boot == boot:
                table[name] = Route(boot, {**known.connections, channel: connection})
                return
        if not is_member:
            while len(table) >= self.strangers_max and name not in table:
                del table[next(iter(table))]
        table[name] = Route(boot, {channel: connection})

    def to(self, name: str, boot: int) -> Route | None:
        """The route back to this process; with boot 0 to any of that name."""
        for table in self.members, self.strangers:
            route = table.get(name)
            if route is not None and boot in (0, route.boot):
                return route
        return None

    def drop(self, names: Collection[str]) -> None:
        """Drop the routes to these peers."""
        for table in self.members, self.strangers:
            for name in names:
                table.pop(name, None)
