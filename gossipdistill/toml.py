"""TOML as people write it: parsed with bounds, and each usual mistake reported with its line and its key."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from typing import Any, NamedTuple

from gossipdistill.files import UnusableError, refuse_extremes
from gossipdistill.printable import printable

_INTEGER_BITS_MAX = 63
"""A whole number has at most this many bits: TOML's have 64, one of them for the sign."""
_PLACE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")
_WORD = r"""(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')"""
_KEY = re.compile(rf"\s*({_WORD}(?:\s*\.\s*{_WORD})*)\s*=")
_TABLE = re.compile(rf"\s*(\[\[?)\s*({_WORD}(?:\s*\.\s*{_WORD})*)\s*\]")
_TWICE = re.compile(r"Cannot declare \((.*)\) twice")
_LINE_CHARACTERS_MAX = 200
"""At most this many characters of a line are examined and shown."""
_DIGITS_MAX = 4300
"""A decimal number has at most this many digits: Python reads no longer one."""


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of a TOML text.

    Raises:
        UnusableError: when it is none; the reason names line and key where it can.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UnusableError(f"is not valid TOML: {_diagnosis(text, str(error))}") from None
    except RecursionError:
        raise UnusableError("is nested too deeply") from None
    except ValueError:
        line = next((n for n, one in _numbered(text) if re.search(rf"\d[\d_]{{{_DIGITS_MAX},}}", one)), 0)
        raise UnusableError(f"line {line}: a number has too many digits") from None
    refuse_extremes(data, _INTEGER_BITS_MAX, nonfinite=True)
    return data


def decimal_comma(value: object) -> str:
    """The text to add to the refusal of a value such as "0,05" where a number is meant; empty otherwise."""
    found = re.fullmatch(r"([+-]?\d{1,20}),(\d{1,20})", value.strip()) if isinstance(value, str) else None
    return f" (it has a decimal comma; write {found[1]}.{found[2]})" if found is not None else ""


class _Slip(NamedTuple):
    """A usual mistake: the pattern of its line, and the message about it. `{key}` and named groups are filled in."""

    pattern: re.Pattern[str]
    words: str


_SLIPS = tuple(
    _Slip(re.compile(pattern), words)
    for pattern, words in (
        (r"[“”„«»‘’‚]", 'holds a typographic quotation mark; write a straight one: "'),
        (
            r"=\s*(?P<a>[+-]?\d+),(?P<b>\d{3})\s*(#|$)",
            "has a decimal comma, or one between thousands; write {a}.{b} or {a}{b}",
        ),
        (r"=\s*(?P<a>[+-]?\d+),(?P<b>\d+([eE][+-]?\d+)?)\s*([#,}]|$)", "has a decimal comma; write {a}.{b}"),
        (rf"^\s*{_WORD}\s*:=", "has := in place of ="),
        (rf"^\s*{_WORD}(\.{_WORD})*\s*:(\s|$)", "has a colon in place of ="),
        (r"^\s*[{]", "looks like JSON; TOML has lines such as: lr = 0.05"),
        (r"^\s*-\s", "looks like YAML; TOML has lines such as: lr = 0.05"),
        (r"^\s*(//|;|--|%|/\*)", "is no comment; a comment begins with #"),
        (r"=\s*(True|False)\s*(#|$)", "has true or false with a capital letter; write it small"),
        (r"=\s*(None|none|null|nil)\s*(#|$)", "sets nothing; TOML has no such value: leave the line out"),
        (r"=\s*(yes|no|on|off)\s*(#|$)", "has a word that TOML does not know; write true or false"),
        (r"=\s*(?P<a>[+-]?)\.(?P<b>\d+)", "has a number without a digit before its point; write {a}0.{b}"),
        (r"=\s*(?P<a>[+-]?\d+)\.\s*([#,\]}]|$)", "has a number without a digit after its point; write {a}.0"),
        (r"=\s*[+-]?0\d+\s*(#|$)", "has a number that begins with 0; leave the zeros out"),
        (r"=\s*(?P<a>[+-]?[\d.]+)\s*%", "has a percent sign; write a share, such as 0.05 for 5 %"),
        (r"=\s*(?P<a>[+-]?[\d.]+)\s*(?P<b>[A-Za-z]+)\s*(#|$)", "has a unit; write the number alone: {a}"),
        (r"=\s*[^#]*;\s*$", "ends with a semicolon; leave it out"),
        (r"=\s*[^\[{{#]*,\s*$", "ends with a comma; leave it out"),
        (r"=\s*\"[^\"]*\\", "has a \\ between double quotes; write single ones: 'C:\\data'"),
        (r"=\s*(\"[^\"]*|'[^']*)$", "has a text without its closing quotation mark"),
        (r"=\s*[\[][^\]]*$", "opens a list that is not closed with ]"),
        (r"=\s*(?P<a>[A-Za-z_./~][^\"'=#]*?\\[^\"'=#]*?)\s*(#|$)", "has a text without quotation marks; write '{a}'"),
        (r"=\s*(?P<a>[A-Za-z_./~][^\"'=#]*?)\s*(#|$)", 'has a text without quotation marks; write "{a}"'),
        (r"^\s*[A-Za-z0-9_.-]+(\s+[A-Za-z0-9_.-]+)+\s*=", "has a space in its key; write _ or put it in quotes"),
        (r"^\s*\[[^\]]*$", "lacks the ] of its table"),
        (r"^\s*[A-Za-z0-9_.-]+\s*$", "has a key without = and a value"),
    )
)


def _diagnosis(text: str, message: str) -> str:
    place = _PLACE.search(message)
    problem = message[: place.start()] if place else message
    lines = text.split("\n")
    at = int(place[1]) if place and place[1] else max((n for n, line in _numbered(text) if line.strip()), default=1)
    if problem == "Unclosed array":  # reported for the line where reading stopped; use the one that opens it
        at = max((n for n, line in _numbered(text) if n <= at and re.search(r"=\s*\[[^\]]*$", line)), default=at)
    if (twice := _twice(text, problem, at)) is not None:
        return printable(twice)
    line = lines[min(at, len(lines)) - 1].strip()[:_LINE_CHARACTERS_MAX]
    if problem == "Invalid value" and re.search(r"=\s*(#.*)?$", line):
        return f"Invalid value: `{printable(line)}` has none (line {at})"
    for slip in _SLIPS:
        found = slip.pattern.search(line)
        if found is not None:
            return f"line {at}: `{printable(line)}` {printable(slip.words.format(**found.groupdict()))}"
    return f"{printable(problem)} (line {at}: `{printable(line)}`)"


# --- what is given twice ----------------------------------------------------------------------------------------------


class _Given(NamedTuple):
    """A key or a table as it is written in a line. An entry of a list of tables has its number in `name`."""

    line: int
    name: tuple[str, ...]
    key: str


def _twice(text: str, problem: str, at: int) -> str | None:
    """The message about a key or a table that is there already; None where the problem is another one."""
    tables, keys = _given(text, at)
    declared = _TWICE.fullmatch(problem)
    if declared is not None and tables:
        last = tables[-1]
        if first := next((one for one in tables[:-1] if one.name == last.name), None):
            return f"duplicate table: [{last.key}] stands in line {first.line} and again in line {last.line}"
        if inner := next((one for one in keys if one.name[: len(last.name)] == last.name), None):
            return f"[{last.key}] in line {last.line} is there already: line {inner.line} has {inner.key}"
        return f"duplicate table: [{last.key}] in line {last.line} is there already, as another kind of table"
    if problem.startswith("Duplicate inline table key"):
        return f"duplicate key: {problem.removeprefix('Duplicate inline table key ')} stands twice in line {at}"
    if problem not in ("Cannot overwrite a value", "Cannot mutate immutable namespace"):
        return None
    if not (tables or keys):
        return None
    last = max([*tables[-1:], *keys[-1:]], key=lambda one: one.line)
    before = [one for one in keys if one.line < last.line]
    if first := next((one for one in before if one.name == last.name), None):
        if last in tables:
            return f"[{last.key}] in line {last.line} is a table, and line {first.line} has {first.key} as a value"
        return f"duplicate key: {last.key} stands in line {first.line} and again in line {last.line}"
    for one in before:
        if one.name == last.name[: len(one.name)] or one.name[: len(last.name)] == last.name:
            return f"{last.key} in line {last.line} does not go with {one.key} in line {one.line}: a value has no keys"
    return None


def _given(text: str, until: int) -> tuple[list[_Given], list[_Given]]:
    """The tables and the keys up to a line. Multi-line texts may be misread; this is only for a hint."""
    tables: list[_Given] = []
    keys: list[_Given] = []
    here: tuple[str, ...] = ()
    count = 0
    for number, line in _numbered(text):
        if number > until:
            break
        if table := _TABLE.match(line):
            here = _parts(table[2])
            tables.append(_Given(number, here, table[2]))
            if table[1] == "[[":
                count += 1
                here = (*here, f"#{count}")
        elif key := _KEY.match(line):
            keys.append(_Given(number, here + _parts(key[1]), key[1]))
    return tables, keys


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in re.findall(_WORD, dotted))


def _numbered(text: str) -> Iterator[tuple[int, str]]:
    return enumerate(text.split("\n"), start=1)
