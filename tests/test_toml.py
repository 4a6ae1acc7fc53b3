"""What people write in place of TOML is named for what it is, with its line and its key."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gossipdistill.bundled import read_toml
from gossipdistill.config.layers import file_layer
from gossipdistill.config.resolving import resolve
from gossipdistill.errors import ConfigError
from gossipdistill.files import UnusableError
from gossipdistill.tasks import Shard, load_task
from gossipdistill.toml import parse_toml

RUN = 'steps = 100\n[train]\nlr = 0.05\t# slow\n[task]\nname = "digits"\n'

SLIPS = {
    "[train]\nlr = 0,05": "line 2: `lr = 0,05` has a decimal comma; write 0.05",
    "lr = -1,5e-3 # slow": "has a decimal comma; write -1.5e-3",
    "set = {x = 0,5}": "has a decimal comma; write 0.5",
    "steps = 1,000": "has a decimal comma, or one between thousands; write 1.000 or 1000",
    "lr = 1\n\nlr = 2": "duplicate key: lr stands in line 1 and again in line 3",
    "[train]\nlr = 1\n[task]\nlr = 1\n'lr' = 2": "duplicate key: 'lr' stands in line 4 and again in line 5",
    '[[peer]]\nname = "a"\n[[peer]]\nname = "b"\nname = "c"': (
        "duplicate key: name stands in line 4 and again in line 5"
    ),
    "train.lr = 1\n[task]\n[train]\nlr = 2": "[train] in line 3 is there already: line 1 has train.lr",
    "[a]\nx = 1\n[b]\n[a]\ny = 2": "duplicate table: [a] stands in line 1 and again in line 4",
    'task = "digits"\n[task]\nmodel = "mlp"': "[task] in line 2 is a table, and line 1 has task as a value",
    "a = 1\na.b = 2": "a.b in line 2 does not go with a in line 1: a value has no keys",
    "a = {x = 1, x = 2}": "duplicate key: 'x' stands twice in line 1",
    "steps: 100": "line 1: `steps: 100` has a colon in place of =",
    "task.name := 3": "is not valid TOML",
    "schedule = cosine": 'has a text without quotation marks; write "cosine"',
    "data = C:\\new\\data": "has a text without quotation marks; write 'C:\\new\\data'",
    'data = "C:\\data"': "has a \\ between double quotes",
    "name = “digits”": "holds a typographic quotation mark; write a straight one",
    'name = "digits\nsteps = 3': 'line 1: `name = "digits` has a text without its closing quotation mark',
    "steps =": "Invalid value: `steps =` has none (line 1)",
    "fetch = True": "has true or false with a capital letter",
    "steps = None": "TOML has no such value: leave the line out",
    "fetch = yes": "write true or false",
    "lr = .05": "has a number without a digit before its point; write 0.05",
    "lr = 5.": "has a number without a digit after its point; write 5.0",
    "seed = 007": "has a number that begins with 0",
    "loss = 5 %": "has a percent sign",
    "seconds = 60s": "has a unit; write the number alone: 60",
    "batch size = 32": "has a space in its key",
    "[train\nlr = 1": "lacks the ] of its table",
    "steps = 100;": "ends with a semicolon",
    "steps = 100,": "ends with a comma",
    "// a comment": "a comment begins with #",
    '{"steps": 100}': "looks like JSON",
    "- steps: 100": "looks like YAML",
    "drops = [0.4, 0.8\nlr = 1": "opens a list that is not closed with ]",
    "a = " + "[" * 3000: "is nested too deeply",
    "a" + ".a" * 3000 + " = 1": "is nested more than 32 deep",
    "steps = 1" + "0" * 5000: "line 1: a number has too many digits",
    "steps = 0x" + "f" * 9000: "holds a number of 36000 bits, at most 63",
    'name = "\x1b[2J': "\\x1b",
    "name = " + "=" * 100_000: "is not valid TOML",
}


@pytest.mark.parametrize(("text", "words"), SLIPS.items(), ids=[words[:50] for words in SLIPS.values()])
def test_a_slip_is_named(text: str, words: str) -> None:
    with pytest.raises(UnusableError) as caught:
        parse_toml(text)
    said = str(caught.value)
    assert words in said
    assert said.isprintable()
    assert len(said) < 500


@pytest.mark.parametrize(
    "content",
    [
        RUN.encode(),
        b"\xef\xbb\xbf" + RUN.encode(),
        RUN.replace("\n", "\r\n").encode(),
        b"\xef\xbb\xbf" + RUN.replace("\n", "\r\n").encode(),
        RUN.replace("\n", "\r").encode(),
    ],
    ids=["plain", "byte order mark", "Windows", "both", "CR alone"],
)
def test_what_editors_do_to_a_file_changes_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.toml").write_bytes(content)
    assert read_toml(tmp_path / "run.toml") == {"steps": 100, "train": {"lr": 0.05}, "task": {"name": "digits"}}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (RUN.encode("utf-16"), "is not UTF-8 text, but UTF-16; save it as UTF-8"),
        (RUN.encode("utf-16-le"), "is no text, but binary"),
        ("a = 1\nname = 'ü'".encode("latin-1"), "is not UTF-8 text (line 2, byte 14)"),
        (bytes(range(256)), "is not UTF-8 text, but binary"),
        (b"", "run.toml: is empty"),
        (b" \n", "run.toml: is empty"),
    ],
)
def test_another_kind_of_file_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "run.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        file_layer(file)
    assert str(caught.value).startswith(str(file))
    assert words in str(caught.value)


def test_what_is_no_file_is_named_and_never_waited_for(tmp_path: Path) -> None:
    (tmp_path / "first.toml").write_text(RUN)
    (tmp_path / "folder.toml").mkdir()
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "loop.toml").symlink_to("loop.toml")
    for name, words in {
        "frist.toml": "cannot be read: No such file or directory; did you mean first.toml?",
        "folder.toml": "is a folder, not a file",
        "pipe.toml": "is a pipe or a device, not an ordinary file",
        "loop.toml": "cannot be read: Too many levels of symbolic links",
        "first.toml/x.toml": "cannot be read: Not a directory",
        f"{'x' * 300}.toml": "cannot be read: File name too long",
        "nul\0.toml": "has a name that no file can have",
    }.items():
        with pytest.raises(ConfigError) as caught:
            file_layer(tmp_path / name)
        assert words in str(caught.value)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("value", ["inf", "nan", "-inf"])
def test_no_key_of_a_run_is_infinite(tmp_path: Path, value: str) -> None:
    (tmp_path / "run.toml").write_text(f"steps = 3\n[train]\nlr = {value}\n")
    with pytest.raises(ConfigError, match=r"run\.toml: train\.lr = "):
        resolve([file_layer(tmp_path / "run.toml")])


def test_a_decimal_comma_in_a_text_is_named_too(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('steps = 3\n[train]\nlr = "0,05"\n')
    with pytest.raises(ConfigError, match=r"it has a decimal comma; write 0\.05"):
        resolve([file_layer(tmp_path / "run.toml")])


def test_a_decimal_comma_in_an_option_of_a_task_is_named_too() -> None:
    with pytest.raises(ConfigError, match=r"it has a decimal comma; write 0\.5"):
        load_task("quadratic", Shard(0, 1, "disjoint"), {"noise": "0,5"})
