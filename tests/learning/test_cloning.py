"""A clone of a user's model: equal to it, apart from it, and made without a single random number."""

from __future__ import annotations

import functools
import logging
import random
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gossipdistill.learning import cloning
from gossipdistill.learning.cloning import NotClonedError, check_cloneable, clone_model

pytestmark = pytest.mark.filterwarnings("ignore")  # torch calls many of these kinds of module deprecated


class Keeping(nn.Module):
    """Keeps activations in every kind of container."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3)
        self.kept: Notes | None = None

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.a(x).relu()
        self.kept = Notes(hidden, [hidden], {"deep": (hidden, deque([hidden]))})
        self.half = self.a.weight[:2]
        return self.b(hidden)  # type: ignore[no-any-return]


@dataclass
class Notes:
    last: Tensor
    all: list[Tensor] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.e, self.o = nn.Linear(4, 4, bias=False), nn.Linear(4, 4)
        self.o.weight = self.e.weight
        self.register_buffer("shared", torch.ones(4))
        self.again = nn.Identity()
        self.again.register_buffer("shared", self.shared)
        self.register_buffer("view", self.e.weight.detach()[:2])
        self.wide = nn.Parameter(torch.zeros(1, 4).expand(4, 4), requires_grad=False)
        self.hidden = [nn.Linear(2, 2)]
        self.e.parent = weakref.ref(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.o(self.e(x)) * self.shared + self.wide[0]  # type: ignore[no-any-return]


def normed(norm: Callable[[nn.Module], nn.Module]) -> nn.Module:
    return nn.Sequential(norm(nn.Linear(4, 6)), nn.ReLU(), nn.Linear(6, 3))


def hooked() -> nn.Module:
    """Its forward pass is replaced, and hooks of every shape look at what it does."""
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))
    seen: list[Tensor] = []
    plain, net.seen = net.forward, seen  # type: ignore[assignment]
    net.register_forward_hook(lambda module, args, out: seen.append(out))
    net.register_forward_hook(functools.partial(_note, net))
    net[0].register_forward_hook(lambda module, args, out: out @ net[0].weight)
    net.forward = lambda x: 2 * plain(x)  # type: ignore[method-assign]
    net.handle = net[1].register_forward_pre_hook(_nothing)  # type: ignore[assignment]
    return net


def _note(net: nn.Module, module: nn.Module, args: Any, out: Tensor) -> None:
    net.last = out  # type: ignore[assignment]


def _nothing(module: nn.Module, args: Any) -> None:
    return None


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.o = nn.LSTM(2, 3, batch_first=True), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.o(self.rnn(x.view(-1, 2, 2))[0][:, -1])  # type: ignore[no-any-return]


class OwnCopy(nn.Module):
    """Copies itself by its constructor, which draws random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 3)

    def __deepcopy__(self, memo: dict[int, Any]) -> OwnCopy:
        new = OwnCopy()
        new.load_state_dict(self.state_dict())
        return new

    def forward(self, x: Tensor) -> Tensor:
        self.h = self.a(x)
        return self.h * 2  # type: ignore[no-any-return]


class Refusing(Keeping):
    """Its own copying fails, as torch's does for tensors with a history."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Refusing:
        raise RuntimeError("only leaves")


class Odd(nn.Module):
    """Attributes that cannot be copied, and one that changes."""

    __slots__ = ("slotted",)

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 3)
        self.lock, self.log, self.stream = threading.Lock(), logging.getLogger("odd"), (one for one in range(3))
        self.generator = torch.Generator().manual_seed(3)
        self.numpy, self.cache = np.random.default_rng(0), OrderedDict(a=torch.ones(2))
        self.slotted = [1]
        self.activation = torch.tanh
        self.act = F.relu

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) + torch.rand(3, generator=self.generator)  # type: ignore[no-any-return]


def converted(kind: torch.dtype) -> Callable[[], nn.Module]:
    return lambda: nn.Linear(4, 3).to(kind)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "keeping": Keeping,
    "tied": Tied,
    "old weight_norm": lambda: normed(nn.utils.weight_norm),
    "old spectral_norm": lambda: normed(nn.utils.spectral_norm),
    "weight_norm": lambda: normed(nn.utils.parametrizations.weight_norm),
    "spectral_norm": lambda: normed(nn.utils.parametrizations.spectral_norm),
    "orthogonal": lambda: normed(nn.utils.parametrizations.orthogonal),
    "hooked": hooked,
    "recurrent": Recurrent,
    "own copy": OwnCopy,
    "refusing": Refusing,
    "odd": Odd,
    "batch norm": lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)),
    "scripted": lambda: torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))),
    "traced by fx": lambda: torch.fx.symbolic_trace(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))),
    "channels last": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 2, 2)),
        nn.Conv2d(1, 3, 2).to(memory_format=torch.channels_last),
        nn.Flatten(),  # type: ignore[call-overload]
    ),
    "transformer": lambda: nn.Sequential(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, dropout=0.0)),
}


def trained(model: nn.Module) -> nn.Module:
    """After a step, with gradients and whatever its modules keep."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.linspace(-1, 1, 20).view(5, 4)).abs().square().sum().backward()
        optimizer.step()
    return model


def chance() -> list[object]:
    return [torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()]  # type: ignore[index, union-attr]


@pytest.mark.parametrize("kind", MODELS)
def test_a_clone_is_equal_and_apart_and_draws_nothing(kind: str) -> None:
    torch.manual_seed(1)
    model = trained(MODELS[kind]())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    at = chance()
    twin = clone_model(model)
    assert chance() == at
    x = torch.linspace(-2, 1, 12).view(3, 4)
    state = twin.state_dict()
    assert list(state) == list(before)
    for name, tensor in before.items():
        assert torch.equal(state[name], tensor), name
        assert state[name].stride() == model.state_dict()[name].stride(), name
    assert [p.requires_grad for p in twin.parameters()] == [p.requires_grad for p in model.parameters()]
    assert all(parameter.grad is None for parameter in twin.parameters())
    assert [m.training for m in twin.modules()] == [m.training for m in model.modules()]
    mine, theirs = model(x).detach(), twin(x).detach()
    assert torch.equal(mine, theirs)
    assert not {id(t) for t in (*twin.parameters(), *twin.buffers())} & {
        id(t) for t in (*model.parameters(), *model.buffers())
    }
    # Another model is put into the twin: it then computes something else, and the first what it did.
    with torch.no_grad():
        for tensor in twin.parameters():
            tensor.mul_(1.5) if tensor.requires_grad else None
    if kind != "odd":  # which draws
        assert torch.equal(model.eval()(x), clone_model(model)(x))
        assert not torch.equal(model(x), twin.eval()(x))
    trained_after = {name: tensor for name, tensor in model.state_dict().items() if "weight_u" not in name}
    if kind in ("keeping", "tied", "hooked", "recurrent", "refusing", "odd", "scripted"):
        assert all(torch.equal(tensor, before[name]) for name, tensor in trained_after.items())


def test_what_modules_keep_is_detached_and_their_own() -> None:
    model = trained(Keeping())
    assert isinstance(model, Keeping)
    assert model.kept is not None
    kept, hidden = model.kept, model.kept.last
    twin = clone_model(model)
    assert twin.kept is not None
    copies = [twin.kept.last, twin.kept.all[0], twin.kept.more["deep"][0], twin.kept.more["deep"][1][0]]
    assert len({id(one) for one in copies}) == 1
    assert torch.equal(copies[0], hidden)
    assert not copies[0].requires_grad
    assert copies[0].data_ptr() != hidden.data_ptr()
    twin(torch.ones(2, 4))
    assert model.kept is kept
    assert kept.last is hidden
    assert hidden.grad_fn is not None
    with torch.no_grad():
        twin.a.weight.fill_(7.0)
    assert twin.half.tolist()[0] == pytest.approx([7.0] * 4)  # a view of the weight is one of the clone's weight


def test_what_is_tied_stays_tied_and_what_is_shared_shared() -> None:
    model = Tied()
    twin = clone_model(model)
    assert twin.o.weight is twin.e.weight
    assert twin.again.shared is twin.shared
    assert twin.view.data_ptr() == twin.e.weight.data_ptr()
    assert twin.wide.stride() == (0, 1)
    assert twin.wide.untyped_storage().nbytes() == 16
    assert twin.e.parent() is twin
    assert twin.hidden[0] is not model.hidden[0]
    assert torch.equal(twin.hidden[0].weight, model.hidden[0].weight)


def test_hooks_and_a_replaced_forward_act_on_the_clone() -> None:
    model = hooked()
    x = torch.ones(2, 4)
    model(x)
    twin = clone_model(model)
    seen, last = list(model.seen), model.last
    twin(2 * x)
    twin(3 * x)
    assert len(twin.seen) == 3
    assert len(model.seen) == 1
    assert model.seen[0] is seen[0]
    assert model.last is last
    assert twin.last is not last
    twin.handle.remove()
    assert len(twin[1]._forward_pre_hooks) == 0
    assert len(model[1]._forward_pre_hooks) == 1


class Stubborn(nn.Module):
    """Cannot be made without arguments, refers to itself in every way, and is no friend of pickle."""

    def __new__(cls, width: int) -> Stubborn:
        assert width
        return super().__new__(cls)

    def __init__(self, width: int) -> None:
        super().__init__()
        self.a = nn.Linear(4, width)
        self.me, self.method, self.size = [self], self.calls, Size(width, self.a)
        self.by_name = {"forward": functools.partial(self.scaled, factor=2.0)}

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("not this one")

    def scaled(self, x: Tensor, factor: float) -> Tensor:
        return factor * self.a(x)  # type: ignore[no-any-return]

    def calls(self) -> int:
        return id(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.by_name["forward"](x)


class Size(NamedTuple):
    width: int
    layer: nn.Module


def test_a_model_that_refers_to_itself_is_cloned_with_all_that_refers_to_it() -> None:
    model = Stubborn(3)
    twin = clone_model(model)
    x = torch.ones(1, 4)
    assert torch.equal(twin(x), model(x))
    assert twin.me[0] is twin
    assert twin.method() == id(twin)
    assert twin.size.layer is twin.a
    with torch.no_grad():
        twin.a.weight.zero_()
        twin.a.bias.zero_()
    assert not twin(x).any()
    assert model(x).any()


def test_modules_deep_inside_one_another_are_all_cloned() -> None:
    model: nn.Module = nn.Linear(2, 2)
    for _ in range(400):
        model = nn.Sequential(model)
    twin = clone_model(model)
    assert len([*twin.modules()]) == 401
    assert not {id(module) for module in twin.modules()} & {id(module) for module in model.modules()}


def test_a_clone_that_would_share_memory_is_none() -> None:
    class Sticky(nn.Linear):
        def __deepcopy__(self, memo: dict[int, Any]) -> Sticky:
            return self

    for clone in (clone_model, check_cloneable):
        with pytest.raises(NotClonedError, match=r"its 1\.weight stays the memory of the original"):
            clone(nn.Sequential(nn.Linear(2, 2), Sticky(2, 2)))


@pytest.mark.parametrize("kind", MODELS)
def test_what_can_be_cloned_is_found_so_without_its_memory(kind: str) -> None:
    torch.manual_seed(1)
    model = trained(MODELS[kind]())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    at = chance()
    check_cloneable(model)
    assert chance() == at
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_check_makes_no_copy_of_an_array(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[nn.Module] = []
    sound = cloning._cloned

    def spied(model: nn.Module, cloner: Any) -> Any:
        made.append(sound(model, cloner))
        return made[-1]

    monkeypatch.setattr(cloning, "_cloned", spied)
    check_cloneable(Tied())
    assert all(array.is_meta for array in (*made[0].parameters(), *made[0].buffers()))
    assert made[0].o.weight is made[0].e.weight


def test_a_generator_goes_on_from_where_it_was_and_what_cannot_be_copied_is_shared() -> None:
    model = Odd()
    model.generator.manual_seed(11)
    x = torch.zeros(1, 4)
    model(x)
    twin = clone_model(model)
    assert torch.equal(twin(x), model(x))
    assert twin.generator is not model.generator
    assert twin.numpy is not model.numpy
    assert twin.numpy.random() == model.numpy.random()
    assert (twin.lock, twin.log, twin.stream) == (model.lock, model.log, model.stream)
    assert twin.cache is not model.cache
    twin.slotted.append(2)
    assert model.slotted == [1]


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16, torch.float16, torch.complex64])
def test_every_type_of_number_is_kept(kind: torch.dtype) -> None:
    model = nn.Linear(4, 3).to(kind)
    twin = clone_model(model)
    assert twin.weight.dtype is kind
    assert torch.equal(twin.weight, model.weight)
    assert twin.weight.data_ptr() != model.weight.data_ptr()


def test_odd_tensors_are_kept() -> None:
    model = nn.Module()
    model.register_buffer("sparse", torch.eye(3).to_sparse())
    model.register_buffer("meta", torch.empty(3, device="meta"))
    model.register_buffer("quantised", torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8))
    model.whole = nn.Parameter(torch.arange(3), requires_grad=False)
    model.lazy = nn.LazyLinear(3)
    model.p = nn.Parameter(torch.zeros(0))
    model.p.partition = {"mine": [1]}  # type: ignore[attr-defined]
    twin = clone_model(model)
    assert torch.equal(twin.sparse.to_dense(), torch.eye(3))  # type: ignore[operator, union-attr]
    assert twin.meta.is_meta  # type: ignore[union-attr]
    assert twin.quantised.is_quantized  # type: ignore[union-attr]
    assert twin.whole.tolist() == [0, 1, 2]
    assert nn.parameter.is_lazy(twin.lazy.weight)
    twin.lazy(torch.ones(1, 2))
    assert nn.parameter.is_lazy(model.lazy.weight)
    assert twin.p.partition == {"mine": [1]}  # type: ignore[attr-defined]
    assert twin.p.partition is not model.p.partition  # type: ignore[attr-defined]


def test_a_compiled_model_is_cloned() -> None:
    model = torch.compile(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3)), backend="eager")
    x = torch.ones(2, 4)
    before = model(x).detach()
    twin = clone_model(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(2.0)
    assert torch.equal(model(x), before)
    assert not torch.equal(twin(x), before)
