"""Adversarial examples from stale weights, so that making them need not wait for the training, nor it for them.

ConAdv: Liu, Chen, Cheng, Hsieh and You 2021 (2106.00221), algorithm 1. There a batch's adversarial examples are made
while earlier batches train; here by this peer itself, or by other peers that hold the same examples.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from typing import Any, final

import torch
from pydantic import Field
from torch import Tensor, nn

from gossipdistill.errors import NeedsError
from gossipdistill.ids import PeerName
from gossipdistill.learning.adversarial import (
    Norm,
    Statistics,
    ascent_directions,
    bounded,
    depends_on_inputs,
    own_statistics,
)
from gossipdistill.learning.checkpoint import Memory
from gossipdistill.learning.cloning import frozen_clone
from gossipdistill.learning.distillation import age_weight
from gossipdistill.learning.fitness import ROWS_TRIED
from gossipdistill.learning.learner import Learner
from gossipdistill.learning.snapshot import (
    PayloadRefusedError,
    load_arrays,
    model_arrays,
    not_finite,
    pack,
    shapes_of,
    types_of,
    unpack,
)
from gossipdistill.messages import Arrival, Content, Parcel
from gossipdistill.strategies import base
from gossipdistill.strategies.base import (
    NOTHING,
    Delivery,
    Exchange,
    Extent,
    LossTerm,
    Needs,
    Publication,
    Strategy,
    View,
)
from gossipdistill.strategies.parcels import state_parcels

ASKED_MAX = 32
"""One request has at most this number of batches; more would be made from weights that are too old."""


class Options(base.Options):
    """Keys of `[strategy]` for this strategy."""

    epsilon: float = Field(default=0.1, ge=0)
    """The radius of the perturbations, in units of the inputs."""
    norm: Norm = Norm.LINF
    """The norm of a perturbation is bounded by epsilon. linf: each entry of an input changes by epsilon at most. l2:
    each input does, by its Euclidean norm."""
    weight: float = Field(default=1.0, ge=0)
    """The weight of the adversarial loss beside that of the plain one, which is 1: the step is made of their mean."""
    staleness_steps: int = Field(default=1, ge=0, le=ASKED_MAX)
    """The number tau of a peer's own steps between the weights that a perturbation was made with and its use; with
    helpers, the least number."""
    helpers: tuple[str, ...] = ()
    """The names of the peers that make the perturbations; they need the same examples (task.shards = same). Empty: each
    peer makes its own."""


@dataclass(slots=True)
class Directions:
    """The directions d [B, ...] for one later batch: when they came (s, and my step), and which of my exchanges they
    answer."""

    d: Tensor
    arrived_s: float
    arrived_step: int
    exchange: int


@dataclass(slots=True)
class State:
    """`made` holds directions by step, then by maker ("" is this peer). `scratch` is the model that others' weights are
    put into. `kept` is the `made` of a checkpoint, until the first `mix` tells the time; its times are ages, below
    zero."""

    made: dict[int, dict[str, Directions]] = field(default_factory=dict)
    statistics: Statistics = field(default_factory=dict)
    scratch: nn.Module | None = None
    counted: dict[str, int] = field(default_factory=dict)
    now_s: float = 0.0
    kept: dict[tuple[int, str], Directions] = field(default_factory=dict)


@final
class ConcurrentAdversarial(Strategy):
    """Train on each batch and on an adversarial version of it, made earlier. At step t, with theta [P] and x [B, ...]:

        L_t  = (L(theta_t; x_t, y_t) + weight L(theta_t; x_t + epsilon d_t, y_t)) / (1 + weight)
        d_t  = sign(grad_x L(theta_s; x_t, y_t)), or grad / |grad| for each example,        s = t - staleness_steps

    The paper adds the two losses. Their sum is a step of up to (1 + weight) times the length, so that a learning rate
    that suits plain training no longer suits; their mean keeps it. The paper's own rule is this one at 1 + weight times
    the learning rate (of plain SGD; weight decay aside).

    The order of batches is known in advance, so d_t can be made as soon as theta_s is there. Without helpers this peer
    makes it: nothing is exchanged. With helpers, a request tells them theta_s and which rows the next batches hold;
    they answer one batch at a time, and the mean of their answers is used. A batch without an answer trains plainly.
    Whatever a helper says, no example moves by more than epsilon. BatchNorm keeps statistics of its own for adversarial
    examples; its weights are shared, unlike in the paper. Inputs must be floating-point numbers.

    Publishes: to helpers, all parameters and buffers, and n rows of B row numbers and B means to tell examples apart:
    4 P + 8 n B + 8 bytes in raw encoding. A helper answers with n parcels of one batch each, in int8: B D (1 + 4 / 64)
    bytes rounded up and 16 more, D entries an example. Each is a slot of its own (its key), so that none overwrites
    another. n is exchange.every_steps, at most 32.
    Conserves: nothing; each answer stands for itself, newest wins.
    When stale: a request or an answer beyond the horizon is not used; the step is that of isolated training.
    """

    name = "concurrent_adversarial"
    clip_norm = "auto"
    needs = Needs(alike_models=True, float_inputs=True)
    fuller_with = "helpers"
    topic = "adversarial"
    every_steps = 5
    options_type = Options
    options: Options

    def __init__(self, options: Options, exchange: Exchange) -> None:
        super().__init__(options, exchange)
        if not options.helpers:
            self.delivery, self.needs = Delivery.NONE, Needs(float_inputs=True)

    def init(self, learner: Learner) -> State:
        if learner.examples is None or learner.criterion is None or not learner.examples[0].is_floating_point():
            raise NeedsError(
                f"strategy {self.name} perturbs inputs that are floating-point numbers; this task has none"
            )
        x, y = learner.examples
        if not depends_on_inputs(learner.model, learner.criterion, x[:ROWS_TRIED], y[:ROWS_TRIED]):
            raise NeedsError(f"strategy {self.name} perturbs inputs, and the loss of this task does not depend on them")
        return State()

    def remember(self, state: State) -> Memory:
        memory: dict[str, Tensor] = {}
        for step, by in state.made.items():
            for maker, made in by.items():
                about = (state.now_s - made.arrived_s, made.arrived_step, made.exchange)
                memory[f"made:{step}:{maker}"] = made.d
                memory[f"about:{step}:{maker}"] = torch.tensor(about, dtype=torch.float64)
        for layer, buffers in state.statistics.items():
            memory |= {f"statistics:{layer}:{name}": buffer for name, buffer in buffers.items()}
        return memory

    def recall(self, state: State, learner: Learner, memory: Memory) -> None:
        assert learner.examples is not None
        shape = (self._batch_size(learner), *learner.examples[0].shape[1:])
        buffers = dict(learner.model.named_buffers())
        for key, value in memory.items():
            what, _, rest = key.partition(":")
            about = memory.get(f"about:{rest}")
            if not isinstance(value, Tensor):
                continue
            if what == "made" and isinstance(about, Tensor) and value.shape == shape and about.shape == (3,):
                step, _, maker = rest.partition(":")
                age_s, arrived_step, exchange = about.tolist()
                with contextlib.suppress(ValueError, OverflowError):  # no whole numbers
                    made = Directions(value.to(learner.device), -age_s, int(arrived_step), int(exchange))
                    state.kept[int(step), maker] = made
            elif what == "statistics":
                layer, _, name = rest.rpartition(":")
                buffer = buffers.get(f"{layer}.{name}" if layer else name)
                if buffer is not None and buffer.shape == value.shape:
                    state.statistics.setdefault(layer, {})[name] = value.to(buffer.device)

    def mix(self, state: State, learner: Learner, arrivals: list[Arrival], view: View) -> list[Parcel]:
        for (step, maker), made in state.kept.items():
            state.made.setdefault(step, {})[maker] = replace(made, arrived_s=learner.now_s + made.arrived_s)
        state.kept.clear()
        state.now_s = learner.now_s
        state.made = {step: by for step, by in state.made.items() if step >= learner.step}
        if not self.options.helpers:
            self._make_own(state, learner)
        answers: list[Parcel] = []
        for arrival in arrivals:
            try:
                if arrival.key:
                    self._take(arrival, state, learner)
                else:
                    answers += self._answer(arrival, state, learner)
            except PayloadRefusedError as refused:
                learner.ledger.quarantine(arrival.sender, refused.reason, str(refused))
        return answers

    def loss(self, state: State, learner: Learner) -> LossTerm:
        d = self._directions(state, learner)
        if d is None or self.options.weight == 0.0:
            return NOTHING
        assert learner.x is not None
        assert learner.y is not None
        assert learner.criterion is not None
        with own_statistics(learner.model, state.statistics):
            outputs = learner.forward(learner.x + self.options.epsilon * d)
        both = 1.0 + self.options.weight
        return LossTerm(self.options.weight / both * learner.criterion(outputs, learner.y), task_share=1.0 / both)

    def publish(self, state: State, learner: Learner, view: View) -> list[Parcel]:
        helpers = tuple(name for name in view.out_neighbours if name in self.options.helpers)
        if not helpers:
            return []
        arrays = model_arrays(learner.model, learner.shared)
        odd = not_finite(arrays)
        if odd is not None:
            learner.ledger.not_published(odd)
            return []
        first = learner.step + self.options.staleness_steps
        rows = torch.stack([learner.rows_at(first + number) for number in range(self._asked)]).int()
        request = {f"model.{name}": tensor for name, tensor in arrays.items()}
        request |= {"rows": rows, "means": self._means(learner, rows), "first": torch.tensor([first])}
        payload = pack(request, self.exchange.encoding, learner.ledger)
        return state_parcels(self, payload, learner, replace(view, out_neighbours=helpers))

    def publications(self, extent: Extent) -> list[Publication]:
        if not self.options.helpers:
            return []
        asked = (self._asked, extent.inputs[0])
        request = {f"model.{name}": tensor for name, tensor in model_arrays(extent.model).items()}
        request |= {
            "rows": torch.empty(asked, dtype=torch.int32, device="meta"),
            "means": torch.empty(asked, device="meta"),
            "first": torch.empty(1, dtype=torch.int64, device="meta"),
        }
        answers = torch.empty(2, dtype=torch.int64, device="meta")
        answer = {"d": torch.empty(extent.inputs, device="meta"), "answers": answers}
        return [Publication(request, self.exchange.encoding), Publication(answer, "int8")]

    # --- making ---------------------------------------------------------------------------------------------------

    @property
    def _asked(self) -> int:
        return min(self.exchange.every_steps, ASKED_MAX)

    def _make_own(self, state: State, learner: Learner) -> None:
        for step in range(learner.step, learner.step + self.options.staleness_steps + 1):
            if step not in state.made:
                d = self._make(learner.model, learner, learner.rows_at(step))
                state.made[step] = {"": Directions(d, learner.now_s, learner.step, 0)}

    def _make(self, model: nn.Module, learner: Learner, rows: Tensor) -> Tensor:
        assert learner.examples is not None
        assert learner.criterion is not None
        x, y = learner.examples
        return ascent_directions(model, learner.criterion, x[rows], y[rows], self.options.norm)

    def _answer(self, arrival: Arrival, state: State, learner: Learner) -> list[Parcel]:
        """One parcel for each batch that is asked for."""
        assert learner.examples is not None
        own = {f"model.{name}": array for name, array in model_arrays(learner.model, learner.shared).items()}
        batches = (self._asked, self._batch_size(learner))
        shapes = shapes_of(own) | {"rows": batches, "means": batches, "first": (1,)}
        request = unpack(arrival.payload, shapes, types_of(own) | {"rows": torch.int32, "first": torch.int64})
        rows, means, first = request.pop("rows").long(), request.pop("means"), int(request.pop("first").item())
        if int(rows.min()) < 0 or int(rows.max()) >= len(learner.examples[0]):
            raise PayloadRefusedError("other_examples", "asks for rows that I do not have")
        if not torch.allclose(self._means(learner, rows), means, rtol=0.02, atol=0.02):
            raise PayloadRefusedError("other_examples", "its rows hold other examples than mine: task.shards = same?")
        if learner.now_s - arrival.arrived_s >= self.exchange.horizon_s(learner, arrival.sender) > 0:
            return []
        if state.scratch is None:
            state.scratch = frozen_clone(learner.model)
        load_arrays(state.scratch, {name.removeprefix("model."): request[name] for name in own})
        parcels = []
        for number, batch in enumerate(rows):
            d = self._make(state.scratch, learner, batch.to(learner.device))
            if not bool(d.isfinite().all()):
                raise PayloadRefusedError("no_gradient", "its weights give no finite gradient")
            step = first + number
            payload = pack({"d": d, "answers": torch.tensor([step, arrival.exchange])}, "int8")
            key = f"batch-{step % (2 * (self._asked + self.options.staleness_steps))}"
            content = Content(self.topic, payload, learner.step, arrival.exchange, key)
            parcels.append(Parcel((PeerName(arrival.sender),), content))
        if not any(name in self.options.helpers for name in learner.peers if name != learner.name):
            learner.ledger.exchanged(arrival.sender, learner.now_s)  # this peer asks nobody: its answer is its exchange
        return parcels

    # --- using ----------------------------------------------------------------------------------------------------

    def _take(self, arrival: Arrival, state: State, learner: Learner) -> None:
        assert learner.examples is not None
        shape = (self._batch_size(learner), *learner.examples[0].shape[1:])
        answer = unpack(arrival.payload, {"d": shape, "answers": (2,)}, {"answers": torch.int64})
        step, exchange = (int(entry) for entry in answer["answers"])
        if not learner.step <= step < learner.step + self.options.staleness_steps + 2 * ASKED_MAX:
            return  # too late, or for a step that was not asked for
        d = bounded(answer["d"].to(learner.device), self.options.norm)
        made = Directions(d, arrival.arrived_s, learner.step, exchange)
        state.made.setdefault(step, {})[arrival.sender] = made

    def _directions(self, state: State, learner: Learner) -> Tensor | None:
        """The mean of what was made for the batch in progress [B, ...]; None where nothing is there or all is stale."""
        used: list[Tensor] = []
        for maker, made in state.made.get(learner.step, {}).items():
            age_s, staleness = learner.now_s - made.arrived_s, learner.step - made.arrived_step
            if maker:
                horizon_s = self.exchange.horizon_s(learner, maker)
                if age_weight(age_s, staleness, horizon_s, self.exchange.stale_after_steps) <= 0.0:
                    continue
            used.append(made.d)
            if maker:
                learner.ledger.applied(maker, staleness, age_s)
                if made.exchange > state.counted.get(maker, -1):
                    state.counted[maker] = made.exchange
                    learner.ledger.exchanged(maker, learner.now_s)
        if not used:
            return None
        return torch.stack(used).mean(dim=0)[learner.part]

    @staticmethod
    def _batch_size(learner: Learner) -> int:
        assert learner.draws is not None
        return learner.draws.batch_size

    @staticmethod
    def _means(learner: Learner, rows: Tensor) -> Tensor:
        """The mean of each example [n, B]: what tells two data sets apart without sending either."""
        assert learner.examples is not None
        means: Any = learner.examples[0][rows.reshape(-1)].flatten(1).float().mean(dim=1)
        return torch.as_tensor(means).view(rows.shape).cpu()
