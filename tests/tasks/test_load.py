"""Finding tasks: ready-made and of the user; and every way in which that goes wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from gossipdistill.errors import ConfigError, DataMissingError
from gossipdistill.tasks import REQUIRED, TASKS, Option, Shard, describe_task, list_tasks, load_task, task_options

# The example of the interface description, word for word.
MOONS = '''\
"""Two interleaved half circles: a task of my own in thirty lines."""
import math

import torch
from torch import nn

from gossipdistill import Task


def moons(count: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)               # the same world for every peer
    y = torch.randint(2, (count,), generator=generator)
    angle = math.pi * (torch.rand(count, generator=generator) + y)
    x = torch.stack([angle.cos() + y, angle.sin() + 0.5 * y], dim=1)
    return x + noise * torch.randn(count, 2, generator=generator), y


def task(shard, noise: float = 0.2, width: int = 32) -> Task:  # options: --set task.noise=0.3
    x, y = moons(2000, noise)
    mine = shard.deal(y[:400])                                 # indices of this peer, as task.shards says
    return Task(
        model=lambda: nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 2)),
        train=(x[:400][mine], y[:400][mine]),
        transfer=x[400:1000],                                  # unlabelled, in the same order everywhere
        validation=(x[1000:], y[1000:]),
        loss=nn.functional.cross_entropy,
        metrics={"accuracy": lambda out, y: (out.argmax(1) == y).float().mean().item()},
    )
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current folder; what is imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def write(folder: Path, name: str, text: str) -> None:
    (folder / f"{name}.py").write_text(text)


def refused(name: str, options: dict[str, object] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_task(name, Shard(0, 4), options or {})
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_example_of_the_interface_works_word_for_word(folder: Path) -> None:
    write(folder, "moons", MOONS)
    shard = Shard(1, 4, "label_skew", examples_per_peer=80, seed=0)
    task = load_task("moons:task", shard, {"noise": 0.3, "width": 8})
    assert task.train[0].shape == (80, 2)
    assert task.transfer is not None
    assert task.transfer.shape == (600, 2)
    assert len(task.validation[0]) == 1000
    assert task.distillable
    model = task.model()
    task.check_model(model)
    out = model(task.validation[0])
    assert task.loss(out, task.validation[1]).ndim == 0
    assert 0.0 <= task.metrics["accuracy"](out, task.validation[1]) <= 1.0
    assert task_options("moons:task") == {"noise": Option("float", 0.2, ""), "width": Option("int", 32, "")}
    told = describe_task("moons:task")
    assert told.doc == "Two interleaved half circles: a task of my own in thirty lines."
    assert told.about is None
    assert sys.path[-1] == str(folder)


def test_a_whole_number_does_for_a_float(folder: Path) -> None:
    write(folder, "moons", MOONS)
    load_task("moons:task", Shard(0, 4), {"noise": 0})


@pytest.mark.parametrize("name", sorted(TASKS))
def test_every_ready_made_task_describes_itself(name: str, tmp_path: Path) -> None:
    told = describe_task(name, tmp_path)
    assert dict(list_tasks())[name] == told.doc.splitlines()[0]
    assert told.about is not None
    assert told.about.origin
    assert told.about.licence
    assert told.about.sizes
    assert all(option.doc and option.default is not REQUIRED for option in told.options.values())
    assert bool(told.looks_in) == bool(told.about.folder)


def test_fashion_mnist_tells_where_it_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOSSIPDISTILL_CACHE", "/cache")
    assert describe_task("fashion_mnist", tmp_path).looks_in == (
        str(tmp_path),
        str(tmp_path / "fashion-mnist"),
        "/cache/fashion-mnist",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    )


def test_options_are_spelt_as_in_python() -> None:
    assert task_options("digits")["hidden"][:2] == ("tuple[int, ...] | None", None)
    assert task_options("digits")["model"][:2] == ("str", "mlp")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "digit",
            "task.name = 'digit': no such task; did you mean digits?; "
            "accepted: digits, fashion_mnist, cifar10, tabular, char_lm, logistic, quadratic, or module:function",
        ),
        (
            "zzz",
            "task.name = 'zzz': no such task; known: char_lm, cifar10, digits, fashion_mnist, logistic, quadratic, "
            "tabular; "
            "accepted: digits, fashion_mnist, cifar10, tabular, char_lm, logistic, quadratic, or module:function",
        ),
        (
            "moons:",
            "task.name = 'moons:': is half a name; accepted: digits, fashion_mnist, cifar10, tabular, "
            "char_lm, logistic, quadratic, "
            "or module:function",
        ),
        (
            "./moons.py:task",
            "task.name = './moons.py:task': names a file; a module is meant, found from the current folder; "
            "accepted: for example moons:task",
        ),
        ("moons:tusk", "task.name = 'moons:tusk': moons has no tusk; did you mean task?"),
        ("moons:math", "task.name = 'moons:math': math is no function, it is of type module"),
    ],
)
def test_unknown_names_are_answered_with_the_nearest(folder: Path, name: str, message: str) -> None:
    write(folder, "moons", MOONS)
    assert refused(name) == message


def test_an_unknown_module_is_answered_with_the_files_that_are_there(folder: Path) -> None:
    write(folder, "moons", MOONS)
    problem = f"no module moon in {folder} or installed; did you mean moons?"
    assert refused("moon:task") == f"task.name = 'moon:task': {problem}"
    assert "no module moons.inner in" in refused("moons.inner:task")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import math\n\n1 / 0\n", "ZeroDivisionError: division by zero (WHERE:3)"),
        ("import no_such_package\n", "ModuleNotFoundError: No module named 'no_such_package' (WHERE:1)"),
        ("def task(shard:\n", "SyntaxError: '(' was never closed (WHERE:1)"),
        ("import sys\nsys.exit('bye')\n", "SystemExit: bye (WHERE:2)"),
        ("import json\njson.loads('{')\n", None),
    ],
)
def test_a_module_that_fails_says_what_and_where(folder: Path, text: str, told: str | None) -> None:
    write(folder, "broken", text)
    message = refused("broken:task")
    assert message.startswith("task.name = 'broken:task': importing broken failed: ")
    if told:
        assert message.endswith(told.replace("WHERE", str(folder / "broken.py")))
    else:  # the place is where the user's own code was, not inside json
        assert message.endswith(f"({folder / 'broken.py'}:2)")


FACTORIES = """\
from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from gossipdistill import Task

if TYPE_CHECKING:
    from gossipdistill import Shard


def fine(shard: Shard, kind: Literal["a", "b"] = "a", rate: Annotated[float, Field(gt=0)] = 1.0, deep: bool = False,
         widths: tuple[int, ...] = (), names: list[str] | None = None, other: Shard | None = None, free=None) -> Task:
    seen.clear()
    seen.update(kind=kind, rate=rate, deep=deep, widths=widths, names=names, other=other, free=free)
    x = torch.rand(4, 2)
    return Task(model=lambda: nn.Linear(2, 1), train=(x, x), validation=(x, x), loss=nn.functional.mse_loss)

seen = {}

def nothing(shard): pass
def no_shard(): pass
def must(shard, size: int): return fine(shard)
def anything(shard, **options): seen.update(options); task = fine(shard); seen.update(options); return task
def fails(shard): return torch.zeros(2) @ torch.zeros(3)
def ill_formed(shard):
    return Task(model=lambda: nn.Linear(2, 1), train=(torch.rand(3, 2), torch.rand(2)),
                validation=(torch.rand(3, 2), torch.rand(3)), loss=nn.functional.mse_loss)
class Taking:
    def task(self, shard): return fine(shard)
taking = Taking()
"""


@pytest.mark.parametrize(
    ("options", "key", "value"),
    [
        ({"widths": [512, 512]}, "widths", (512, 512)),
        ({"widths": "512,512"}, "widths", (512, 512)),
        ({"widths": "512, 256,"}, "widths", (512, 256)),
        ({"widths": 512}, "widths", (512,)),
        ({"widths": []}, "widths", ()),
        ({"rate": 3}, "rate", 3.0),
        ({"kind": "b"}, "kind", "b"),
        ({"deep": True}, "deep", True),
        ({"names": ["x"]}, "names", ["x"]),
        ({"other": 5}, "other", 5),
        ({"free": {"a": 1}}, "free", {"a": 1}),
    ],
)
def test_values_are_taken_as_toml_gives_them(folder: Path, options: dict[str, object], key: str, value: object) -> None:
    write(folder, "mine", FACTORIES)
    load_task("mine:fine", Shard(0, 1), options)
    found = sys.modules["mine"].seen[key]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"kimd": "a"},
            "task.kimd = 'a': this task has no such option; did you mean kind?; "
            "accepted: kind, rate, deep, widths, names, other, free",
        ),
        (
            {"exmaples_per_peer": 3},
            "task.exmaples_per_peer = 3: this task has no such option; did you mean examples_per_peer or "
            "classes_per_peer?; accepted: kind, rate, deep, widths, names, other, free",
        ),
        ({"kind": "c"}, "task.kind = 'c': should be 'a' or 'b'; accepted: 'a' | 'b'"),
        ({"rate": "fast"}, "task.rate = 'fast': should be a valid number; accepted: float"),
        ({"rate": -1.0}, "task.rate = -1.0: should be greater than 0; accepted: float"),
        ({"deep": 1}, "task.deep = 1: should be a valid boolean; accepted: bool"),
        (
            {"widths": "a,b"},
            "task.widths = ('a', 'b'): should be a valid integer, unable to parse string as an integer; "
            "accepted: tuple[int, ...]",
        ),
        ({"widths": [1.5]}, "task.widths = (1.5,): should be a valid integer; accepted: tuple[int, ...]"),
        ({"widths": True}, "task.widths = True: should be a valid tuple; accepted: tuple[int, ...]"),
    ],
)
def test_options_that_do_not_fit_are_refused(folder: Path, options: dict[str, object], message: str) -> None:
    write(folder, "mine", FACTORIES)
    assert refused("mine:fine", options) == message


def test_other_mistakes_in_a_factory(folder: Path) -> None:
    write(folder, "mine", FACTORIES)
    assert refused("mine:nothing") == "task.name = 'mine:nothing': must return a gossipdistill.Task, returned NoneType"
    assert refused("mine:no_shard") == "task.name: no_shard() must take the shard as its first parameter"
    assert refused("mine:must") == "task.size: has no default and must be set; accepted: int"
    assert task_options("mine:must")["size"].default is REQUIRED
    line = FACTORIES[: FACTORIES.index("def fails")].count("\n") + 1
    failed = refused("mine:fails")
    assert failed.startswith("task.name = 'mine:fails': failed: RuntimeError: inconsistent tensor size")
    assert failed.endswith(f"({folder / 'mine.py'}:{line})")
    line = FACTORIES[: FACTORIES.index("def ill_formed")].count("\n") + 2
    problem = "Task.train: 3 inputs and 2 labels; they must be as many"
    assert refused("mine:ill_formed") == f"{folder / 'mine.py'}:{line}: {problem}"


def test_free_options_and_methods_are_taken(folder: Path) -> None:
    write(folder, "mine", FACTORIES)
    load_task("mine:anything", Shard(0, 1), {"one": 1})
    assert sys.modules["mine"].seen["one"] == 1
    assert task_options("mine:anything") == {}
    load_task("mine:taking.task", Shard(0, 1), {})


def test_missing_data_passes_through(folder: Path) -> None:
    write(
        folder,
        "gone",
        "from gossipdistill.errors import DataMissingError as Gone\n\ndef task(shard):\n    raise Gone('no file')\n",
    )
    with pytest.raises(DataMissingError, match="no file"):
        load_task("gone:task", Shard(0, 1), {})


def test_loading_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    load_task("digits", Shard(0, 4), {})
    load_task("quadratic", Shard(0, 4), {})
    assert torch.equal(before, torch.get_rng_state())
