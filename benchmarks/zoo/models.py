"""The models of the zoo: of inputs [rows, 4] they give logits [rows, 3], each in a way of its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.utils.prune
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Make = Callable[[], nn.Module]


class Net(nn.Module):
    """Two layers, with something odd beside them: `odd` is registered as what it is, and used if `used`."""

    def __init__(self, odd: Tensor | nn.Module | None = None, persistent: bool = True, used: bool = False) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 3)
        if isinstance(odd, nn.Parameter):
            self.register_parameter("odd", odd)
        elif isinstance(odd, Tensor):
            self.register_buffer("odd", odd, persistent=persistent)
        elif odd is not None:
            self.odd = odd
        self.used = used

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.a(x).tanh()
        if self.used:
            hidden = self.odd(hidden) if isinstance(self.odd, nn.Module) else hidden + 0.1 * self.odd.abs().sum()
        return self.b(hidden)  # type: ignore[no-any-return]


class InType(nn.Module):
    """Computes in another type than that of its inputs."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.net, self.dtype = Net().to(dtype), dtype

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.to(self.dtype)).float()  # type: ignore[no-any-return]


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 8).double(), nn.Linear(8, 3)
        self.scale = nn.Parameter(torch.ones(8, dtype=torch.bfloat16))
        self.halved = nn.Parameter(torch.full((3,), 0.5, dtype=torch.float16))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x.double()).tanh().float() * self.scale.float()) * self.halved.float()  # type: ignore[no-any-return]


class Tied(nn.Module):
    """One weight under two or three names, and transposed as well."""

    def __init__(self, names: int, transposed: bool = False) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(names - 1))
        self.out = nn.Linear(4, 3)
        for layer in self.layers:
            layer.weight = self.first.weight
        if transposed:
            self.layers[0].weight = nn.Parameter(self.first.weight.detach().t())

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).tanh()
        for layer in self.layers:
            x = layer(x).tanh()
        return self.out(x)  # type: ignore[no-any-return]


class Views(nn.Module):
    """Buffers that are views of one another, and of a parameter; one buffer of two modules."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.twin = Net(), nn.Identity()
        whole = torch.arange(1.0, 11.0)
        self.register_buffer("whole", whole)
        self.register_buffer("first", whole[:5])
        self.register_buffer("weight", self.net.a.weight.detach()[:2])
        self.twin.register_buffer("whole", whole)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)  # type: ignore[no-any-return]


class Expanded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = Net()
        self.scale = nn.Parameter(torch.rand(1, 3).expand(5, 3), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) * (1 + self.scale[0])  # type: ignore[no-any-return]


class ComplexNet(nn.Module):
    """Complex parameters of both sizes, and a complex buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(4, 8, dtype=torch.complex64) * 0.5)
        self.v = nn.Parameter(torch.randn(8, dtype=torch.complex128))
        self.out = nn.Linear(8, 3)
        self.register_buffer("phase", torch.exp(1j * torch.arange(8)))

    def forward(self, x: Tensor) -> Tensor:
        hidden = (x.to(torch.complex64) @ self.w * self.phase + self.v).abs().float()
        return self.out(hidden)  # type: ignore[no-any-return]


class RealAndImaginary(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(torch.cat([x.real, x.imag], 1))  # type: ignore[no-any-return]


class Counting(nn.Module):
    """Whole numbers that float32, and float64, cannot hold; one of them counts the training steps."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()
        self.register_buffer("seen", torch.tensor([2**53 + 1, 2**62 + 3, -(2**60) - 1]))
        self.register_buffer("short", torch.tensor([250, 7], dtype=torch.uint8))
        self.register_buffer("wide", torch.tensor([65_535], dtype=torch.int32))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen += 1
        return self.net(x)  # type: ignore[no-any-return]


class Masked(nn.Module):
    def __init__(self, value: float, persistent: bool) -> None:
        super().__init__()
        self.net, self.mask = Net(), nn.Identity()
        held = torch.zeros(3, 3).masked_fill(torch.ones(3, 3).triu(1).bool(), value)
        self.mask.register_buffer("held", held, persistent=persistent)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)  # type: ignore[no-any-return]


class Observed(nn.Module):
    """A quantisation observer, whose minimum starts at infinity."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()
        self.observer = torch.ao.quantization.MinMaxObserver()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.observer(x))  # type: ignore[no-any-return]


def normed(norm: Callable[[nn.Module], nn.Module]) -> Make:
    """A layer with a norm of the weight or of the outputs."""
    return lambda: nn.Sequential(norm(nn.Linear(4, 8)), nn.Tanh(), nn.Linear(8, 3))


def with_batch_norm(frozen: bool) -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))
    if frozen:
        model[1].eval()
    return model


class Keeping(nn.Module):
    """Keeps activations, in an attribute and in a list, and looks at them again in the next call."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()
        self.hidden: Tensor | None = None
        self.all: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.hidden = self.net.a(x).tanh()
        self.all = [*self.all[-2:], self.hidden]
        return self.net.b(self.hidden)  # type: ignore[no-any-return]


class Carrying(nn.Module):
    """Carries a hidden state from one call to the next."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()
        self.state = torch.zeros(8)

    def forward(self, x: Tensor) -> Tensor:
        hidden = (self.net.a(x) + 0.5 * self.state.detach()).tanh()
        self.state = hidden.mean(dim=0)
        return self.net.b(hidden)  # type: ignore[no-any-return]


class Hooked(nn.Module):
    """A forward pass that is replaced, hooks that close over the model, and one that collects."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()
        plain, seen = self.net.forward, []
        self.net.forward = lambda x: plain(x) + 0.1 * self.net.b.bias  # type: ignore[method-assign]
        self.net.a.register_forward_hook(lambda module, args, out: seen.append(out))
        self.net.b.register_forward_pre_hook(lambda module, args: (args[0] * (1 + self.net.a.bias.mean()),))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)  # type: ignore[no-any-return]


class Embedding(nn.Module):
    def __init__(self, sparse: bool) -> None:
        super().__init__()
        self.e, self.o = nn.EmbeddingBag(16, 6, sparse=sparse), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.o(self.e(x))  # type: ignore[no-any-return]


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.o = nn.LSTM(2, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.o(self.rnn(x.view(-1, 2, 2))[0][:, -1])  # type: ignore[no-any-return]


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.o = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 3)
        self.register_buffer("mask", torch.full((2, 2), -math.inf).triu(1))

    def forward(self, x: Tensor) -> Tensor:
        pairs = torch.stack([x, -x], dim=1)
        return self.o(self.attention(pairs, pairs, pairs, attn_mask=self.mask)[0].mean(dim=1))  # type: ignore[no-any-return]


class Noted(Net):
    """Has an entry in its `state_dict` that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.words = ["cat", "dog"]

    def get_extra_state(self) -> dict[str, Any]:
        return {"words": self.words}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.words = state["words"]


class Random(nn.Module):
    """Drops inputs by a generator of its own, which belongs to no `state_dict`."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.generator = Net(), torch.Generator().manual_seed(3)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            x = x * (torch.rand(x.shape, generator=self.generator) < 0.8)
        return self.net(x)  # type: ignore[no-any-return]


class Shared(nn.Module):
    """One layer that is called twice, and registered twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.again, self.out = self.first, nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.again(self.first(x).tanh()).tanh())  # type: ignore[no-any-return]


class Overlapping(Net):
    """Two parameters that share a part of their memory."""

    def __init__(self) -> None:
        flat = torch.ones(6)
        super().__init__()
        self.left, self.right = nn.Parameter(flat[:4]), nn.Parameter(flat[2:])


class Scaled(Net):
    """A scalar, an empty and a transposed parameter, and one that nobody uses."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature, self.empty = nn.Parameter(torch.tensor(1.5)), nn.Parameter(torch.zeros(0, 3))
        self.turned = nn.Parameter(torch.randn(3, 3).t())

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) @ self.turned * self.temperature + self.empty.sum()


class Averaged(Net):
    """Keeps a running average of a part of itself, as `torch.optim.swa_utils` makes it."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.optim.swa_utils.AveragedModel(self.a)
        self.mean.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean.update_parameters(self.a)
        return super().forward(x)


class Listed(nn.Module):
    """Parameters in a list and in a dict; a part is computed again in the backward pass; drops by chance."""

    def __init__(self) -> None:
        super().__init__()
        self.each = nn.ParameterList([torch.randn(4, 6) * 0.5, torch.randn(6, 3) * 0.5])
        self.named = nn.ParameterDict({"bias": nn.Parameter(torch.zeros(3))})
        self.drop = nn.Dropout(0.2)

    def first(self, x: Tensor) -> Tensor:
        return self.drop((x @ self.each[0]).tanh())  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        hidden = checkpoint(self.first, x, use_reentrant=False) if self.training else self.first(x)
        return hidden @ self.each[1] + self.named["bias"]


class LowRank(nn.Module):
    """A frozen weight and a small trained change of it, which is merged into it for evaluation, as in LoRA."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.merged = Net(), False
        self.net.a.weight.requires_grad_(False)
        self.down, self.up = nn.Parameter(torch.randn(2, 4)), nn.Parameter(torch.zeros(8, 2))

    def train(self, mode: bool = True) -> LowRank:
        super().train(mode)
        if mode == self.merged:
            with torch.no_grad():
                self.net.a.weight += (-1 if mode else 1) * (self.up @ self.down)
            self.merged = not mode
        return self

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.net.a(x) if self.merged else self.net.a(x) + x @ (self.up @ self.down).T
        return self.net.b(hidden.tanh())  # type: ignore[no-any-return]


class QuantisedLayer(nn.Module):
    """A frozen layer whose weights are no tensors of the model, but one packed entry of its `state_dict`."""

    def __init__(self) -> None:
        super().__init__()
        self.fixed, self.net = torch.ao.nn.quantized.dynamic.Linear(4, 4), Net()
        weight = torch.quantize_per_tensor(torch.eye(4).flip(0), 0.01, 0, torch.qint8)
        self.fixed.set_weight_bias(weight, torch.zeros(4))  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x + self.fixed(x.detach()))  # type: ignore[no-any-return]


class Renaming(Net):
    """Its `state_dict` has other names than its parameters, and copies instead of them."""

    def __init__(self) -> None:
        super().__init__()
        self.register_state_dict_post_hook(_renamed)
        self.register_load_state_dict_pre_hook(_named_again)


def _renamed(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    for name in ("weight", "bias"):
        state[f"{prefix}first_{name}"] = state.pop(f"{prefix}a.{name}").clone()


def _named_again(module: nn.Module, state: dict[str, Any], prefix: str, *about: Any) -> None:
    for name in ("weight", "bias"):
        if f"{prefix}first_{name}" in state:
            state[f"{prefix}a.{name}"] = state.pop(f"{prefix}first_{name}")


def pruned() -> nn.Module:
    model = Net()
    nn.utils.prune.l1_unstructured(model.a, "weight", amount=0.3)
    return model


def frozen_parts() -> nn.Module:
    model = Net()
    model.a.requires_grad_(False)
    return model


def convolution() -> nn.Module:
    model = nn.Sequential(nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 4, 2), nn.Tanh(), nn.Conv2d(4, 3, 1), nn.Flatten())
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def quantised() -> Tensor:
    return torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)


def scripted() -> nn.Module:
    return torch.jit.script(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)))  # type: ignore[no-any-return]
