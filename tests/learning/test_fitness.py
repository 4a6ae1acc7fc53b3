"""What a model cannot do is found before its first step, and named."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gossipdistill.errors import NeedsError
from gossipdistill.learning.clipping import Norms, clip
from gossipdistill.learning.fitness import (
    extra_state,
    materialise,
    refuse_sparse_gradients,
    refuse_unfit,
    refuse_untrainable,
    sparse_gradients,
    unscaled,
)
from gossipdistill.optimizers import SGD_C, Adam_C

pytestmark = pytest.mark.filterwarnings("ignore")  # torch calls many of these kinds experimental, or deprecated


def holding(tensor: Tensor, persistent: bool = True) -> nn.Module:
    """A model with one odd array."""
    model = nn.Sequential(nn.Linear(4, 3), nn.Module())
    if isinstance(tensor, nn.Parameter):
        model[1].register_parameter("odd", tensor)
    else:
        model[1].register_buffer("odd", tensor, persistent=persistent)
    return model


def quantised() -> Tensor:
    return torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)


@pytest.mark.parametrize("persistent", [True, False])
def test_an_array_without_memory_is_refused(persistent: bool) -> None:
    model = holding(torch.empty(3, device="meta"), persistent)
    with pytest.raises(NeedsError, match=r"1\.odd has no memory"):
        refuse_untrainable(model)
    refuse_untrainable(nn.Linear(2, 2))


def test_an_array_of_inference_mode_is_refused() -> None:
    with torch.inference_mode():
        made = (torch.ones(3), nn.Parameter(torch.ones(3)))
    for array in made:
        with pytest.raises(NeedsError, match=r"1\.odd was made in torch\.inference_mode"):
            refuse_untrainable(holding(array))


def test_a_model_without_a_gradient_is_refused() -> None:
    for model in (nn.Linear(2, 2).requires_grad_(False), nn.Identity()):
        with pytest.raises(NeedsError, match="no parameter of the model asks for a gradient"):
            refuse_untrainable(model)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: torch.eye(3).to_sparse(), "its layout is sparse_coo"),
        (lambda: torch.eye(3).to_sparse_csr(), "its layout is sparse_csr"),
        (quantised, "it is quantised (qint8)"),
        (lambda: nn.Parameter(torch.eye(3).to_sparse()), "its layout is sparse_coo"),
        (lambda: nn.Parameter(torch.tensor([1.0, math.nan])), "not finite before the first step"),
    ],
)
def test_weights_that_cannot_travel_are_refused_by_name(make: Callable[[], Tensor], words: str) -> None:
    model = holding(make())
    with pytest.raises(NeedsError, match=r"gossip_averaging .* 1\.odd: .*codistill_predictions") as refused:
        refuse_unfit(model, "gossip_averaging", shares=True, reduces=False)
    assert words in str(refused.value)
    assert ("persistent=False" in str(refused.value)) == (not isinstance(model[1].odd, nn.Parameter))
    refuse_unfit(model, "codistill_predictions", shares=False, reduces=False)


def test_a_buffer_that_is_not_saved_is_no_obstacle_to_those_who_share_weights() -> None:
    refuse_unfit(holding(torch.eye(3).to_sparse(), persistent=False), "sgp", shares=True, reduces=False)


def test_a_model_that_cannot_be_copied_is_refused_where_weights_travel() -> None:
    class Sticky(nn.Linear):
        def __deepcopy__(self, memo: object) -> Sticky:
            return self

    model = nn.Sequential(Sticky(2, 2))
    with pytest.raises(NeedsError, match=r"codistill_checkpoints .* cannot be copied: its 0\.weight .*__deepcopy__"):
        refuse_unfit(model, "codistill_checkpoints", shares=True, reduces=False)
    refuse_unfit(model, "codistill_predictions", shares=False, reduces=False)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: torch.eye(3).to_sparse(), "its layout is sparse_coo"),
        (quantised, "it is qint8"),
        (lambda: torch.ones(3).to(torch.float8_e4m3fn), "it is float8_e4m3fn"),
        (lambda: torch.ones(3, dtype=torch.uint16), "it is uint16"),
        (lambda: torch.zeros(1).expand(3), "share memory"),
        (lambda: nn.Parameter(torch.zeros(1, 3).expand(2, 3), requires_grad=False), "share memory"),
    ],
)
def test_what_gloo_does_not_send_is_refused_by_name(make: Callable[[], Tensor], words: str) -> None:
    with pytest.raises(NeedsError, match=r"all_reduce .* 1\.odd: ") as refused:
        refuse_unfit(holding(make()), "all_reduce", shares=False, reduces=True)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    "tensor",
    [
        nn.Parameter(torch.arange(3), requires_grad=False),
        torch.tensor(2**60),
        torch.ones(2, dtype=torch.bool),
        nn.Parameter(torch.ones(2, dtype=torch.complex64)),
        nn.Parameter(torch.zeros(0)),
        torch.full((2,), -math.inf),
        nn.Parameter(torch.ones(2, dtype=torch.bfloat16)),
        nn.Parameter(torch.ones(3, 2).t()),
    ],
)
def test_what_can_be_done_is_not_refused(tensor: Tensor) -> None:
    refuse_unfit(holding(tensor), "gossip_averaging", shares=True, reduces=False)
    refuse_unfit(holding(tensor), "all_reduce", shares=False, reduces=True)


class Lazily(nn.Module):
    """One lazy module is used, and one is not."""

    def __init__(self, spare: bool) -> None:
        super().__init__()
        self.frozen, self.drop = nn.LazyBatchNorm1d().eval(), nn.Dropout()
        self.used, self.out = nn.LazyLinear(6), nn.Linear(6, 3)
        self.spare = nn.LazyLinear(2) if spare else None

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.drop(self.used(self.frozen(x))))  # type: ignore[no-any-return]


def test_lazy_modules_get_their_shapes_alike_on_all_peers_whatever_the_inputs_hold() -> None:
    models, drawn = [], set()
    for seed in (1, 2):
        inputs = torch.randn(5, 4, generator=torch.Generator().manual_seed(seed))
        torch.manual_seed(0)
        models.append(Lazily(spare=False))
        materialise(models[-1], inputs)
        drawn.add(torch.rand(1).item())
        assert [module.training for module in models[-1].modules()] == [True, False, True, True, True]
        assert int(models[-1].frozen.num_batches_tracked) == 0  # type: ignore[arg-type]
    for name, tensor in models[0].state_dict().items():
        assert torch.equal(tensor, models[1].state_dict()[name]), name
    assert len(drawn) == 1
    assert models[0].used.weight.shape == (6, 4)
    torch.optim.SGD(models[0].parameters(), lr=0.1)


def test_a_lazy_module_that_stays_without_a_shape_is_refused() -> None:
    with pytest.raises(NeedsError, match=r"spare\.weight belongs to a lazy module"):
        materialise(Lazily(spare=True), torch.ones(2, 4))


def test_a_model_without_lazy_modules_is_not_run() -> None:
    materialise(nn.Linear(4, 3), torch.ones(2, 7))


class Noted(nn.Linear):
    told: object = ("a", "b")

    def get_extra_state(self) -> object:
        return self.told

    def set_extra_state(self, state: object) -> None:
        return None


def test_what_a_module_adds_to_its_state_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert extra_state(nn.Sequential(nn.Linear(2, 2), Noted(2, 2))) == ("1._extra_state",)
    monkeypatch.setattr(Noted, "told", torch.ones(2))
    assert extra_state(nn.Sequential(nn.Linear(2, 2), Noted(2, 2))) == ("1._extra_state",)
    assert extra_state(nn.Linear(2, 2)) == ()


class Sparse(nn.Module):
    def __init__(self, sparse: bool = True) -> None:
        super().__init__()
        self.e, self.o = nn.EmbeddingBag(10, 4, sparse=sparse), nn.Linear(4, 3)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.o(self.e(x))  # type: ignore[no-any-return]


ROWS = torch.tensor([[1, 1, 2], [1, 3, 3]]), torch.tensor([0, 1])


def test_a_sparse_gradient_is_seen_without_a_trace() -> None:
    model = Sparse()
    state = torch.get_rng_state()
    assert sparse_gradients(model, nn.functional.cross_entropy, *ROWS) == ("e.weight",)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.calls == 0
    assert all(parameter.grad is None for parameter in model.parameters())
    assert sparse_gradients(Sparse(sparse=False), nn.functional.cross_entropy, *ROWS) == ()
    assert sparse_gradients(Sparse(), nn.functional.mse_loss, *ROWS) == ()  # which fails: the first step will say so


@pytest.mark.parametrize(
    ("kind", "options", "taken"),
    [
        (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}, True),
        (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}, True),
        (torch.optim.SGD, {"lr": 0.1, "weight_decay": 0.1}, False),
        (torch.optim.SparseAdam, {}, True),
        (torch.optim.Adagrad, {}, True),
        (torch.optim.Adam, {}, False),
        (torch.optim.AdamW, {}, False),
        (torch.optim.RMSprop, {}, False),
        (SGD_C, {"topc": 5}, False),
        (Adam_C, {"topc": 5}, False),
    ],
)
def test_an_optimizer_that_takes_no_sparse_gradient_is_refused(
    kind: type[torch.optim.Optimizer], options: dict[str, object], taken: bool
) -> None:
    model = Sparse()
    parameters = [model.e.weight] if kind is torch.optim.SparseAdam else [*model.parameters()]
    optimizer = kind(parameters, **options)  # type: ignore[arg-type]
    before, entries = model.e.weight.detach().clone(), len(optimizer.state)
    if taken:
        refuse_sparse_gradients(model, optimizer, ("e.weight",))
    else:
        with pytest.raises(NeedsError, match=rf"gradient of e\.weight is sparse, and the optimizer {kind.__name__}"):
            refuse_sparse_gradients(model, optimizer, ("e.weight",))
    assert torch.equal(model.e.weight, before)
    assert len(optimizer.state) == entries


@pytest.mark.parametrize("norm_max", [0.01, 100.0])
def test_a_sparse_gradient_is_clipped_as_a_dense_one(norm_max: float) -> None:
    torch.manual_seed(0)
    models = [Sparse(), Sparse(sparse=False)]
    models[1].load_state_dict(models[0].state_dict())
    for model in models:
        nn.functional.cross_entropy(model(ROWS[0]), ROWS[1]).backward()  # type: ignore[no-untyped-call]
        clip(model, norm_max, Norms())
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        dense = one.grad.to_dense() if one.grad.is_sparse else one.grad
        torch.testing.assert_close(dense, other.grad)
    assert models[0].e.weight.grad.is_sparse  # type: ignore[union-attr]


def test_inputs_that_nobody_has_scaled_are_told_of() -> None:
    grey = torch.randint(0, 256, (300, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    assert "the inputs are large numbers (root mean square 1.5e+02)" in unscaled(grey.float())
    assert "scaled to about 1" in unscaled(grey.to(torch.bfloat16))
    for fine in (grey.float() / 255, grey, grey.float()[:0], torch.full((4, 2), torch.inf), torch.zeros(4, 2)):
        assert unscaled(fine) == ""
