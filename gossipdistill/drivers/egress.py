"""What leaves: messages to sockets, large bodies piece by piece, and what became of those that could not be sent.

Rules of this file
1. The protocol is told of each message of which nothing could be sent (`Peer.not_sent`), but not of a late copy.
2. Half of a body is lost with its connection: it begins again, as with a peer that was out of reach.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from gossipdistill.drivers.faulty import Corrupt
from gossipdistill.drivers.ingress import is_present
from gossipdistill.drivers.links import Link
from gossipdistill.drivers.monitors import Monitors
from gossipdistill.drivers.send_scheduler import SendScheduler
from gossipdistill.drivers.sending import Sending, Way, channel_of
from gossipdistill.drivers.sockets import Channel, Sockets
from gossipdistill.ids import PeerName
from gossipdistill.limits import Limits
from gossipdistill.messages import Transmit
from gossipdistill.protocol.peer import Peer


@dataclass(slots=True)
class Egress:
    """The outgoing half of one driver. `turn` is called when a connection has ended: the protocol acts on it."""

    peer: Peer
    limits: Limits
    clock: Callable[[], float]
    sending: Sending
    sockets: Sockets
    turn: Callable[[], None]
    scheduler: SendScheduler[Way] = field(init=False)
    monitors: Monitors = field(init=False)

    def __post_init__(self) -> None:
        self.scheduler = SendScheduler(self.limits, self._put, self._sent)
        self.monitors = Monitors(self.sockets, self._connection_ended)

    @property
    def is_busy(self) -> bool:
        """Whether large bodies are on their way."""
        return bool(self.scheduler.lanes)

    def hand_out(self, transmit: Transmit, late: bool = False, corrupt: Corrupt | None = None) -> None:
        """One message on its way, as a whole or piece by piece."""
        if channel_of(transmit.envelope) is Channel.DATA:
            taken = self.scheduler.add(transmit, late, corrupt)
            self._mind_the_connection(transmit.envelope.to)
        else:
            taken = self._put(transmit, None, corrupt) is not None
        if not taken and not late:  # rule 1
            self.peer.not_sent(transmit, self.clock())

    def pump(self) -> bool:
        """Large bodies go on as far as there is room. Whether one could go on at once."""
        more = self.scheduler.pump()
        ended, self.sending.ended = self.sending.ended, []
        for route in ended:
            self.way_ended(route)
        return more

    def part_from_the_gone(self) -> None:
        """A peer that is not there holds up no body."""
        self.drop([name for name in self.scheduler.lanes if not is_present(self.peer, name)])

    def drop(self, names: Collection[str]) -> None:
        """Nothing more goes to these peers of what is on its way."""
        for name in names:
            self._give_up(self.scheduler.drop(name))

    def close(self, link: Link) -> None:
        """This link ends on purpose, with what is on its way."""
        self.monitors.end(link)
        self._give_up(self.scheduler.drop_way(link))

    def way_ended(self, way: Way, *names: str) -> None:
        """A connection to these peers, and to the recipients of bodies on their way, has ended (rule 2)."""
        given_up = self.scheduler.drop_way(way)
        self._give_up(given_up)
        for name in dict.fromkeys([*names, *(transmit.envelope.to for transmit in given_up)]):
            self.peer.connection_ended(PeerName(name), self.clock())

    def _put(self, transmit: Transmit, way: Way | None, corrupt: Corrupt | None = None) -> Way | None:
        return self.sending.put(transmit, way, self.clock(), corrupt)

    def _sent(self, transmit: Transmit) -> None:
        self.sending.traffic_of(transmit.envelope.to).messages_sent += 1

    def _mind_the_connection(self, name: str) -> None:
        """Large bodies to this peer are in transfer, or none: in queues that are lost with their connection."""
        lane = self.scheduler.lanes.get(name)
        for transfer in lane.transfers if lane is not None else ():
            if isinstance(transfer.way, Link) and transfer.way.sockets:
                self.monitors.begin(transfer.way, name)

    def _connection_ended(self, link: Link, name: str) -> None:
        """A data connection that has carried large bodies to this peer; it may be a body that was handed out whole."""
        self.way_ended(link, name)
        self.turn()

    def _give_up(self, given_up: list[Transmit]) -> None:
        for transmit in given_up:
            self.peer.not_sent(transmit, self.clock())
