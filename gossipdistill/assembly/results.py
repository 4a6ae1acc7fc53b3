"""The figures of one peer at its end: what `result.json` holds and `summary.json` collects."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch

from gossipdistill.assembly.examining import Verdict
from gossipdistill.drivers.zeromq.sending import Traffic
from gossipdistill.learning.ledger import Distribution, bin_to_age_s
from gossipdistill.observe.records import ExamplesRecord, LinkRecord, PeerRecord, Spread
from gossipdistill.protocol.peer import Peer
from gossipdistill.strategies.base import Delivery
from gossipdistill.training.worker import Worker


class Counted(Protocol):
    """The component that moves and counts a peer's messages: the socket driver, or a simulated host."""

    @property
    def peer(self) -> Peer: ...
    @property
    def traffic(self) -> Mapping[str, Traffic]: ...


@dataclass(frozen=True, slots=True)
class Process:
    """The training of one process: the number of processes so far under its name, the steps that were made before it,
    its seconds, and when it began."""

    incarnations: int
    steps_before: int
    wall_s: float
    cpu_s: float
    began_s: float


def peer_result(
    worker: Worker,
    driver: Counted,
    status: str,
    process: Process,
    figures: dict[str, float] | None,
    verdict: Verdict,
) -> PeerRecord:
    """One peer's entry of `summary.json`, with its incoming links."""
    learner, ledger = worker.learner, worker.learner.ledger
    steps, wall_s, cpu_s = max(learner.step - process.steps_before, 0), process.wall_s, process.cpu_s
    traffic = driver.traffic
    figures = figures or {}
    metrics = {name: _number(value) for name, value in figures.items() if name != "loss"}
    return PeerRecord(
        name=learner.name,
        status=status,
        pid=os.getpid(),
        incarnations=process.incarnations,
        steps=learner.step,
        steps_per_s=round(steps / wall_s, 3) if wall_s > 0 else 0.0,
        cpu_s_per_step=round(cpu_s / steps, 6) if steps else None,
        cores=round(cpu_s / wall_s, 4) if wall_s > 0 else None,
        examples=ExamplesRecord.model_validate(worker.task.examples()),
        threads=torch.get_num_threads(),
        wall_s=round(wall_s, 3),
        val_loss=_number(figures.get("loss")),
        val_accuracy=metrics.get("accuracy"),
        metrics=metrics,
        bytes_sent=sum(t.bytes_sent for t in traffic.values()) + round(ledger.collective_bytes),
        bytes_are_computed=ledger.collective_bytes > 0,
        bytes_received=sum(t.bytes_received for t in traffic.values()),
        messages_sent=sum(t.messages_sent for t in traffic.values()),
        messages_received=sum(t.messages_received for t in traffic.values()),
        waited_s=round(worker.gossip.endpoint.lockstep.waited_s, 3)
        if worker.gossip.endpoint.lockstep is not None
        else None,
        parcels_used=ledger.exchanges,
        push_sum_weight=_number(worker.gossip.held_weight())
        if worker.gossip.strategy.delivery is Delivery.MASS
        else None,
        first_exchange_s=_first_exchange_s(worker, process.began_s),
        staleness_steps=_spread(ledger.staleness, lambda value: value),
        age_s=_spread(ledger.ages, bin_to_age_s),
        quarantined=dict(ledger.quarantined),
        unusual_norms=dict(ledger.unusual),
        out_of_range=dict(ledger.out_of_range),
        malformed=driver.peer.unreadable.counts,
        turned_away=driver.peer.scores.turned_away_in_words,
        reason=verdict.outcome.reason if status == verdict.outcome.ending.value else "",
        troubles=list(verdict.troubles),
        warnings=[*verdict.warnings, *ledger.warnings],
        links=[_link(worker, driver, sender, wall_s) for sender in sorted(ledger.links)],
    )


def _link(worker: Worker, driver: Counted, sender: str, wall_s: float) -> LinkRecord:
    link = worker.learner.ledger.links[sender]
    counts = {str(name): count for name, count in driver.peer.states.box.counts.items()}.get(sender)
    age_s = bin_to_age_s(link.ages.quantile(0.95))
    return LinkRecord(
        sender=sender,
        to=worker.learner.name,
        exchanges=link.exchanges,
        exchanges_per_s=round(link.exchanges / wall_s, 3) if wall_s > 0 else 0.0,
        dropped=counts.overtaken if counts else 0,
        age_s_p95=round(age_s, 4) if age_s is not None else None,
    )


def _first_exchange_s(worker: Worker, began_s: float) -> float | None:
    firsts = [link.first_exchange_s for link in worker.learner.ledger.links.values() if link.first_exchange_s]
    return round(min(firsts) - began_s, 3) if firsts else None


def _spread(distribution: Distribution, unit: Callable[[int | None], float | None]) -> Spread | None:
    if not distribution.bins:
        return None
    median, p95, most = (_number(unit(distribution.quantile(share)), 4) for share in (0.5, 0.95, 1.0))
    return Spread(median=median, p95=p95, max=most)


def _number(value: float | None, digits: int = 6) -> float | None:
    """JSON has no NaN: what is not finite is null."""
    if value is None or not math.isfinite(value):
        return None
    return round(value, digits)
