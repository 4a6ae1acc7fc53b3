"""Every fault is followed by recovery: once there are no faults, messages arrive again, and nothing is stuck."""

from __future__ import annotations

from gossipdistill.ids import PeerName
from gossipdistill.messages import DeliveryClass, Parcel, Received, Slot
from gossipdistill.sim.checkers.base import Checker, Conditions, parcels_bound_s, views_bound_s
from gossipdistill.sim.host import NEVER, Host
from gossipdistill.sim.world import World


class FaultsRecover(Checker):
    """What is posted in the calm arrives within the stated bounds.

    States: the newest that was posted on a link before the last `parcels_bound_s` has reached the learner there, or a
    newer one has. Mass and streams: what was posted before that, with faults or without, is settled. Only links between
    living peers count. What a living peer posts in the calm, it posts to every living peer in the end: the checker of
    views ensures that.
    """

    duty = "every fault is followed by recovery"

    def __init__(self, conditions: Conditions) -> None:
        super().__init__(conditions)
        self.views_s = conditions.calm_from_s + views_bound_s(conditions.limits, conditions.peers)
        self.within_s = parcels_bound_s(conditions.limits)
        self._posted: dict[tuple[str, int, Slot], list[tuple[float, int]]] = {}
        """The time at which each state was posted in the calm, and its exchange number, by sender, its boot and
        slot."""
        self._arrived: dict[tuple[str, int, str, int, str], int] = {}
        """The newest exchange that has arrived, by sender, recipient, each with its boot, and topic."""
        self._consigned: dict[int, tuple[float, Host, Slot, Parcel]] = {}
        self.exchanges_expected = True
        """This says whether silence in the calm is a violation; not so where the learners have nothing to send."""
        self.exchanges = 0
        """The number of arrivals since views are right."""
        self._first_posted_s = NEVER
        """The time of the first post since views are right."""

    def on_post(self, now_s: float, host: Host, slot: Slot, parcel: Parcel) -> None:
        if {host.name, slot.peer} & self.conditions.bent:
            return
        if now_s >= self.views_s:
            self._first_posted_s = min(self._first_posted_s, now_s)
        if parcel.delivery is not DeliveryClass.STATE:
            self._consigned[id(parcel)] = (now_s, host, slot, parcel)
        elif now_s >= self.conditions.calm_from_s:
            self._posted.setdefault((host.name, host.boot, slot), []).append((now_s, parcel.exchange))

    def posted_in_time(self, now_s: float) -> bool:
        """Whether anything was posted since views are right, early enough to have arrived by now."""
        return self._first_posted_s <= now_s - self.within_s

    def on_tick(self, now_s: float, world: World) -> None:
        if len(self._consigned) > 100 * len(world.hosts):
            in_flight = {
                id(one.parcel)
                for host in world.hosts.values()
                for _, one in host.peer.reliable_messages.sender.in_flight()
            }
            self._consigned = {key: value for key, value in self._consigned.items() if key in in_flight}

    def on_received(self, now_s: float, host: Host, received: Received) -> None:
        if now_s < self.conditions.calm_from_s:
            return
        self.exchanges += now_s >= self.views_s
        if received.delivery is DeliveryClass.STATE:
            which = (received.peer, received.version.boot, host.name, host.boot, received.topic)
            self._arrived[which] = received.exchange

    def at_end(self, now_s: float, world: World) -> None:
        if now_s < self.conditions.settled_from_s:
            return
        for (name, boot, slot), posts in self._posted.items():
            sender, to = world.hosts.get(PeerName(name)), world.hosts.get(slot.peer)
            due = [exchange for at_s, exchange in posts if self.views_s <= at_s <= now_s - self.within_s]
            if sender is None or sender.boot != boot or to is None or not due:
                continue
            have = self._arrived.get((name, boot, to.name, to.boot, slot.topic), 0)
            if have < due[-1]:
                what = f"{slot.topic} {due[-1]} of {sender.name}, posted in the calm, has not reached {to.name}"
                self.violate(now_s, f"{what} (which has {have})")
        in_flight = {
            id(one.parcel) for host in world.hosts.values() for _, one in host.peer.reliable_messages.sender.in_flight()
        }
        for at_s, host, slot, parcel in self._consigned.values():
            late = at_s <= now_s - self.within_s and id(parcel) in in_flight
            if late and host.running and slot.peer in world.hosts:
                what = f"a parcel of {slot.topic} from {host.name} to {slot.peer}"
                self.violate(now_s, f"{what}, posted at {at_s:.1f} s, is still not settled")
        judged = [host for host in world.hosts.values() if host.name not in self.conditions.bent]
        learning = len(judged) > 1 and any(host.stepper for host in judged)
        if self.exchanges_expected and learning and not self.exchanges:
            self.violate(now_s, "nothing at all has arrived anywhere since the weather was calm")
