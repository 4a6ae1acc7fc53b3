"""The yardstick of `overhead.py`, a child process: the same training, with the teachers' tables as local arrays.

The same model, data, draws, `Worker.step` and losses as a real worker, and the forward pass (with softmax) for its own
predictions whenever an exchange is due. The teachers' tables lie ready as tensors and are exchanged for other ones as
often as a neighbour's would arrive. There is no network thread, no socket, no packing, unpacking or checking of
payloads, no event, no record of ages except what the loss itself writes: all of that is overhead of the gossip.
"""

from __future__ import annotations

import json
import math
import os
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from gossipdistill.assembly.worker import Given, build_worker
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.learning.cadence import Cadence
from gossipdistill.learning.distillation import soft_targets
from gossipdistill.learning.learner import Learner
from gossipdistill.mailbox import Mailbox
from gossipdistill.messages import Arrival, Parcel
from gossipdistill.strategies.base import LossTerm, Strategy, View
from gossipdistill.strategies.codistill_predictions import CodistillPredictions, State, Teacher
from gossipdistill.training.worker import Worker

_REPORT_EVERY_S = 1.0
_TABLES_PER_TEACHER = 2


@dataclass
class LocalTeacher:
    """One neighbour that is not there: its tables [N, C], and when the next one is to be used."""

    name: str
    tables: list[Tensor]
    cadence: Cadence
    offset_steps: int


@final
class LocalTables(Strategy):
    """`codistill_predictions` whose teachers are local arrays."""

    name = "local_tables"

    def __init__(self, inner: CodistillPredictions, teachers: int) -> None:
        super().__init__(inner.options, inner.exchange)
        self.inner, self._count = inner, teachers
        self._teachers: list[LocalTeacher] = []

    def init(self, learner: Learner) -> State:
        assert learner.transfer is not None
        shape = (len(learner.transfer), learner.classes or 1)
        generator = torch.Generator().manual_seed(1)
        every = self.exchange.every_steps
        for index in range(self._count):
            tables = [torch.randn(shape, generator=generator).softmax(dim=1) for _ in range(_TABLES_PER_TEACHER)]
            cadence = Cadence(every, self.exchange.per_second_max)
            # Neighbours are not in step: their news come at different steps of mine.
            self._teachers.append(LocalTeacher(f"local-{index}", tables, cadence, (index + 1) * every // self._count))
        return self.inner.init(learner)

    def mix(self, state: State, learner: Learner, arrivals: list[Arrival], view: View) -> list[Parcel]:
        for teacher in self._teachers:
            if teacher.cadence.due(learner.step + teacher.offset_steps, learner.now_s):
                table = teacher.tables[teacher.cadence.exchanges % _TABLES_PER_TEACHER]
                rows = torch.arange(len(table))
                state.cache.put(teacher.name, rows, table, learner.now_s, learner.step)
                state.teachers[teacher.name] = Teacher(learner.now_s, learner.step, math.nan)
        return []

    def loss(self, state: State, learner: Learner) -> LossTerm:
        return self.inner.loss(state, learner)

    def adjust(self, state: State, learner: Learner) -> None:
        return None

    def publish(self, state: State, learner: Learner, view: View) -> list[Parcel]:
        assert learner.transfer is not None
        soft_targets(learner.predict(learner.model, learner.transfer), self.inner.options.temperature)
        return []


def build(spec: WorkerSpec) -> Worker:
    """The worker of this specification without its network."""
    inner = spec.config.make_strategy()
    if not isinstance(inner, CodistillPredictions):
        raise SystemExit(f"the yardstick is for codistill_predictions, not for {inner.name}")
    return build_worker(spec, Mailbox(), Given(strategy=LocalTables(inner, teachers=spec.count - 1)))


def train(worker: Worker, step_time_s: float, ended: threading.Event) -> None:
    """Step until the launcher is gone; say once a second how far it is."""
    began_s, cpu_began_s, reported_s = time.monotonic(), time.process_time(), 0.0
    while not ended.is_set():
        started_s = time.monotonic()
        worker.step(started_s)
        now = time.monotonic()
        if now - reported_s >= _REPORT_EVERY_S:
            reported_s = now
            links = {sender: link.exchanges for sender, link in worker.learner.ledger.links.items()}
            cpu_s = time.process_time() - cpu_began_s
            step = worker.learner.step
            _say({"type": "progress", "step": step, "elapsed_s": now - began_s, "cpu_s": cpu_s, "links": links})
        pause_s = step_time_s - (time.monotonic() - started_s)
        if pause_s > 0:
            time.sleep(pause_s)


def main(spec_file: str) -> None:
    """Build, say `ready`, wait for `go`, train until standard input ends."""
    spec = WorkerSpec.from_json(Path(spec_file).read_text())
    torch.set_num_threads(spec.threads or 1)
    worker = build(replace(spec, resume=False))
    _say({"type": "ready"})
    os.read(0, 4096)
    ended = threading.Event()
    threading.Thread(target=_until_launcher_is_gone, args=(ended,), daemon=True).start()
    train(worker, spec.config.train.step_time_s, ended)


def _until_launcher_is_gone(ended: threading.Event) -> None:
    # The bare descriptor: a thread that holds the lock of sys.stdin would stop the interpreter from ending.
    while os.read(0, 4096):
        pass
    ended.set()


def _say(record: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
