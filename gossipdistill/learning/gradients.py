"""How the gradient of one optimiser step is made: from how many batches, in which precision, of what size at most; and
how an optimiser has it made again, if it wants to (a *closure*, as L-BFGS needs one)."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from gossipdistill.learning.clipping import Bound, clip, scale_of
from gossipdistill.learning.learner import Learner
from gossipdistill.learning.ledger import Ledger
from gossipdistill.user_code import users_code


@dataclass(frozen=True, slots=True)
class GradientRules:
    """`accumulate` batches make one step, and their mean is its gradient. `clip_norm` bounds the Euclidean norm of the
    whole gradient (learning/clipping.py); optimizers that evaluate it again treat its size in their own ways, and are
    bounded by a fixed number only. `autocast` is the type of forward passes and losses; None is the model's own."""

    accumulate: int = 1
    clip_norm: Bound = None
    autocast: torch.dtype | None = None

    def precision(self, device: torch.device) -> AbstractContextManager[object]:
        """The context of a forward pass and its loss. Weights, gradients and the optimiser stay as they are."""
        if self.autocast is None:
            return contextlib.nullcontext()
        return torch.autocast(device.type, dtype=self.autocast)

    def batches(self, rows: Tensor) -> tuple[Tensor, ...]:
        """The rows [accumulate * batch] of one step as batches of equal size."""
        return rows.chunk(self.accumulate) if self.accumulate > 1 else (rows,)


ONE_BATCH = GradientRules()


class Term(Protocol):
    """The term that is added to `task_share` times the task's loss of a batch; its backward pass is separate if it is
    `apart`."""

    @property
    def value(self) -> Tensor | None: ...
    @property
    def apart(self) -> bool: ...
    @property
    def task_share(self) -> float: ...


class Evaluation(NamedTuple):
    """The loss of one step: the task's own part, mean over its batches; and the whole, a scalar tensor, only for
    optimizers with a closure."""

    task_loss: float
    whole: Tensor | None


def make_gradient(learner: Learner, rules: GradientRules, rows: Tensor, term: Callable[[], Term]) -> Evaluation:
    """Gradients of the mean over the batches of this step, in place of those from before.

    Args:
        rows: row numbers [accumulate * batch] of the learner's examples.
        term: gives the strategy's term for the batch in progress.
    """
    assert learner.examples is not None
    assert learner.criterion is not None
    x, y = learner.examples
    batches = rules.batches(rows)
    total, share, apart = 0.0, 1.0, False
    whole = torch.zeros((), device=learner.device) if wants_closure(learner.optimizer) else None
    with users_code("train.optimizer"):
        learner.optimizer.zero_grad(set_to_none=True)
    for number, batch in enumerate(batches, start=1):
        with users_code("Task.train"):
            learner.x, learner.y = x[batch], y[batch]
        learner.part = slice((number - 1) * len(batch), number * len(batch))
        with learner.gradients_kept(number < len(batches)):
            with rules.precision(learner.device):
                learner.outputs = learner.forward(learner.x)
                loss = learner.criterion(learner.outputs, learner.y)
                with users_code("Task.loss"):
                    learner.task_loss = loss.item()
                total += learner.task_loss
                # A separate term does not depend on this batch: once a step is enough.
                added = None if apart else term()
            value = added.value if added is not None else None
            share = added.task_share if added is not None else share
            if share != 1.0:
                loss = share * loss
            if added is not None and value is not None and added.apart:
                whole = whole + value.detach() if whole is not None else None
                _backward(value)
                apart = True
            elif value is not None:
                loss = loss + value
            whole = whole + loss.detach() / len(batches) if whole is not None else None
            _backward(loss / len(batches))
    _shorten(learner, rules)
    return Evaluation(total / len(batches), whole)


def _shorten(learner: Learner, rules: GradientRules) -> None:
    """Bound the gradient of this step, with the losses and outputs of its last batch."""
    norms = learner.norms
    if rules.clip_norm == "auto":
        if wants_closure(learner.optimizer):
            return
        # Where gradients are reduced over peers, all must have one bound: norms are alike there, first batches are not.
        alone = learner.forward_module is None
        if alone and norms.scale is None and learner.classes is not None and learner.y is not None:
            norms.scale = scale_of(learner.task_loss, learner.outputs, learner.y)
    clip(learner.model, rules.clip_norm, norms)


def make_step(learner: Learner, first: Evaluation, again: Callable[[], Evaluation]) -> None:
    """The optimizer's step with the gradient of the `first` evaluation. An optimizer that wants a closure gets one: it
    returns the first evaluation as long as weights and gradients are unchanged, and evaluates `again` afterwards.

    The rows are the same in all evaluations. The first one alone counts in the ledger. The gradients are given back at
    once: they would be one more model in memory while news is mixed in, published and saved.
    """
    if wants_closure(learner.optimizer):
        _step_with_closure(learner, first, again)
    else:
        with users_code("train.optimizer"):
            learner.optimizer.step()
    for group in learner.optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None


def _step_with_closure(learner: Learner, first: Evaluation, again: Callable[[], Evaluation]) -> None:
    optimizer = learner.optimizer
    marks: list[Any] | None = _marks(optimizer)

    def closure() -> Any:  # a tensor, as torch's own optimisers take it, and not a float, as they are typed
        nonlocal marks
        evaluation = first
        if marks is None or marks != _marks(optimizer):
            marks = None
            ledger, learner.ledger = learner.ledger, Ledger()
            learner.evaluation += 1
            try:
                with torch.enable_grad():
                    evaluation = again()
            finally:
                learner.ledger = ledger
        assert evaluation.whole is not None
        return evaluation.whole

    try:
        with users_code("train.optimizer"):
            optimizer.step(closure)
    finally:
        learner.evaluation = 0


def wants_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the step of this optimiser takes a function that evaluates the loss again.

    Of torch's own, only L-BFGS must have one. Others may need one although they do not insist (SAM, for instance), so
    each that takes one gets it.
    """
    return _takes_closure(type(optimizer).step)


@functools.cache
def _takes_closure(step: Callable[..., Any]) -> bool:
    step = inspect.unwrap(step)
    try:
        closure = inspect.signature(step).parameters.get("closure")
    except (TypeError, ValueError):
        return False
    if closure is None:
        return False
    ready_made = (step.__module__ or "").startswith(("torch.optim.", "gossipdistill."))
    return closure.default is closure.empty or not ready_made


def _backward(loss: Tensor) -> None:
    with users_code("Task.model"):  # a backward pass may be the user's own
        loss.backward()  # type: ignore[no-untyped-call]


def _marks(optimizer: torch.optim.Optimizer) -> list[Any]:
    """Marks that change when a weight or a gradient is written to."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return [(p._version, id(p.grad), p.grad._version if p.grad is not None else 0) for p in parameters]
