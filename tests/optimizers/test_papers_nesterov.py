"""Claims about Nesterov's method on finite sums. Each test names its paper and section."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from experiments.common.quadratic import PLAIN
from gossipdistill.assembly.worker import Given, build_worker
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.events import EventKind
from gossipdistill.learning.learner import Draws
from gossipdistill.learning.nesterov import finite_sum_risk
from gossipdistill.mailbox import Mailbox
from gossipdistill.tasks import Task
from gossipdistill.training.worker import Worker

ROWS, DIMENSIONS, SPREAD = 20, 10, 100.0


def examples() -> tuple[torch.Tensor, float, float]:
    """Rows [ROWS, DIMENSIONS] of an ill-conditioned least-squares problem whose solution is 0 for every row, so that
    all noise is multiplicative; the largest curvature, and the condition number of their mean."""
    rows = np.random.default_rng(0).standard_normal((ROWS, DIMENSIONS))
    rows *= np.sqrt(np.geomspace(1 / SPREAD, 1.0, DIMENSIONS))
    curvatures = np.linalg.eigvalsh(rows.T @ rows / ROWS)
    return torch.from_numpy(rows).float(), float(curvatures[-1]), float(curvatures[-1] / curvatures[0])


def trained(batch_size: int, nesterov: bool, cosine: bool = False, steps: int = 800) -> tuple[Worker, float]:
    """A worker after so many steps of 1 / L, and its distance from the optimum, which was 1 at the start; infinite when
    it has diverged. With `nesterov` the momentum is the usual (sqrt(kappa) - 1) / (sqrt(kappa) + 1), else none."""
    x, largest, condition = examples()
    y = torch.zeros(ROWS, 1)
    task = Task(
        model=lambda: nn.Linear(DIMENSIONS, 1, bias=False),
        train=(x, y),
        validation=(x, y),
        loss=lambda out, target: 0.5 * (out - target).square().mean(),
    )
    model = task.model()
    with torch.no_grad():
        model.weight.fill_(DIMENSIONS**-0.5)  # type: ignore[operator,union-attr]
    momentum = (math.sqrt(condition) - 1) / (math.sqrt(condition) + 1) if nesterov else 0.0
    optimizer = torch.optim.SGD(model.parameters(), lr=1 / largest, momentum=momentum, nesterov=nesterov)
    keys = (
        PLAIN
        | {"strategy.name": "isolated", "train.batch_size": batch_size}
        | ({"train.lr_schedule": "cosine"} if cosine else {})
    )
    given = Given(task=task, model=model, optimizer=optimizer, draws=Draws(ROWS, batch_size, 0))
    worker = build_worker(WorkerSpec.in_process("ada", ("ada",), keys), Mailbox(), given)
    for step in range(steps):
        worker.step(0.1 * step, step / steps)
        distance = float(torch.linalg.vector_norm(model.weight.detach()))  # type: ignore[arg-type]
        if not distance < 1e6:
            return worker, math.inf
    return worker, distance


def warned(worker: Worker) -> bool:
    """Whether it was said, as an event and in the summary, once each."""
    told = [event for event in worker.learner.ledger.take_news(0.0) if event.kind is EventKind.WARNING]
    assert [event.reason for event in told] == worker.learner.ledger.warnings
    assert len(told) <= 1
    return bool(told)


@pytest.mark.parametrize("batch_size", [2, 4])
def test_the_usual_step_and_momentum_diverge_on_small_batches_and_that_is_said_at_the_first_step(
    batch_size: int,
) -> None:
    """Assran and Rabbat 2020 (2002.12414), abstract: in the finite-sum setting it may diverge. Plain descent with the
    same step and the same batches does not, and with all examples the same step and momentum are fast."""
    worker, distance = trained(batch_size, nesterov=True)
    assert distance == math.inf
    assert warned(worker)
    early, _ = trained(batch_size, nesterov=True, steps=1)
    assert warned(early)


def test_the_safe_cases_converge_and_nothing_is_said() -> None:
    whole, distance = trained(ROWS, nesterov=True)
    assert distance < 1e-6
    assert not warned(whole), "the gradient of everything is that of the deterministic setting"
    for batch_size in (2, 4):
        plain, slow = trained(batch_size, nesterov=False)
        assert distance < slow < 0.1
        assert not warned(plain)


def test_the_conditions_are_momentum_of_nesterov_a_constant_rate_and_a_part_of_the_examples() -> None:
    weight = [nn.Parameter(torch.zeros(2))]
    nesterov = torch.optim.SGD(weight, lr=0.1, momentum=0.9, nesterov=True)
    said = finite_sum_risk(nesterov, 32, 500, constant=True)
    assert said is not None
    assert "0.9" in said
    assert "32 of 500" in said
    assert finite_sum_risk(nesterov, 32, 500, constant=False) is None
    assert finite_sum_risk(nesterov, 500, 500, constant=True) is None
    assert finite_sum_risk(torch.optim.SGD(weight, lr=0.1, momentum=0.9), 32, 500, constant=True) is None
    assert finite_sum_risk(torch.optim.Adam(weight), 32, 500, constant=True) is None
    assert not warned(trained(2, nesterov=True, cosine=True, steps=1)[0])
