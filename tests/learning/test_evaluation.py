"""A question that is put to a model leaves no trace in its training."""

from __future__ import annotations

import random
from collections import deque

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gossipdistill.ids import Boot, PeerName, Version
from gossipdistill.learning.evaluation import evaluating, generators_kept, modes_of, restored
from gossipdistill.learning.learner import Learner
from gossipdistill.learning.model_teachers import ModelTeachers
from gossipdistill.learning.snapshot import model_arrays, pack, unpack_model
from gossipdistill.messages import Arrival, Content


class Stateful(nn.Module):
    """Keeps a hidden state, counts its calls and collects what it has seen; builds a cache when it first needs it."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.norm = nn.RNNCell(2, 4), nn.BatchNorm1d(4)
        self.hidden = torch.zeros(1, 4)
        self.calls, self.seen, self.by_size = 0, [torch.ones(1)], {0: torch.ones(1)}
        self.recent = deque([torch.zeros(1)], maxlen=2)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.hidden = self.norm(self.cell(x, self.hidden.detach()[:1].expand(len(x), -1)))
        self.seen.append(x)
        self.recent.append(x)
        self.by_size[len(x)] = x
        self.by_size[0] = x
        self.cached = x
        return self.hidden


def test_modes_are_put_back_module_by_module() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2).eval(), nn.Sequential(nn.Dropout()).eval())
    model[2][0].train()
    modes = [module.training for module in model.modules()]
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == modes
    with pytest.raises(ZeroDivisionError), evaluating(model):
        raise ZeroDivisionError
    assert [module.training for module in model.modules()] == modes


def test_a_mode_that_the_model_itself_chooses_is_put_back_too() -> None:
    class Frozen(nn.Sequential):
        def train(self, mode: bool = True) -> Frozen:
            super().train(mode)
            self[1].eval()
            return self

    model = Frozen(nn.Linear(2, 2), nn.BatchNorm1d(2))
    model[1].train()  # later unfrozen by the user
    with evaluating(model):
        pass
    assert model[1].training


def test_what_modules_keep_between_calls_is_what_it_was() -> None:
    model = Stateful()
    model(torch.randn(3, 2))
    hidden, seen, first, recent = model.hidden, list(model.seen), model.by_size, list(model.recent)
    kept = dict(model.by_size)
    del model.cached
    with evaluating(model):
        model(torch.randn(5, 2))
        model(torch.randn(5, 2))
        assert model.calls == 3
    assert model.hidden is hidden
    assert model.calls == 1
    assert len(model.seen) == len(seen)
    assert all(now is then for now, then in zip(model.seen, seen, strict=True))
    assert [*map(id, model.recent)] == [*map(id, recent)]
    assert model.recent.maxlen == 2
    assert model.by_size is first
    assert model.by_size.keys() == kept.keys()
    assert all(model.by_size[key] is kept[key] for key in kept)
    assert not hasattr(model, "cached")


class Merging(nn.Linear):
    """As LoRA layers do it: for evaluation the product of two small matrices is added to the weight, and taken away
    again for training."""

    def __init__(self) -> None:
        super().__init__(4, 4, bias=False)
        self.down, self.up = nn.Parameter(torch.eye(4)[:2]), nn.Parameter(torch.eye(4)[:, :2])
        self.merged = False

    def train(self, mode: bool = True) -> Merging:
        super().train(mode)
        if mode == self.merged:
            with torch.no_grad():
                self.weight += (-1 if mode else 1) * (self.up @ self.down)
            self.merged = not mode
        return self

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        return out if self.merged else out + x @ (self.up @ self.down).T


@pytest.mark.parametrize("frozen", [False, True])
def test_what_a_module_does_for_evaluation_is_undone_by_its_own_way(frozen: bool) -> None:
    model = nn.Sequential(Merging(), nn.Identity())
    with torch.no_grad():
        model[0].weight.zero_()
    if frozen:
        model[0].eval()
    x, was = torch.ones(1, 4), (model[0].merged, model[0].weight.clone())
    outputs = model(x)
    for _ in range(3):
        with evaluating(model):
            assert model[0].merged
            assert torch.equal(model(x), outputs)
    assert (model[0].training, model[0].merged) == (not frozen, frozen)
    assert model[0].merged == was[0]
    assert torch.equal(model[0].weight, was[1])
    assert torch.equal(model(x), outputs)


def test_a_teacher_is_given_weights_in_the_modes_in_which_they_were_sent() -> None:
    sender, receiver = nn.Sequential(Merging()), nn.Sequential(Merging())
    with torch.no_grad():
        for parameter in sender.parameters():
            parameter.mul_(3.0)
    learner = Learner(
        "ada", 0, ("ada", "bo"), receiver, torch.optim.SGD(receiver.parameters(), lr=0.1), torch.device("cpu"), seed=0
    )
    teachers = ModelTeachers(lambda _: 30.0, 0)
    x = torch.ones(1, 4)
    for number in (1, 2):  # the second goes where the first was
        arrays = {name: array.clone() for name, array in model_arrays(sender).items()}
        payload = pack(arrays, "raw")
        came = Arrival(PeerName("bo"), Version(Boot(1), number), Content("weights", payload, 0, 0), 0.0)
        teachers.put("bo", came, unpack_model(payload, receiver), learner)
        torch.testing.assert_close(teachers.by_key["bo"].model(x), sender(x).detach())
        with torch.no_grad():
            sender[0].weight.sub_(1.0)
    assert not teachers.by_key["bo"].model[0].training
    assert receiver[0].training


class Observing(nn.Module):
    """Buffers that a forward pass changes in every mode: in place, by another tensor, and by giving one its shape."""

    def __init__(self) -> None:
        super().__init__()
        self.least = torch.ao.quantization.MinMaxObserver()
        self.channels = torch.ao.quantization.PerChannelMinMaxObserver(ch_axis=1)
        self.register_buffer("last", torch.zeros(1))
        self.register_buffer("calls", torch.tensor(0))
        self.register_buffer("hidden", torch.zeros(2), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        self.last = x.mean(0)
        self.calls += 1
        self.hidden += 1
        return self.channels(self.least(x))  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore")  # torch calls its observers deprecated
def test_buffers_are_put_back_unless_they_got_their_shape() -> None:
    model = Observing()
    last, calls = model.last, model.calls
    with evaluating(model):
        model(torch.tensor([[1.0, 2.0], [3.0, -4.0]]))
        assert int(model.calls) == 1
    assert model.last is last
    assert model.calls is calls
    assert int(calls) == 0
    assert not model.hidden.any()  # type: ignore[operator]
    assert model.least.min_val.item() == float("inf")  # type: ignore[operator, union-attr]
    assert model.channels.min_val.shape == (2,)  # type: ignore[union-attr]
    model(torch.ones(1, 2))
    with evaluating(model):
        model(torch.full((1, 2), 9.0))
    assert model.channels.max_val.tolist() == [3.0, 2.0]  # type: ignore[operator, union-attr]
    assert (int(model.calls), model.last.tolist()) == (1, [1.0, 1.0])


def test_a_pass_in_training_mode_is_undone_too() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2).eval())
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with restored(model):
        assert modes_of(model) == [True, True, False]
        model(torch.tensor([[1.0, 2.0], [3.0, -4.0]]))
        assert int(model[0].num_batches_tracked) == 1  # type: ignore[arg-type]
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


@pytest.mark.filterwarnings("ignore")
def test_a_scripted_model_is_asked_without_a_trace_too() -> None:
    model = torch.jit.script(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with evaluating(model), torch.no_grad():
        assert not model.training
        model(torch.ones(3, 2))
    assert model.training
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_global_generators_stand_where_they_stood() -> None:
    with generators_kept():
        expected = random.random(), np.random.random(), torch.rand(1).item()
    assert (random.random(), np.random.random(), torch.rand(1).item()) == expected
