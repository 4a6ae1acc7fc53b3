"""The beliefs of peers about one another, compared with the truth."""

from __future__ import annotations

from collections.abc import Iterator

from gossipdistill.events import Event, EventKind
from gossipdistill.ids import PeerName
from gossipdistill.messages import Envelope
from gossipdistill.presence import Greeting, Leave, Refusal
from gossipdistill.protocol.members import Status
from gossipdistill.sim.checkers.base import Checker, Conditions, views_bound_s
from gossipdistill.sim.host import Host
from gossipdistill.sim.world import World

_BACK = (EventKind.JOINED, EventKind.RETURNED)


class NobodyHeldDead(Checker):
    """In the calm, no living peer is held dead for longer than `views_bound_s`. With faults or without, no peer
    declares another dead that it has heard within the last `probe_timeout_s`, whatever others say; nor does a peer
    still hold another dead that it has just heard: the first message is enough, without a refutation."""

    duty = "no live peer is held dead longer than the stated bound"

    def __init__(self, conditions: Conditions) -> None:
        super().__init__(conditions)
        self.bound_s = views_bound_s(conditions.limits, conditions.peers)
        self.declared = 0
        """The number of times that a living peer was declared dead, with faults or without."""
        self._held: dict[PeerName, dict[PeerName, float]] = {}
        """For each peer held dead, the peers that hold it dead, and since when."""
        self._living: dict[PeerName, int] = {}
        self._heard: dict[tuple[PeerName, PeerName], tuple[int, float]] = {}
        """For (viewer, peer), the boot that was last heard, and when."""
        self._newest: dict[tuple[PeerName, int, PeerName], int] = {}
        """The newest process of the peer that each viewer has heard from."""
        self._accepted: dict[tuple[PeerName, int, PeerName], int] = {}
        """The process of the peer that was last taken to be alive."""
        self._ended: set[tuple[PeerName, int, PeerName, int]] = set()
        """The viewers that got the last message of a process: later messages of it were overtaken."""
        self._spoke: tuple[Host, PeerName] | None = None
        """The process that held a peer dead before the message that was delivered last, and that peer."""

    def on_deliver(self, now_s: float, host: Host, envelope: Envelope) -> None:
        self._look(now_s)
        sender, boot = envelope.sender, envelope.boot
        viewer = (host.name, host.boot, sender)
        newest = self._newest[viewer] = max(boot, self._newest.get(viewer, 0))
        if envelope.to_boot not in (0, host.boot) or boot < newest:
            return  # not addressed to this process, or sent by one that has a successor
        self._heard[host.name, sender] = (boot, now_s)
        if isinstance(envelope.message, Greeting | Refusal):
            return
        if isinstance(envelope.message, Leave):
            self._ended.add((*viewer, boot))
        elif host.name in self._held.get(sender, {}) and (*viewer, boot) not in self._ended:
            self._spoke = (host, sender)

    def _look(self, now_s: float) -> None:
        """Check the message that was delivered last: it has been received by now."""
        spoke, self._spoke = self._spoke, None
        if spoke is not None:
            host, name = spoke
            if host.running and host.peer.view.status_of(name) is Status.DEAD:
                self.violate(now_s, f"{host.name} holds {name} dead, and has just had a word of it")

    def on_event(self, now_s: float, host: Host, event: Event) -> None:
        name = PeerName(event.peer)
        if {host.name, name} & self.conditions.bent:
            return
        if event.kind is EventKind.DEAD:
            if self._spoke == (host, name):
                self._spoke = None  # it was back, and is dead again
            self._held.setdefault(name, {})[host.name] = now_s
            boot, heard_s = self._heard.get((host.name, name), (0, 0.0))
            living = self._living.get(name)
            # Without keys a new process has to wait until its predecessor is held dead, whatever it says.
            accepted = self._accepted.get((host.name, host.boot, name), boot)
            if living == boot == accepted and now_s - heard_s < self.conditions.limits.probe_timeout_s:
                self.violate(now_s, f"{host.name} declares {name} dead, which spoke {now_s - heard_s:.3f} s ago")
        elif event.kind in _BACK:
            viewer = (host.name, host.boot, name)
            self._accepted[viewer] = self._newest.get(viewer, 0)
            self._held.get(name, {}).pop(host.name, None)

    def on_start(self, now_s: float, host: Host) -> None:
        self._living[host.name] = host.boot
        for by in self._held.get(host.name, {}):
            self._held[host.name][by] = now_s

    def on_end(self, now_s: float, host: Host, how: str) -> None:
        self._living.pop(host.name, None)
        self._newest = {viewer: boot for viewer, boot in self._newest.items() if viewer[0] != host.name}
        self._accepted = {viewer: boot for viewer, boot in self._accepted.items() if viewer[0] != host.name}
        self._ended = {which for which in self._ended if which[0] != host.name}
        for holders in self._held.values():
            holders.pop(host.name, None)

    def on_tick(self, now_s: float, world: World) -> None:
        self._look(now_s)
        if now_s < self.conditions.calm_from_s:
            return
        for name, holders in self._held.items():
            held = world.hosts.get(name)
            if held is None:
                continue
            for by, since_s in holders.items():
                host = world.hosts[by]
                from_s = max(since_s, self.conditions.calm_from_s, held.started_s)
                status = host.peer.view.status_of(name)
                if status is Status.DEAD and now_s - from_s > self.bound_s:
                    self.violate(now_s, f"{by} holds {name} dead, which has lived for {now_s - from_s:.1f} s of calm")


class ViewsConverge(Checker):
    """At the end of the calm every learner is told that the living peers are present, and no others."""

    duty = "views converge"

    def at_end(self, now_s: float, world: World) -> None:
        if now_s >= self.conditions.settled_from_s:
            for viewer, name, what in wrong_views(world):
                if not {viewer, name} & self.conditions.bent:
                    self.violate(now_s, f"{viewer} holds {name} {what}")


def wrong_views(world: World) -> Iterator[tuple[PeerName, PeerName, str]]:
    """(viewer, peer, belief) of every wrong view."""
    living = world.hosts.keys()
    for host in world.hosts.values():
        believed = host.mailbox.neighbourhood().alive
        for name in world.names:
            if name == host.name:
                continue
            status = host.peer.view.status_of(name)
            undecided = name not in living and status is Status.SUSPECT
            if undecided or (name in believed) != (name in living):
                truth = "it lives" if name in living else "there is no such process"
                yield host.name, name, f"{status.value if status is not None else 'unknown'}, and {truth}"
