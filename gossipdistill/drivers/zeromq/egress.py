"""The outgoing half: messages to sockets, large bodies piece by piece, and what could not be sent.

Rules of this file
1. The protocol is told of each message of which nothing could be sent (`Peer.not_sent`), but not of a late copy.
2. A half-sent body is lost with its connection: it starts again, as with a peer that was unreachable.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from gossipdistill.drivers.channels import Channel
from gossipdistill.drivers.zeromq.faulty import Flip
from gossipdistill.drivers.zeromq.ingress import is_present
from gossipdistill.drivers.zeromq.link import Link
from gossipdistill.drivers.zeromq.monitors import Monitors
from gossipdistill.drivers.zeromq.send_scheduler import SendScheduler
from gossipdistill.drivers.zeromq.sending import Sending, Way, channel_of
from gossipdistill.ids import PeerName
from gossipdistill.limits import Limits
from gossipdistill.messages import Transmit
from gossipdistill.protocol.peer import Peer


@dataclass(slots=True)
class Egress:
    """The outgoing half of one driver."""

    peer: Peer
    limits: Limits
    clock: Callable[[], float]
    sending: Sending
    monitors: Monitors
    scheduler: SendScheduler[Way] = field(init=False)

    def __post_init__(self) -> None:
        self.scheduler = SendScheduler(self.limits, self.sending)

    @property
    def is_busy(self) -> bool:
        """Whether large bodies are in transfer."""
        return bool(self.scheduler.lanes)

    def hand_out(self, transmit: Transmit, late: bool = False, flip: Flip | None = None) -> None:
        """Send one message, whole or piece by piece."""
        if channel_of(transmit.envelope) is Channel.DATA:
            taken = self.scheduler.add(transmit, late, flip)
            self._mind_the_connection(transmit.envelope.to)
        else:
            taken = self.sending.put(transmit, None, flip) is not None
        self.part_from_the_closed()
        if not taken and not late:  # rule 1
            self.peer.not_sent(transmit, self.clock())

    def pump(self) -> bool:
        """Send large bodies as far as there is room. Returns whether one could continue at once."""
        self.part_from_the_closed()
        more = self.scheduler.pump()
        self.part_from_the_closed()
        ended, self.sending.ended = self.sending.ended, []
        for route in ended:
            self._way_ended(route)
        return more

    def connections_ended(self) -> bool:
        """Tell the protocol of data connections that have ended after carrying large bodies, even if a body was handed
        over whole. Returns whether there was one."""
        ended, self.monitors.ended = self.monitors.ended, []
        for link, name in ended:
            self._way_ended(link, name)
        return bool(ended)

    def part_from_the_closed(self) -> None:
        """Give up what was in transfer through links that were closed on purpose."""
        links = self.sending.links
        while links.closed:
            self._give_up(self.scheduler.drop_way(links.closed[0]))
            del links.closed[0]

    def part_from_the_gone(self) -> None:
        """Give up bodies to peers that are not present."""
        self.drop([name for name in self.scheduler.lanes if not is_present(self.peer, name)])

    def drop(self, names: Collection[str]) -> None:
        """Drop everything in transfer to these peers."""
        for name in names:
            self._give_up(self.scheduler.drop(name))

    def _way_ended(self, way: Way, *names: str) -> None:
        """Handle the end of a connection to these peers, and to the recipients of bodies in transfer on it (rule 2)."""
        given_up = self.scheduler.drop_way(way)
        self._give_up(given_up)
        for name in dict.fromkeys([*names, *(transmit.envelope.to for transmit in given_up)]):
            self.peer.connection_ended(PeerName(name), self.clock())

    def _mind_the_connection(self, name: str) -> None:
        """Watch the connections on which large bodies to this peer are in transfer: what is in their queues is lost
        when they end."""
        lane = self.scheduler.lanes.get(name)
        for transfer in lane.transfers if lane is not None else ():
            if isinstance(transfer.way, Link) and transfer.way.sockets:
                self.monitors.begin(transfer.way, name)

    def _give_up(self, given_up: list[Transmit]) -> None:
        for transmit in given_up:
            self.peer.not_sent(transmit, self.clock())
