"""What of a model is shared: each piece of memory once, in its own type; what cannot be shared is named."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from gossipdistill.errors import UserCodeError
from gossipdistill.learning.averaging import mix_in
from gossipdistill.learning.flat import Coordinates, flat_parameters, load_flat
from gossipdistill.learning.robust import Defence, Rule, centre_in, clip_in
from gossipdistill.learning.shared_arrays import SharedArrays
from gossipdistill.learning.snapshot import (
    PayloadRefusedError,
    architecture_hash,
    load_arrays,
    model_arrays,
    not_finite,
    pack,
    payload_bytes,
    unpack,
    unpack_model,
    weights_hash,
)


class Tied(nn.Module):
    """One weight under `names` names, and a matrix of its own."""

    def __init__(self, names: int = 2) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(names))
        self.out = nn.Linear(8, 4)
        for layer in self.layers:
            layer.weight = self.layers[0].weight  # type: ignore[union-attr]


class Views(nn.Module):
    """A transposed tie: two parameters, one memory. And two halves of one buffer, and the whole of it."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Parameter(torch.randn(6, 4))
        self.unembed = nn.Parameter(self.embed.detach().t())
        whole = torch.randn(10)
        self.register_buffer("first", whole[:5])
        self.register_buffer("last", whole[5:])
        self.register_buffer("whole", whole)
        self.register_buffer("every_second", whole[::2])


class Flattened(nn.Module):
    """Parameters that are slices of one buffer, as code keeps them that talks to a collective."""

    def __init__(self) -> None:
        super().__init__()
        flat = torch.randn(14)
        self.register_buffer("flat", flat)
        self.weight = nn.Parameter(flat[:8].view(4, 2))
        self.bias = nn.Parameter(flat[8:12])


class Expanded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn(1, 3).expand(5, 3), requires_grad=False)
        self.out = nn.Linear(3, 2)


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(3, 2, dtype=torch.complex64))
        self.wide = nn.Parameter(torch.randn(2, dtype=torch.complex128))
        self.register_buffer("phase", torch.randn((), dtype=torch.complex64))


class Constants(nn.Module):
    """Masks of -inf as buffers and as a frozen parameter, an observer, a mask that is not saved, and weights."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(4, 4)
        mask = torch.triu(torch.full((4, 4), -math.inf), 1)
        self.register_buffer("mask", mask.clone())
        self.register_buffer("hidden", mask.clone(), persistent=False)
        self.frozen = nn.Parameter(mask.clone(), requires_grad=False)
        self.observer = torch.ao.quantization.MinMaxObserver()
        self.register_buffer("missing", torch.full((2,), math.nan))
        self.register_buffer("seen", torch.tensor(0))


def filled(make: Callable[[], nn.Module], value: float) -> nn.Module:
    model = make()
    with torch.no_grad():
        for tensor in model_arrays(model).values():
            tensor.fill_(value)
    return model


SHAPES: dict[str, Callable[[], nn.Module]] = {
    "tied": Tied,
    "tied three times": lambda: Tied(3),
    "views": Views,
    "flattened": Flattened,
    "expanded": Expanded,
    "complex": Complex,
    "scalar": lambda: nn.ParameterDict({"t": nn.Parameter(torch.tensor(1.0))}),
    "empty": lambda: nn.ParameterList([torch.randn(0, 3), torch.randn(2)]),
    "bfloat16": lambda: nn.Linear(3, 2).bfloat16(),
    "float64": lambda: nn.Linear(3, 2).double(),
    "half": lambda: nn.Linear(3, 2).half(),
    "channels last": lambda: nn.Conv2d(3, 4, 2).to(memory_format=torch.channels_last),
    "shared module": lambda: nn.Sequential(*[nn.Linear(3, 3)] * 2),
    "transposed": lambda: nn.ParameterList([torch.randn(3, 5).t()]),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_each_entry_is_mixed_once(shape: str) -> None:
    mine, other = filled(SHAPES[shape], 0.0), filled(SHAPES[shape], 1.0)
    mix_in(mine, [(0.5, {name: array.clone() for name, array in model_arrays(other).items()})])
    for name, tensor in mine.state_dict().items():
        entries = torch.view_as_real(tensor) if tensor.is_complex() else tensor
        if name == "flat":
            entries = entries[:12]  # its padding is no parameter's
        assert bool((entries == 0.5).all()), name


@pytest.mark.parametrize("shape", SHAPES)
def test_the_robust_rules_see_each_entry_once(shape: str) -> None:
    others = {name: model_arrays(filled(SHAPES[shape], value)) for name, value in (("a", 1.0), ("b", 1.0), ("c", 9.0))}
    mine = filled(SHAPES[shape], 0.0)
    clip_in(mine, others, {"a": 0.5}, liars_max=1)
    assert all(bool((array == 0.5).all()) for array in model_arrays(mine).values())
    mine = filled(SHAPES[shape], 0.0)
    centre_in(mine, others, 0.5, liars_max=1, median=False)  # of 0, 1, 1, 9 the mean of 1 and 1, and half way to it
    assert all(bool((array == 0.5).all()) for array in model_arrays(mine).values())
    mine = filled(SHAPES[shape], 0.0)
    centre_in(mine, others, 0.5, liars_max=1, median=True)
    assert all(bool((array.double() < 1.0).all()) for array in model_arrays(mine).values())


@pytest.mark.parametrize("shape", SHAPES)
def test_a_model_travels_bit_for_bit_and_counts_each_byte_once(shape: str) -> None:
    sender, receiver = SHAPES[shape](), SHAPES[shape]()
    arrays = model_arrays(sender)
    payload = pack(arrays, "raw")
    storages = (
        {
            array.untyped_storage().data_ptr(): array.untyped_storage().nbytes()
            for array in arrays.values()
            if len(array)
        }
        if shape not in ("scalar", "flattened")
        else {}
    )
    assert payload.nbytes == payload_bytes(arrays, "raw")
    assert not storages or payload.nbytes == sum(storages.values())
    load_arrays(receiver, unpack_model(payload, receiver))
    theirs = receiver.state_dict()
    for name, tensor in sender.state_dict().items():
        if name != "flat":
            assert torch.equal(tensor, theirs[name]), name
    if shape != "flattened":  # the padding of its buffer is nobody's
        assert weights_hash(sender) == weights_hash(receiver)


@pytest.mark.parametrize("shape", SHAPES)
def test_as_a_vector_each_entry_counts_once(shape: str) -> None:
    model = SHAPES[shape]()
    before = flat_parameters(model)
    load_flat(model, before + 1.0)
    assert torch.allclose(flat_parameters(model).double(), before.double() + 1.0, rtol=0.02)
    coordinates = Coordinates.of(model)
    vector = flat_parameters(model)
    if len(vector):
        there = coordinates.unpack(coordinates.pack(vector.double(), "raw"))
        assert torch.equal(there.to(vector.dtype), vector)
        sizes = {True: 8, False: 4}
        assert coordinates.pack(vector, "raw").nbytes == sum(
            sizes[part.dtype is torch.float64] * part.numel() for part in SharedArrays.of(model).vector(model).values()
        )


def test_what_shares_memory_is_told_apart_from_what_does_not() -> None:
    views = SharedArrays.of(Views())
    assert views.names == ("embed", "whole")
    assert views.aliases == {"unembed": "embed", "first": "whole", "last": "whole", "every_second": "whole"}
    flattened = SharedArrays.of(Flattened())
    assert flattened.parameters == ("weight", "bias")
    assert "shares a part of its memory with weight, bias" in flattened.left_out["flat"]
    halves = nn.ParameterList([*torch.randn(2, 4)])  # one storage, nothing in common
    assert SharedArrays.of(halves).names == ("0", "1")
    memory = torch.randn(6)
    overlap = SharedArrays.of(nn.ParameterList([nn.Parameter(memory[:4]), nn.Parameter(memory[2:])]))
    assert "shares a part of its memory with 0" in overlap.unfit["1"]
    combs = nn.ParameterList([nn.Parameter(memory[::2]), nn.Parameter(memory[1::2])])
    assert SharedArrays.of(combs).names == ("0", "1")
    folded = nn.ParameterList([nn.Parameter(memory.unfold(0, 3, 1), requires_grad=False)])
    assert SharedArrays.of(folded).unfit == {"0": "some of its entries share memory"}
    seen_as_whole = nn.Module()
    seen_as_whole.register_buffer("floats", memory)
    seen_as_whole.register_buffer("bits", memory.view(torch.int32))
    assert SharedArrays.of(seen_as_whole).aliases == {"bits": "floats"}


def test_what_is_not_finite_at_the_start_is_left_out_and_named() -> None:
    model = Constants()
    shared = SharedArrays.of(model)
    assert set(shared.left_out) == {"mask", "frozen", "observer.min_val", "observer.max_val", "missing"}
    assert shared.names == ("seen", "net.weight", "net.bias", "observer.eps")
    assert not shared.unfit
    assert not_finite(shared.arrays(model)) is None
    # What was decided holds, whatever becomes of them later; each keeps its own.
    model.observer.min_val.fill_(-2.0)
    other = Constants()
    with torch.no_grad():
        other.net.weight.add_(1.0)
    mix_in(model, [(1.0, unpack_model(pack(shared.arrays(other), "raw"), model, shared))], shared)
    assert torch.equal(model.net.weight, other.net.weight)
    assert float(model.observer.min_val) == -2.0
    assert bool(model.mask.isinf().any())
    assert architecture_hash(model, shared) == architecture_hash(other)
    assert architecture_hash(model) != architecture_hash(other)  # looked at now, another array would be left out


def test_a_weight_that_is_not_finite_at_the_start_cannot_be_shared() -> None:
    model = nn.Linear(2, 2)
    with torch.no_grad():
        model.weight[0, 0] = math.nan
    assert SharedArrays.of(model).unfit == {"weight": "it is not finite before the first step"}


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: torch.randn(3, 3).to_sparse(), "layout is sparse_coo"),
        (lambda: torch.quantize_per_tensor(torch.randn(3), 0.1, 0, torch.quint8), "quantised (quint8)"),
        (lambda: torch.empty(3, device="meta"), "device meta"),
        (lambda: torch.empty(3, dtype=torch.bits8), "type bits8 has no encoding"),
        (lambda: torch.randn(3, dtype=torch.complex64).conj(), "conjugate"),
        (nn.parameter.UninitializedBuffer, "lazy"),
    ],
)
def test_what_no_average_can_be_taken_of_is_named(make: Callable[[], Tensor], word: str) -> None:
    model = nn.Linear(2, 2)
    model.register_buffer("odd", make())
    shared = SharedArrays.of(model)
    assert word in shared.unfit["odd"]
    assert shared.names == ("weight", "bias")


def test_a_module_that_saves_copies_is_mixed_all_the_same() -> None:
    class Saves(nn.Linear):
        def _save_to_state_dict(self, destination: dict[str, Tensor], prefix: str, keep_vars: bool) -> None:
            destination[prefix + "weight"] = self.weight.detach().clone()

    mine, other = filled(lambda: Saves(2, 2), 0.0), filled(lambda: Saves(2, 2), 1.0)
    mix_in(mine, [(0.5, model_arrays(other))])
    assert all(bool((p == 0.5).all()) for p in mine.parameters())


TYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.complex64,
    torch.complex128,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.uint16,
    torch.uint32,
    torch.uint64,
    torch.bool,
]


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_each_type_travels_bit_for_bit_in_raw(dtype: torch.dtype) -> None:
    bits = torch.arange(7 * 16, dtype=torch.uint8)  # small exponents: finite in each type
    entries = bits.view(7, 16).view(dtype) if dtype is not torch.bool else (bits % 3 == 0).view(7, 16)
    payload = pack({"odd": torch.arange(3, dtype=torch.uint8), "x": entries, "t": entries[0, 0]}, "raw")
    assert payload.nbytes == 3 + entries.nbytes + entries.element_size()
    arrays = unpack(
        payload, {"odd": (3,), "x": tuple(entries.shape), "t": ()}, {"odd": torch.uint8, "x": dtype, "t": dtype}
    )
    assert arrays["x"].dtype is dtype
    raw = torch.uint8
    assert torch.equal(arrays["x"].contiguous().view(raw), entries.contiguous().view(raw))
    assert torch.equal(arrays["t"].reshape(1).view(raw), entries[0, 0].reshape(1).view(raw))
    transposed = unpack(pack({"x": entries.t()}, "raw"), {"x": tuple(entries.t().shape)})["x"]
    assert torch.equal(transposed.contiguous().view(raw), entries.t().contiguous().view(raw))


def test_whole_numbers_and_hashes_see_the_true_bits() -> None:
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    load_arrays(b, model_arrays(a))
    for model in (a, b):
        model.register_buffer("seen", torch.tensor([16777217, 123456789012345]))
    b.seen.zero_()
    load_arrays(b, unpack_model(pack(model_arrays(a), "raw"), b))
    assert b.seen.tolist() == [16777217, 123456789012345]
    assert weights_hash(a) == weights_hash(b)
    b.seen[0] -= 1
    assert weights_hash(a) != weights_hash(b)
    double = nn.Linear(2, 2).double()
    twin = nn.Linear(2, 2).double()
    load_arrays(twin, unpack_model(pack(model_arrays(double), "raw"), twin))
    assert torch.equal(twin.weight, double.weight)
    with torch.no_grad():
        twin.weight[0, 0] = torch.nextafter(twin.weight[0, 0], torch.tensor(9.0).double())
    assert weights_hash(twin) != weights_hash(double)
    real, imaginary = nn.ParameterList([torch.ones(2) + 0j]), nn.ParameterList([torch.ones(2) + 1j])
    assert weights_hash(real) != weights_hash(imaginary)


@pytest.mark.parametrize(("encoding", "each"), [("raw", 2), ("bfloat16", 2), ("half", 2), ("int8", 1.0625)])
def test_a_bfloat16_model_takes_two_bytes_a_parameter(encoding: str, each: float) -> None:
    model = nn.Linear(64, 64, bias=False).bfloat16()
    payload = pack(model_arrays(model), encoding)
    assert payload.nbytes == each * 64 * 64
    twin = nn.Linear(64, 64, bias=False).bfloat16()
    load_arrays(twin, unpack_model(payload, twin))
    if encoding in ("raw", "bfloat16"):
        assert torch.equal(twin.weight, model.weight)


def test_another_type_than_mine_is_refused_before_anything_is_touched() -> None:
    model = nn.BatchNorm1d(2)
    arrays = model_arrays(model)
    for name, odd in (("weight", torch.float64), ("num_batches_tracked", torch.float32), ("weight", torch.complex64)):
        with pytest.raises(PayloadRefusedError) as refused:
            unpack_model(pack(arrays | {name: arrays[name].to(odd)}, "raw"), model)
        assert refused.value.reason == "type"
        assert name in str(refused.value)


def test_mixing_in_half_precision_rounds_once() -> None:
    mine = nn.ParameterList([torch.tensor([1.0, 3.0]).bfloat16()])
    others = [(0.3, {"0": torch.tensor([1.01, 5.0])}), (0.3, {"0": torch.tensor([0.99, 7.0])})]
    mix_in(mine, others)
    exact = 0.4 * torch.tensor([1.0, 3.0]) + 0.3 * others[0][1]["0"] + 0.3 * others[1][1]["0"]
    gap = torch.tensor([2.0**-7, 2.0**-6])  # between neighbouring numbers there
    assert bool(((mine[0].detach().float() - exact).abs() < gap).all()), "to one of both neighbours"


def test_a_defence_remembers_only_what_is_shared() -> None:
    model = Constants()
    shared = SharedArrays.of(model)
    defence = Defence(Rule.CLIP, 1, lambda _: 0.0)
    other = Constants()
    with torch.no_grad():
        other.net.bias.add_(1.0)
    for sender in ("bo", "cy"):
        defence.mix_in(model, {sender: (0.25, shared.arrays(other))}, 1.0, shared)
    assert not_finite(shared.arrays(model)) is None


def test_parameters_that_go_come_or_change_their_shape_are_named() -> None:
    pruned, grown, wider = (nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)) for _ in range(3))
    before = {model: SharedArrays.of(model) for model in (pruned, grown, wider)}
    prune.l1_unstructured(pruned[0], "weight", 0.5)
    grown.append(nn.Linear(2, 2))
    wider[0].weight = nn.Parameter(torch.zeros(4, 3))
    for model, words in (
        (pruned, "0.weight is gone, 0.weight_orig is new"),
        (grown, "2.weight is new, 2.bias is new"),
        (wider, r"0.weight was \[2, 3\] and is \[4, 3\]"),
    ):
        for look in (before[model].arrays, before[model].vector):
            with pytest.raises(UserCodeError, match=words):
                look(model)


def test_what_a_model_may_change_in_training_is_no_other_model() -> None:
    """Frozen and thawed parameters, buffers that are new objects at each step, and one that comes later."""
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    shared = SharedArrays.of(model)
    names = set(shared.arrays(model))
    model[0].weight.requires_grad_(False)
    model[0].bias = nn.Parameter(torch.zeros(2))
    model[1].running_mean = torch.ones(2)
    model.register_buffer("cache", torch.zeros(9))
    assert set(shared.arrays(model)) == names
    assert bool((shared.arrays(model)["1.running_mean"] == 1.0).all())
