"""Texts from elsewhere do nothing to a terminal."""

from __future__ import annotations

import io

import pytest
from rich.table import Table

from gossipdistill.cli.options import err_console, out_console
from gossipdistill.errors import ConfigError, nearest
from gossipdistill.observe.fitting import PlainConsole
from gossipdistill.printable import printable, printable_all, printable_lines, shown
from gossipdistill.runtime import child

EVIL = {
    "\x1b[31mred": "\\x1b[31mred",
    "\x1b]0;title\x07": "\\x1b]0;title\\x07",
    "a\x7fb": "a\\x7fb",
    "\x9b2J": "\\x9b2J",
    "a\rb": "a\\rb",
    "a\nb": "a\\nb",
    "\u202eevil": "\\u202eevil",
    "\u2066x\u2069": "\\u2066x\\u2069",
    "a\u2028b": "a\\u2028b",
    "\ud800": "\\ud800",
    "\0": "\\x00",
    "a\tb": "a b",
    "5\u00a0%": "5 %",
    "\ufeffx": "\\ufeffx",
}


@pytest.mark.parametrize(("text", "expected"), EVIL.items())
def test_what_acts_on_a_terminal_becomes_visible(text: str, expected: str) -> None:
    assert printable(text) == expected
    assert printable(expected) == expected
    assert printable_all({text: [text, {"a": (text, 1, None)}]}) == {expected: [expected, {"a": [expected, 1, None]}]}


def test_all_that_is_printable_stays() -> None:
    text = "Grüße, 你好, ± 3 → «ça», 🦊 and [red]"
    assert printable(text) == text
    assert printable_lines(f"{text}\n\x1b\r\n") == f"{text}\n\\x1b\n"


def test_a_value_is_shown_in_one_line_of_some_length() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert shown("a\nb") == "'a\\nb'"
    assert shown(10**5000).startswith("<int: ValueError")
    assert shown(deep).startswith("<list: RecursionError")
    assert shown("x" * 10**6).endswith("... (1000002 characters)")
    assert len(shown(["\x1b"] * 10**4)) < 300
    while deep:
        deep = deep[0]  # type: ignore[assignment]


def test_an_error_says_what_it_refuses_in_printable_characters() -> None:
    error = ConfigError("is odd", file="\x1b.toml", key="a\nb", value=["\u202e"])
    assert str(error) == "\\x1b.toml: a\\nb = ['\\u202e']: is odd"
    assert nearest("\x1b[31m", ["\x1b[32m"]) == "did you mean \\x1b[32m?"


@pytest.mark.parametrize("terminal", [False, True])
def test_a_console_says_what_it_is_given_to_say(terminal: bool) -> None:
    out = io.StringIO()
    console = PlainConsole(file=out, width=80, force_terminal=terminal, markup=False, emoji=False, highlight=False)
    table = Table("[red]head[/]\x1b[2J")
    table.add_row("[/] :smile: \x9b2J\u202e")
    # A table measures what it is given, and may cut what became longer; what draws tables makes their texts printable.
    console.print(table, "[bold]x[/bold]\x1b]0;t\x07", "two\nlines", style="red" if terminal else "")
    said = out.getvalue()
    for text in ("[red]head[/]", "[/] :smile:", "[bold]x[/bold]\\x1b]0;t", "two", "lines"):
        assert text in said
    rest = said.replace("\x1b[31m", "").replace("\x1b[1;31m", "").replace("\x1b[0m", "").replace("\x1b[1m", "")
    assert all(line.isprintable() for line in rest.split("\n"))


def test_both_consoles_of_the_command_line_are_such_ones() -> None:
    assert isinstance(out_console, PlainConsole)
    assert isinstance(err_console, PlainConsole)


def test_the_traceback_of_a_worker_does_nothing_to_the_terminal_that_shows_its_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    try:
        raise ValueError("\x1b[2J\x9b\u202e\r")
    except ValueError:
        child._log_traceback()
    said = capsys.readouterr().err
    assert "ValueError: \\x1b[2J\\x9b\\u202e" in said
    assert all(line.isprintable() for line in said.split("\n"))
