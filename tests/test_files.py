"""Files that hold anything: bytes and JSON are read whole and bounded, or refused with a reason."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import BaseModel, ConfigDict, Field

from gossipdistill.files import UnusableError, check_shape, parse_json, read_bytes, read_object


class Peer(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")

    name: str
    steps: Annotated[int, Field(ge=0)]
    ages: dict[str, float] = {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no JSON: Expecting value (line 1, column 1)"),
        ('{"a": 1', "is no JSON"),
        ("[" * 100_000, "is nested more than 32 deep"),
        ("[" * 40 + "]" * 40, "is nested more than 32 deep"),
        ('{"a":' * 40 + "1" + "}" * 40, "is nested more than 32 deep"),
        ('{"a": NaN}', "holds a number that is not finite: NaN"),
        ('{"a": -Infinity}', "holds a number that is not finite: -Infinity"),
        ('{"a": 1e999}', "holds a number that is not finite: inf"),
        ('{"a": 1' + "0" * 5000 + "}", "holds a number with too many digits"),
        ('{"a": 1' + "0" * 400 + "}", "holds a number of 1329 bits, at most 128"),
        ('{"a": 1, "b": 2, "a": 3}', "has the key 'a' twice in one object"),
        ('[{"a": {"\\u001b[2J": 1, "\\u001b[2J": 3}}]', "has the key '\\x1b[2J' twice in one object"),
    ],
)
def test_json_that_is_refused(text: str, words: str) -> None:
    with pytest.raises(UnusableError) as caught:
        parse_json(text)
    assert words in str(caught.value)


def test_json_that_python_writes_and_others_do_not() -> None:
    assert parse_json('{"a": Infinity}', nonfinite=True) == {"a": float("inf")}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"steps": 1}, "name: is missing"),
        ({"name": 3, "steps": 1}, "name = 3: should be a valid string"),
        ({"name": "ada", "steps": 1.0}, "steps = 1.0: should be a valid integer"),
        ({"name": "ada", "steps": True}, "steps = True: should be a valid integer"),
        ({"name": "ada", "steps": -1}, "steps = -1: should be greater than or equal to 0"),
        ({"name": "ada", "steps": 1, "ages": {"bo\n": "x"}}, "ages.bo\\n = 'x': should be a valid number"),
        ([], "should be a valid dictionary or instance of Peer"),
    ],
)
def test_a_shape_names_the_key_at_fault(value: object, words: str) -> None:
    with pytest.raises(UnusableError) as caught:
        check_shape(Peer, value)
    assert words in str(caught.value)


def test_no_more_is_read_than_may_be(tmp_path: Path) -> None:
    file = tmp_path / "large"
    with file.open("wb") as opened:
        opened.truncate(1 << 40)  # a terabyte of nothing
    with pytest.raises(UnusableError, match="is too large: 1099511627776 bytes, at most 100"):
        read_bytes(file, 100)
    assert read_bytes(Path("/proc/self/cmdline"), 1 << 20)  # its size is said to be 0


def test_only_ordinary_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, words in (
        (tmp_path / "pipe", "a pipe or a device"),
        (Path("/dev/zero"), "a device"),
        (tmp_path, "folder"),
    ):
        with pytest.raises(UnusableError, match=words):
            read_bytes(path, 100)
    with pytest.raises(UnusableError) as caught:
        read_bytes(tmp_path / "none")
    assert caught.value.missing


def test_an_object_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(UnusableError, match="holds no JSON object, but a list"):
        read_object(tmp_path / "list.json")
