"""Bounds: the content of a mailbox and of a link, and the time of a learner between two steps."""

from __future__ import annotations

from collections import Counter

from gossipdistill.messages import DeliveryClass, Returned, Slot
from gossipdistill.sim.checkers.base import Checker, Conditions
from gossipdistill.sim.host import Host, Newcomer
from gossipdistill.sim.world import World


class MailboxBounded(Checker):
    """Nothing accumulates, however long a learner does not take it.

    Inbox: one state per slot of a sender. Of mass and streams at most as many unsettled ones per link and topic as
    `Limits` allow, for each process of the sender (a process that restarts has a link of its own); and as many that
    were returned. Outgoing, per link and topic: as many unsettled ones as `Limits` allow; and a link is busy only while
    something of it is unsettled.
    """

    duty = "mailboxes bounded"

    def on_tick(self, now_s: float, world: World) -> None:
        limits = self.conditions.limits
        room = {DeliveryClass.MASS: limits.in_flight_mass_max, DeliveryClass.STREAM: limits.in_flight_stream_max}
        for host in world.hosts.values():
            waiting: Counter[tuple[Slot, int, DeliveryClass, bool]] = Counter()
            for one in host.mailbox.waiting():
                slot = Slot(one.peer, one.topic, one.key)
                boot = 0 if one.delivery is DeliveryClass.STATE else one.version.boot
                waiting[slot, boot, one.delivery, isinstance(one, Returned)] += 1
            for (slot, _, delivery, returned), count in waiting.items():
                if count > room.get(delivery, 1) + returned:
                    self.violate(now_s, f"{count} {delivery} arrivals of {slot} wait in the mailbox of {host.name}")
            in_flight = Counter(
                (slot, one.parcel.delivery) for slot, one in host.peer.reliable_messages.sender.in_flight()
            )
            for (slot, delivery), count in in_flight.items():
                if count > room[delivery]:
                    self.violate(now_s, f"{host.name} has {count} unsettled parcels of {delivery} on {slot}")
            for slot, count in host.mailbox.room.in_flight().items():
                on_their_way = sum(in_flight[slot, delivery] for delivery in room)
                if count != on_their_way:
                    self.violate(now_s, f"{host.name} counts {count} unsettled on {slot}, and {on_their_way} are")


class NobodyWaits(Checker):
    """Every learner keeps stepping, whatever happens to the others.

    Measured by the steps that learners report: a learner that does not finish a step within `wait_max_s` plus the time
    that its own machine needs for it (which it stated at its last step) waits for another peer. A process is excused
    while it is paused, has just started, asks others for a model, or is done training. `wait_max_s` is 0 for all but
    lockstep strategies, which declare theirs.
    """

    duty = "nobody waits"

    def __init__(self, conditions: Conditions, wait_max_s: float = 0.0, step_max_s: float = 0.0) -> None:
        super().__init__(conditions)
        self.wait_max_s, self.step_max_s = wait_max_s, step_max_s
        self._progress: dict[tuple[str, int], tuple[int, float]] = {}
        """The number of finished steps of each process, and the time by which it must finish the next one."""

    def on_step(self, now_s: float, host: Host, pause_s: float | None) -> None:
        step, done = host.mailbox.progress
        catches_up = isinstance(host.stepper, Newcomer) and host.stepper.catches_up
        if pause_s is None or done or catches_up:
            self._progress.pop((host.name, host.boot), None)
            return
        if self.step_max_s and pause_s > self.step_max_s * host.slowdown + self.wait_max_s:
            self.violate(now_s, f"the next step of {host.name} takes {pause_s:.2f} s, and its machine is not so slow")
        before = self._progress.get((host.name, host.boot))
        if before is None or step > before[0]:
            self._progress[host.name, host.boot] = (step, now_s + pause_s + self.wait_max_s)

    def on_tick(self, now_s: float, world: World) -> None:
        for host in world.hosts.values():
            known = self._progress.get((host.name, host.boot))
            if known is None:
                continue
            if host.paused:
                until_s = max(known[1], now_s + self.wait_max_s + 1.0)  # a long step outlasts the pause
                self._progress[host.name, host.boot] = (known[0], until_s)
            elif now_s > known[1] + 1e-6:
                self.violate(now_s, f"{host.name} has finished no step since number {known[0]}: it waits")

    def on_end(self, now_s: float, host: Host, how: str) -> None:
        self._progress.pop((host.name, host.boot), None)
