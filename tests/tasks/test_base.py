"""The shape of a task: what it accepts, and what it says about what it does not."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gossipdistill.errors import ConfigError, UserCodeError
from gossipdistill.tasks import Task, accuracy, fingerprint

X, Y = torch.rand(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])


def a_task(**changes: object) -> Task:
    parts: dict[str, object] = {
        "model": lambda: nn.Linear(4, 3),
        "train": (X, Y),
        "validation": (X[:3], Y[:3]),
        "loss": nn.functional.cross_entropy,
        **changes,
    }
    return Task(**parts)  # type: ignore[arg-type]


def test_the_least_task_has_no_transfer_set_and_no_metrics() -> None:
    task = a_task()
    assert task.transfer is None
    assert dict(task.metrics) == {}
    assert task.classes is None
    assert task.distillable
    assert task.class_count == 3
    task.check_model(task.model())


def test_a_regression_is_not_distillable() -> None:
    y = torch.rand(6, 2)
    task = a_task(train=(X, y), validation=(X, y), model=lambda: nn.Linear(4, 2), loss=nn.functional.mse_loss)
    assert not task.distillable
    assert task.class_count is None
    task.check_model(task.model())


@pytest.mark.parametrize(
    "kind", [torch.complex64, torch.complex128, torch.float64, torch.bfloat16, torch.int64, torch.bool, torch.uint8]
)
def test_inputs_of_every_type_are_taken_and_their_content_tells_transfer_sets_apart(kind: torch.dtype) -> None:
    x = torch.arange(24).view(6, 4).remainder(5).to(kind)
    if kind.is_complex:
        x = x + 1j * torch.arange(24).view(6, 4)
    task = a_task(train=(x, Y), validation=(x, Y), transfer=x)
    same = a_task(train=(x, Y), validation=(x, Y), transfer=x.mT.contiguous().mT)
    other = x.clone()
    other[3, 2] = other[3, 2].conj() if kind.is_complex else ~other[3, 2] if kind is torch.bool else other[3, 2] + 1
    prints = fingerprint(task, "t")["transfer"]
    assert prints == fingerprint(same, "t")["transfer"]
    assert prints != fingerprint(a_task(train=(x, Y), validation=(x, Y), transfer=other), "t")["transfer"]
    if kind.is_complex:
        lazily = a_task(train=(x, Y), validation=(x, Y), transfer=x.conj())
        assert fingerprint(lazily, "t") == fingerprint(
            a_task(train=(x, Y), validation=(x, Y), transfer=x.conj().resolve_conj()), "t"
        )
        x[0, 0] = complex(0.0, math.inf)
        with pytest.raises(ConfigError, match=r"Task\.transfer: it must be finite"):
            a_task(train=(task.train[0].clone().fill_(1), Y), validation=(other, Y), transfer=x)


@pytest.mark.filterwarnings("ignore")  # torch calls these kinds of tensor experimental, or deprecated
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda x: x.to_sparse(), "layout sparse_coo; use .to_dense()"),
        (lambda x: x.to_sparse_csr(), "layout sparse_csr; use .to_dense()"),
        (lambda x: torch.nested.nested_tensor(list(x)), "a nested one"),
        (lambda x: torch.nested.nested_tensor(list(x), layout=torch.jagged), "a nested one"),
        (lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8), "a quantised one"),
        (lambda x: x.to("meta"), "one without memory"),
        (nn.Linear(4, 4), "one with a history of operations; use .detach()"),
    ],
)
def test_inputs_of_which_no_rows_can_be_taken_are_refused(make: Callable[[Tensor], Tensor], words: str) -> None:
    with pytest.raises(ConfigError, match=r"^Task\.train: inputs must be a dense tensor") as refused:
        a_task(train=(make(X), Y))
    assert words in str(refused.value)


def test_accuracy_is_the_fraction_of_hits() -> None:
    assert accuracy(torch.eye(4), torch.tensor([0, 1, 2, 0])) == 0.75


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"model": nn.Linear(4, 3)},
            "Task.model: must be a function that builds a new model, this is a Linear; "
            "accepted: for example model=lambda: nn.Linear(2, 2)",
        ),
        ({"train": X}, "Task.train: must be a pair (inputs, labels), this is a Tensor"),
        ({"train": (X, Y, Y)}, "Task.train: must be a pair (inputs, labels), this is a tuple of 3"),
        ({"train": (X, [0] * 6)}, "Task.train: labels must be a torch.Tensor, found list"),
        ({"train": (X, Y[:5])}, "Task.train: 6 inputs and 5 labels; they must be as many"),
        ({"train": (X[:0], Y[:0])}, "Task.train: inputs must hold at least one row, found shape [0, 4]"),
        ({"train": (X, torch.tensor(1))}, "Task.train: labels must hold at least one row, found shape []"),
        ({"train": (X.log() - X.log() / 0, Y)}, "Task.train: inputs must be finite, found NaN or infinity"),
        (
            {"validation": (X[:, :3], Y)},
            "Task.validation: inputs are [3] float32 per row, those of Task.train are [4] float32 per row; "
            "they must be alike",
        ),
        (
            {"validation": (X, Y.float())},
            "Task.validation: labels are [] float32 per row, those of Task.train are [] int64 per row; "
            "they must be alike",
        ),
        (
            {"transfer": torch.rand(5, 2, 2)},
            "Task.transfer: inputs are [2, 2] float32 per row, those of Task.train are [4] float32 per row; "
            "they must be alike",
        ),
        ({"transfer": X.tolist()}, "Task.transfer: it must be a torch.Tensor, found list"),
        ({"loss": "mse"}, "Task.loss = 'mse': must be a function of (outputs, labels)"),
        ({"metrics": [accuracy]}, None),
        (
            {"metrics": {"accuracy": 0.5}},
            "Task.metrics = {'accuracy': 0.5}: must map a name to a function of (outputs, labels)",
        ),
        ({"classes": "abc"}, "Task.classes = 'abc': must be a tuple of names"),
        ({"classes": ("a", "b", "a")}, "Task.classes = ('a', 'b', 'a'): names a class twice"),
        (
            {"classes": ("a", "b")},
            "Task.train: label 2 has no class name; accepted: 0 to 1, one number for each of Task.classes",
        ),
        (
            {"classes": ("a", "b", "c"), "validation": (X, Y - 1)},
            "Task.validation: label -1 has no class name; accepted: 0 to 2, one number for each of Task.classes",
        ),
        (
            {"classes": ("a",), "train": (X, X), "validation": (X, X)},
            "Task.classes = ('a',): the labels are no class numbers [examples]",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(wrong: dict[str, object], message: str | None) -> None:
    with pytest.raises(ConfigError) as caught:
        a_task(**wrong)
    if message is not None:
        assert str(caught.value) == message
    else:
        assert str(caught.value).startswith("Task.metrics = [")


def failing(out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    raise ZeroDivisionError("no luck")


@pytest.mark.parametrize(
    ("changes", "model", "message"),
    [
        (
            {},
            lambda: nn.Linear(4, 2),
            "Task.model: gives outputs [2, 2], and the labels ask for 3 classes; accepted: logits [2, 3]",
        ),
        (
            {"classes": ("a", "b", "c")},
            lambda: nn.Linear(4, 5),
            "Task.model: gives outputs [2, 5], and the labels ask for 3 classes; accepted: logits [2, 3]",
        ),
        ({}, lambda: nn.Flatten(0), "Task.model: gives outputs [8] for 2 rows"),
        ({}, lambda: nn.LSTM(4, 3), "Task.model = 'tuple': must give one tensor"),
        (
            {},
            lambda: nn.Linear(5, 3),
            "Task.model: refuses inputs [2, 4]: RuntimeError: mat1 and mat2 shapes cannot be multiplied (2x4 and 5x3)",
        ),
        (
            {"loss": lambda out, y: out.sum(1)},
            lambda: nn.Linear(4, 3),
            "Task.loss = [2]: must give a scalar tensor",
        ),
        ({"loss": lambda out, y: 1.0}, lambda: nn.Linear(4, 3), "Task.loss = 'float': must give a scalar tensor"),
        ({"loss": failing}, lambda: nn.Linear(4, 3), "Task.loss: refuses outputs [2, 3]: ZeroDivisionError: no luck"),
        (
            {"metrics": {"luck": failing}},
            lambda: nn.Linear(4, 3),
            "Task.metrics['luck']: refuses the whole validation set, outputs [3, 3]: ZeroDivisionError: no luck",
        ),
    ],
)
def test_a_model_that_does_not_fit_is_refused(
    changes: dict[str, object], model: Callable[[], nn.Module], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        a_task(**changes).check_model(model())
    said, _, place = str(caught.value).partition(f" ({__file__}:")
    assert said == message
    assert bool(place) == isinstance(caught.value, UserCodeError)


def test_checking_a_model_leaves_it_as_it_was() -> None:
    task = a_task(model=lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout()))
    model = task.model()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    generator = torch.get_rng_state()
    task.check_model(model)
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(generator, torch.get_rng_state())


def test_the_fingerprint_tells_transfer_sets_and_classes_apart() -> None:
    transfer = torch.arange(8.0).reshape(2, 4)
    same = fingerprint(a_task(transfer=transfer), "t")
    assert same == {"task": "t", "classes": "unnamed", "transfer": "886a4eeb8808f801"}
    assert fingerprint(a_task(transfer=transfer.clone()), "t") == same
    # Neither the memory layout nor the peer's own examples matter.
    assert fingerprint(a_task(transfer=transfer.T.contiguous().T, train=(X[:2], Y[:2])), "t") == same
    for other in (transfer.flip(0), transfer[:1], transfer + 1e-6 * (transfer == 7)):
        assert fingerprint(a_task(transfer=other), "t")["transfer"] != same["transfer"]
    assert fingerprint(a_task(), "t")["transfer"] == "none"
    assert fingerprint(a_task(classes=("a", "b", "c")), "t")["classes"] == "a,b,c"
    regression = a_task(train=(X, X), validation=(X, X))
    assert fingerprint(regression, "t") == {"task": "t", "classes": "none", "transfer": "none"}


def test_the_fingerprint_takes_every_type_of_input() -> None:
    for dtype in (torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool):
        x = torch.ones(6, 4).to(dtype)
        assert len(fingerprint(a_task(train=(x, Y), validation=(x, Y), transfer=x), "t")["transfer"]) == 16


def test_importing_the_package_does_not_import_torch() -> None:
    code = (
        "import sys, gossipdistill; assert 'torch' not in sys.modules;"
        "from gossipdistill import Task, Shard, __version__; import gossipdistill.tasks;"
        "assert not {'zmq', 'requests', 'pooch', 'sklearn'} & set(sys.modules);"
        "assert 'Task' in dir(gossipdistill) and not hasattr(gossipdistill, 'tusk')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
