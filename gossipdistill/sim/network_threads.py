"""The network threads of all simulated processes: their timeouts, their turns, and the messages between them.

Rule of this file
A peer's timer is read only after a call of the peer; an outdated entry of the heap is ignored.
"""

from __future__ import annotations

import random
from collections import Counter

from gossipdistill.events import EventKind
from gossipdistill.limits import Limits
from gossipdistill.messages import Envelope, Piece, ReliableMessage, State, Transmit, word_of
from gossipdistill.presence import Address
from gossipdistill.protocol.turn import drain, feed
from gossipdistill.sim.event_loop import EventLoop
from gossipdistill.sim.host import BACKLOG_MAX, HANDLING_S, NEVER, Host
from gossipdistill.sim.hosts import Hosts
from gossipdistill.sim.network import Network, garble, nbytes_of
from gossipdistill.wire.crossing import cross

_TIMER_GAP_S = 0.001
"""Timers are checked at most once in this time, as in the socket driver."""


class NetworkThreads:
    """The work of the network threads. `chance` determines the content of a corrupted message."""

    def __init__(
        self,
        time: EventLoop,
        hosts: Hosts,
        network: Network,
        limits: Limits,
        over_the_wire: bool,
        chance: random.Random,
    ) -> None:
        self.kinds_sent: Counter[str] = Counter()
        self._time, self._hosts, self._network = time, hosts, network
        self._limits, self._over_the_wire, self._chance = limits, over_the_wire, chance

    # --- time-outs -----------------------------------------------------------------------------------------------

    def arm(self, host: Host) -> None:
        """Schedule the next timeout of the host's peer."""
        due_s = host.peer.next_timeout() - host.clock_offset_s
        if host.slowdown > 1.0:
            due_s += HANDLING_S * host.slowdown
        if due_s < host.timer_s:
            host.timer_s = max(due_s, self._time.now + _TIMER_GAP_S)
            self._time.push(host.timer_s, self._timer, host, host.timer_s)

    def _timer(self, host: Host, due_s: float) -> None:
        if host.timer_s != due_s or not host.running:
            return  # out of date
        host.timer_s = NEVER
        if not host.paused:
            self.due(host)

    def due(self, host: Host) -> None:
        """Handle due timeouts of the process."""
        local_s, wanted_s = host.local(self._time.now), host.peer.next_timeout()
        if wanted_s - local_s < 1e-6:
            host.peer.membership.report_progress(*host.mailbox.progress, local_s)
            host.peer.handle_timeout(max(local_s, wanted_s))  # the sum of two clocks is rounded
            self.drain(host)
        else:
            self.arm(host)

    # --- turns -----------------------------------------------------------------------------------------------------

    def collect(self, host: Host, detail: object = None) -> None:
        """Pass what the learner has left to the peer."""
        if not host.running or host.paused:
            return
        host.woken = False
        now, hooks = self._time.now, self._time.hooks
        collected = feed(host.peer, host.mailbox, host.local(now))
        for settlement in collected.settlements:
            for hook in hooks.on_settle:
                hook(now, host, settlement)
        for slot, parcel in collected.parcels:
            for hook in hooks.on_post:
                hook(now, host, slot, parcel)
        self.drain(host)

    def drain(self, host: Host) -> None:
        """Do everything that the peer has queued."""
        now, hooks = self._time.now, self._time.hooks
        done = drain(host.peer, host.mailbox, host.local(now), host.send)
        for received in done.received:
            for hook in hooks.on_received:
                hook(now, host, received)
        if done.again:
            self._time.push(now, self.collect, host, None)
        superseded = False
        for event in done.events:
            superseded = superseded or event.kind is EventKind.SUPERSEDED
            for hook in hooks.on_event:
                hook(now, host, event)
        if superseded:
            self._hosts.end(host.name, "superseded")
        elif host.running:
            self.arm(host)

    # --- messages --------------------------------------------------------------------------------------------------

    def land(self, address: Address, envelope: Envelope) -> None:
        """Deliver this message to the process at this address, if there is one."""
        host = self._hosts.at.get(address)
        if host is None:
            return
        if host.paused:
            if len(host.backlog) < BACKLOG_MAX:
                host.backlog.append(envelope)
            return
        self.receive(host, envelope)

    def receive(self, host: Host, envelope: Envelope) -> None:
        """Let the process read this message."""
        host.messages_received += 1
        host.bytes_received += nbytes_of(envelope.message)
        for hook in self._time.hooks.on_deliver:
            hook(self._time.now, host, envelope)
        host.peer.receive(envelope, host.local(self._time.now))
        self.drain(host)

    def _land_garbled(self, address: Address, envelope: Envelope) -> None:
        """Deliver a message with a flipped byte: the codec detects it, or the result is still a message."""
        host = self._hosts.at.get(address)
        if host is None or host.paused:
            return
        code, problem = garble(envelope, self._chance, self._limits)
        host.peer.unreadable.malformed(envelope.sender, code, problem, host.local(self._time.now))
        self.drain(host)

    def send(self, host: Host, transmit: Transmit) -> None:
        """Send a message of this process's peer to another process."""
        time, now = self._time, self._time.now
        for hook in time.hooks.on_transmit:
            hook(now, host, transmit)
        envelope, address = transmit.envelope, transmit.address
        message = envelope.message
        if self._over_the_wire:
            envelope, nbytes = cross(envelope, self._limits)
        else:
            nbytes = nbytes_of(message)
        to = envelope.to or self._hosts.name_at(address)
        is_data = isinstance(message, State | ReliableMessage | Piece)
        journey = self._network.carry(host.name, to, nbytes, is_data, now)
        if not journey.taken:
            host.peer.not_sent(transmit, host.local(now))
            return
        host.messages_sent += 1
        host.bytes_sent += nbytes
        self.kinds_sent[word_of(message)] += 1
        target = self._hosts.at.get(address)
        later_s = HANDLING_S * target.slowdown if target is not None and target.slowdown > 1.0 else 0.0
        handle = self._land_garbled if journey.corrupt else self.land
        for at_s in journey.arrivals_s:
            time.push(at_s + later_s, handle, address, envelope)
