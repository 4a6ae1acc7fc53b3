"""Whose fault an exception is: any out of a user's function is told in one line, with their file and line."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from gossipdistill.errors import ConfigError, DataMissingError, UserCodeError
from gossipdistill.runtime import stopping
from gossipdistill.user_code import TorchSettings, called, came_from, frame_of_user, told, users_code, users_setup

THEIRS = """\
import json
import sys

import torch


class Mute(Exception):
    def __str__(self):
        raise ValueError("no text either")


class Bare(BaseException):
    pass


def mute(): raise Mute
def bare(): raise Bare("neither this nor that")
def leave(): sys.exit(3)
def leave_quietly(): raise SystemExit
def stop(): next(iter(()))
def deep(): return deep()
def full(): raise MemoryError
def coloured(): raise ValueError("\\x1b[31mred\\r\\nand\\ttwo \\u202e lines")
def long(): raise RuntimeError("x" * 1_000_000)
def inside_json(): json.loads("{")
def inside_torch(): torch.zeros(2) @ torch.zeros(3)
def missing(): return {}["key"]
def group(): raise ExceptionGroup("several", [ValueError("one"), KeyError("two")])
def generated(): return list(raising())
def raising():
    yield 1
    raise RuntimeError("half way")
"""


@pytest.fixture
def theirs(tmp_path: Path) -> ModuleType:
    path = tmp_path / "theirs.py"
    path.write_text(THEIRS)
    spec = importlib.util.spec_from_file_location("theirs", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def own_settings() -> Iterator[None]:
    before = torch.get_default_dtype()
    yield
    TorchSettings.forget()
    torch.set_default_dtype(before)
    torch.set_grad_enabled(True)


EXPECTED = {
    "mute": "Mute: its text cannot be had (ValueError)",
    "bare": "Bare: neither this nor that",
    "leave": "SystemExit: 3",
    "leave_quietly": "SystemExit",
    "stop": "StopIteration",
    "deep": "RecursionError: maximum recursion depth exceeded",
    "full": "MemoryError",
    "coloured": "ValueError: \\x1b[31mred and two \\u202e lines",
    "long": "RuntimeError: " + "x" * 400 + "...",
    "inside_json": "JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
    "inside_torch": "RuntimeError: ",
    "missing": "KeyError: 'key'",
    "group": "ExceptionGroup: several (2 sub-exceptions)",
    "generated": "RuntimeError: half way",
}


@pytest.mark.parametrize("name", EXPECTED)
def test_any_exception_is_told_in_one_printable_line_with_their_file_and_line(theirs: ModuleType, name: str) -> None:
    with pytest.raises(UserCodeError) as caught, users_code("Task.loss"):
        getattr(theirs, name)()
    line = 1 + THEIRS[: THEIRS.index("half way" if name == "generated" else f"def {name}(")].count("\n")
    message = str(caught.value)
    assert message.startswith(f"Task.loss: failed: {EXPECTED[name]}")
    assert message.endswith(f"({theirs.__file__}:{line})")
    assert message.isprintable()
    assert len(message) < 700
    assert (caught.value.exit_code, caught.value.what) == (3, "Task.loss")


@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit])
def test_what_is_not_of_the_users_code_passes(error: type[BaseException]) -> None:
    with pytest.raises(error), users_code("Task.loss"):
        raise error
    with pytest.raises(error), users_setup("Task.model"):
        raise error


def test_errors_of_this_package_pass_also_through_several_calls(theirs: ModuleType) -> None:
    with pytest.raises(DataMissingError), users_setup("the task"):
        raise DataMissingError("no file")
    with pytest.raises(UserCodeError) as caught, users_code("train.optimizer"), users_code("Task.loss"):
        theirs.leave()
    assert caught.value.what == "Task.loss"  # the closer one says it


def test_a_handler_of_ours_may_end_the_process_from_within(monkeypatch: pytest.MonkeyPatch) -> None:
    """It interrupts the user's code at any place: a second Ctrl-C, for instance."""
    source = "def leave(code):\n    raise SystemExit(code)\n"
    names: dict[str, Any] = {}
    exec(compile(source, stopping.__file__, "exec"), names)
    monkeypatch.setattr(stopping, "_leave_at_once", names["leave"])
    stop = stopping.StopRequest()
    stop.reason = "interrupted"
    with pytest.raises(SystemExit), users_code("Task.loss"):
        stop._on_signal(15, None)


def test_the_place_is_the_users_own_frame_else_where_the_task_is_made(theirs: ModuleType) -> None:
    file = str(theirs.__file__)
    error = raised(theirs.inside_json)
    assert frame_of_user(error) == f"{file}:{1 + THEIRS[: THEIRS.index('def inside_json')].count(chr(10))}"
    assert came_from(error, Path(file).parent)
    assert not came_from(error, Path(file).parent / "elsewhere")
    assert came_from(error, Path("/nowhere"), file)
    error = raised(lambda: torch.nn.functional.cross_entropy(torch.zeros(1, 2), torch.tensor([5])))
    error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next.tb_next  # type: ignore[union-attr]
    assert frame_of_user(error) is None
    assert told(error, home="/home/me/t.py:33") == "IndexError: Target 5 is out of bounds. (/home/me/t.py:33)"
    assert "functional.py" in told(error)
    assert told(raised(lambda: json.loads("{")), source=json.decoder.__file__).count("json/decoder.py") == 1


def test_setup_names_key_value_and_what_was_tried(theirs: ModuleType) -> None:
    with (
        pytest.raises(
            ConfigError, match=r"^train.optimizer = 'm:Lion': refuses these options: KeyError: 'key' \(.*:\d"
        ),
        users_setup("the optimizer", key="train.optimizer", value="m:Lion", problem="refuses these options"),
    ):
        theirs.missing()


def test_a_function_of_the_users_keeps_its_name_and_its_answers(theirs: ModuleType) -> None:
    def plus(a: int, b: int = 1) -> int:
        """Adds."""
        return a + b

    inside = called(plus, "Task.loss")
    assert (inside(1), inside(1, b=2), inside.__doc__) == (2, 3, "Adds.")
    with pytest.raises(UserCodeError, match=r"Task.loss: failed: TypeError"):
        inside("one")  # type: ignore[arg-type]


# --- torch's settings -------------------------------------------------------------------------------------------------


def test_torchs_settings_hold_inside_the_users_code_only() -> None:
    with users_setup("the task"):
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        torch.set_default_device("meta")
    assert (torch.get_default_dtype(), torch.is_grad_enabled()) == (torch.float32, True)
    assert torch.zeros(1).device.type == "cpu"
    for context in (users_code("Task.loss"), users_setup("Task.model")):
        with context:
            made = torch.zeros(1)
            assert (made.dtype, made.device.type, torch.is_grad_enabled()) == (torch.float64, "meta", True)
            with users_code("Task.loss"):  # one inside another
                assert torch.zeros(1).dtype is torch.float64
            assert torch.zeros(1).dtype is torch.float64
        assert torch.zeros(1).dtype is torch.float32
        assert torch.zeros(1).device.type == "cpu"


def test_gradient_mode_inside_is_that_of_the_caller(theirs: ModuleType) -> None:
    with users_setup("the task"):
        torch.set_default_dtype(torch.float64)
    with torch.no_grad(), users_code("Task.model"):
        assert not torch.is_grad_enabled()
    with users_setup("Task.model"):
        torch.set_grad_enabled(False)
    assert torch.is_grad_enabled()
    torch.set_grad_enabled(False)
    with pytest.raises(UserCodeError), users_setup("Task.model"):
        theirs.full()
    assert not torch.is_grad_enabled()
    torch.set_grad_enabled(True)
    assert torch.is_grad_enabled()


def raised(function: Callable[[], object]) -> Exception:
    try:
        function()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")
