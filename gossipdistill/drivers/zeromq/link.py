"""The way to one peer: a pair of sockets to its address; and the way back to a process that dialled me."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from gossipdistill.drivers.channels import Channel
from gossipdistill.drivers.overload.rate_limits import Budget
from gossipdistill.drivers.zeromq.sockets import ZmqSocket
from gossipdistill.presence import NOWHERE, Address

_DEAF_AFTER_S = 1.0
"""A link that has taken nothing for so long, and takes nothing now, is passed by if there is a way back."""
NEVER = float("-inf")


@dataclass(slots=True, eq=False)
class Link:
    """The way to one control address: two sockets, opened once the name is resolved to `host`."""

    address: Address
    name: str = ""
    """Who is meant to be there; "" when only the address is known."""
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
    """Whether anything that made a message has come through it."""
    took_s: list[float] = field(default_factory=lambda: [NEVER, NEVER])
    """When control and data last accepted a message, since they were opened."""
    budget: Budget = field(default_factory=dict)

    def is_deaf(self, channel: Channel, now: float) -> bool:
        """Whether a refusal just now means that nobody is connected, rather than that the queue is full."""
        if channel is Channel.CONTROL:
            return now - self.took_s[Channel.CONTROL] > _DEAF_AFTER_S
        # A slow reader's data queue may be full for long; its control queue is not.
        return self.took_s[Channel.DATA] == NEVER or now - self.took_s[Channel.CONTROL] > _DEAF_AFTER_S


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """The way back to a process that dialled me: by channel, what my ROUTER calls its connection. A connection that was
    made anew is another route."""

    boot: int
    connections: Mapping[Channel, bytes]


@dataclass(slots=True)
class Routes:
    """Ways back by name: to members, and to the last few strangers, who choose their names themselves."""

    strangers_max: int
    members: dict[str, Route] = field(default_factory=dict)
    strangers: dict[str, Route] = field(default_factory=dict)

    def note(self, name: str, boot: int, channel: Channel, connection: bytes, is_member: bool) -> None:
        """A message of this process came through that connection."""
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
        """The way back to this process; with boot 0 to any of that name."""
        for table in self.members, self.strangers:
            route = table.get(name)
            if route is not None and boot in (0, route.boot):
                return route
        return None

    def drop(self, names: Collection[str]) -> None:
        """Nothing more is said to these."""
        for table in self.members, self.strangers:
            for name in names:
                table.pop(name, None)
