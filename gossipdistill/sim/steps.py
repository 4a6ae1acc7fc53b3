"""The steps of the learners of all simulated processes, and the end of a process that has a learner."""

from __future__ import annotations

from collections.abc import Callable

from gossipdistill.sim.event_loop import EventLoop
from gossipdistill.sim.host import Host, Leaver
from gossipdistill.sim.hosts import Hosts
from gossipdistill.sim.network_threads import NetworkThreads


class Steps:
    """Steps each learner when its pause is over. `stopwatch` is a real clock."""

    def __init__(
        self, time: EventLoop, hosts: Hosts, threads: NetworkThreads, stopwatch: Callable[[], float] | None
    ) -> None:
        self._time, self._hosts, self._threads, self._stopwatch = time, hosts, threads, stopwatch

    def begin(self, host: Host, at_s: float) -> None:
        """Schedule the first step of its learner at `at_s`."""
        self._time.push(at_s, self._step, host, None)

    def catch_up(self, host: Host) -> None:
        """Continue after a pause: a step that was due in it is made now."""
        if host.running and host.overdue_step:
            host.overdue_step = False
            self._step(host, None)

    def leave(self, host: Host, reason: str) -> None:
        """End the process with a last message: at the end of the step in progress, and after a learner with something
        to hand over has done so. A paused process sends nothing."""
        if not host.paused:
            if isinstance(host.stepper, Leaver) and not host.leaving:
                host.leaving = reason
                host.stepper.part(host.local(self._time.now))
                return
            host.peer.membership.leave(reason)
            self._threads.drain(host)
        self._hosts.end(host.name, "left")

    def _step(self, host: Host, detail: object) -> None:
        if not host.running or host.stepper is None:
            return
        if host.paused:
            host.overdue_step = True
            return
        time, stopwatch = self._time, self._stopwatch
        before_s = stopwatch() if stopwatch is not None else 0.0
        pause_s = host.stepper.step(host.local(time.now))
        if stopwatch is not None:
            time.learner_s += stopwatch() - before_s
        host.steps += 1
        if pause_s is not None:
            pause_s *= host.slowdown
            time.push(time.now + pause_s, self._step, host, None)
        for hook in time.hooks.on_step:
            hook(time.now, host, pause_s)
        if host.woken:
            self._threads.collect(host)
        if host.leaving and pause_s is None and host.running:
            self.leave(host, host.leaving)
