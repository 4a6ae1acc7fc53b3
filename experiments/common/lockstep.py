"""The product's own workers in step, in one process and without a network: what each publishes has arrived before the
next step. Workers, strategies, teachers and defaults are the product's, from a run as `simulate` plans it; only the
network between the mailboxes is missing, which costs more than small models do."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gossipdistill.assembly.building import build_schedule
from gossipdistill.assembly.worker import Given, build_worker
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.ids import Boot, PeerName, Version
from gossipdistill.mailbox import Mailbox
from gossipdistill.messages import Arrival, Neighbourhood, Parcel, Slot
from gossipdistill.training.worker import Worker

STEP_S = 0.02
"""Time between two steps, for whatever counts in seconds."""


def workers_of(specs: Sequence[WorkerSpec]) -> list[Worker]:
    """One worker per specification, all of them known to be alive."""
    schedule = build_schedule(specs[0], specs[0].config.make_strategy())
    return [build_worker(spec, all_alive(spec.name, spec.names), Given(schedule=schedule)) for spec in specs]


def all_alive(name: str, names: Sequence[str]) -> Mailbox:
    """A mailbox of `name` in which all others are alive."""
    mailbox, others = Mailbox(), frozenset(PeerName(other) for other in names if other != name)
    mailbox.tell(Neighbourhood(expected=len(names), alive=others), ())
    return mailbox


def train(workers: Sequence[Worker], steps: int, until: int | None = None, step_s: float = STEP_S) -> None:
    """All steps from where the workers are to `until` (unset: the last), everything delivered before the next one, and
    `step_s` between them."""
    for step in range(workers[0].learner.step, steps if until is None else until):
        for worker in workers:
            worker.step(step_s * step, step / steps)
        deliver(workers, step_s * step)


def deliver(
    workers: Sequence[Worker],
    now: float,
    sent: Callable[[str, Slot, Parcel], Parcel] = lambda by, to, parcel: parcel,
) -> None:
    """What lies in the mailboxes goes to its recipients; versions rise with the sender's step.

    Args:
        sent: what becomes of a parcel, from its sender's name and its slot.
    """
    by_name = {worker.learner.name: worker for worker in workers}
    for worker in workers:
        for number, (slot, parcel) in enumerate(worker.gossip.endpoint.mailbox.collect().parcels):
            version = Version(Boot(1), worker.learner.step * 1_000_000 + number)
            parcel = sent(worker.learner.name, slot, parcel)
            arrival = Arrival(PeerName(worker.learner.name), version, parcel.content, now)
            by_name[slot.peer].gossip.endpoint.mailbox.deliver(arrival)
