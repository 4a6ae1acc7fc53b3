"""Files that are spoilt with knowledge of their structure: a JSON or TOML value changed and written anew, or its bytes.

All chance comes from one `random.Random`, so that a seed and a number say which file it was.
"""

from __future__ import annotations

import copy
import json
import math
import random
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Raw:
    """Text that is written as it is, where a value would stand."""

    text: str


@dataclass(frozen=True)
class Twins:
    """An object in which one key stands twice."""

    entries: dict[str, Any]
    key: str


EVIL = "\x1b[2J\x1b]0;t\x07\x9b31m\x7f\u202e\u2066\u2028[red][/]\nbo finished"
_TEXTS = (
    "",
    "ada",
    "ADA",
    EVIL,
    "\ud800",
    "x" * 5000,
    "0",
    "-1",
    "1e999",
    "nan",
    "null",
    "../../etc/passwd",
    "a:b",
    "{who}",
    "\0",
    "127.0.0.1:7400",
    "[::1]:7400",
    "4",
    "9" * 5000,
    "digits",
    "finished",
    "0,05",
    "*",
    "\u00a0",
    "%s%n",
)
_NUMBERS = (
    0,
    1,
    -1,
    2,
    3,
    255,
    256,
    65_535,
    65_536,
    2**31,
    2**53,
    2**63 - 1,
    2**63,
    -(2**63),
    2**64,
    2**127,
    2**200,
    10**400,
    0.0,
    -0.0,
    0.5,
    1.5,
    -1.5,
    1e-320,
    1e308,
    math.nan,
    math.inf,
    -math.inf,
)
_RAW = (
    Raw("1" + "0" * 5000),
    Raw("1" + "0" * 4000),
    Raw("-1" + "0" * 5000),
    Raw("1e99999"),
    Raw("[" * 300 + "]" * 300),
    Raw("[" * 5000 + "]" * 5000),
    Raw('{"a":' * 300 + "1" + "}" * 300),
    Raw('{"a":' * 5000 + "1" + "}" * 5000),
    Raw('"\\ud800"'),
    Raw('"\\u001b[31m"'),
    Raw("0x" + "f" * 200),
    Raw("1979-05-27"),
    Raw("1979-05-27T07:32:00Z"),
    Raw("07:32:00"),
    Raw("0,05"),
    Raw("{a = 1}"),
    Raw("True"),
    Raw("1_000"),
    Raw("'x'"),
    Raw("01"),
    Raw(""),
)
Value = Any


@dataclass
class Spoiler:
    """Spoils values and bytes."""

    chance: random.Random

    def value(self, value: Value) -> Value:
        """A copy with one to three changes, at any depth."""
        spoilt = copy.deepcopy(value)
        for _ in range(self.chance.choice((1, 1, 1, 2, 3))):
            spoilt = self._change(spoilt)
        return spoilt

    def bytes(self, content: bytes) -> bytes:
        """Bits turned, parts cut, doubled or put elsewhere; another encoding."""
        for _ in range(self.chance.choice((1, 1, 2, 4))):
            content = self._bytes(content)
        return content

    def wild(self) -> Value:
        """Anything at all."""
        pick = self.chance.choice
        plain = (None, True, False, [], {}, [[]], [None], {"a": 1}, {"": {}})
        nested = ([pick(_TEXTS), pick(_NUMBERS)], {pick(_TEXTS): pick(_NUMBERS)}, *plain)
        return copy.deepcopy(pick((pick(_TEXTS), pick(_NUMBERS), pick(_RAW), pick(nested))))

    def _change(self, value: Value) -> Value:
        if isinstance(value, dict) and value and self.chance.random() < 0.85:
            return self._of_object(value)
        if isinstance(value, list) and value and self.chance.random() < 0.85:
            return self._of_list(value)
        if isinstance(value, str) and value and self.chance.random() < 0.3:
            return self._of_text(value)
        if isinstance(value, int | float) and not isinstance(value, bool) and self.chance.random() < 0.4:
            return self._near(value)
        return self.chance.choice((self.wild(), self.wild(), [value], {"x": value}, str(value)[:100]))

    def _of_object(self, value: dict[str, Value]) -> Value:
        key = self.chance.choice(list(value))
        match self.chance.randrange(10):
            case 0:
                del value[key]
            case 1:
                value[self.chance.choice(_TEXTS)] = self.wild()
            case 2 if not isinstance(value[key], Twins):
                return Twins(value, key)
            case 3:
                value[key + self.chance.choice(("x", "", " ", "\x1b"))] = value.pop(key)
            case 4:
                other = self.chance.choice(list(value))
                value[key], value[other] = value[other], value[key]
            case _:
                value[key] = self._change(value[key])
        return value

    def _of_list(self, value: list[Value]) -> Value:
        place = self.chance.randrange(len(value))
        match self.chance.randrange(8):
            case 0:
                del value[place]
            case 1:
                value.insert(place, self.wild())
            case 2:
                value.insert(place, copy.deepcopy(value[place]))
            case 3:
                return value * self.chance.choice((0, 2, 50))
            case _:
                value[place] = self._change(value[place])
        return value

    def _of_text(self, value: str) -> str:
        place = self.chance.randrange(len(value) + 1)
        return value[:place] + self.chance.choice((*_TEXTS, "")) + value[place + self.chance.randrange(2) :]

    def _near(self, number: float) -> float:
        half = number / 2 if abs(number) < 2**53 else number
        return self.chance.choice((number + 1, number - 1, -number, number * 2, 0, half))

    def _bytes(self, content: bytes) -> bytes:
        size = len(content)
        first, second = sorted(self.chance.randrange(size + 1) for _ in range(2))
        match self.chance.randrange(12):
            case 0:
                return content[:first]
            case 1:
                return content[first:]
            case 2:
                return content[:first] + content[second:]
            case 3:
                return content[:second] + content[first:]
            case 4:
                return content[:first] + self.chance.randbytes(self.chance.choice((1, 4, 64))) + content[first:]
            case 5:
                return b"\xef\xbb\xbf" + content
            case 6:
                return content.decode("utf-8", errors="replace").encode(self.chance.choice(("utf-16", "utf-32-le")))
            case 7:
                return content.replace(b"\n", self.chance.choice((b"\r\n", b"\r", b"\0")))
            case 8:
                return content + self.chance.choice((content, b"\0" * 100, b"[" * 20_000, b'{"a":' * 20_000))
            case _ if size:
                turned = bytearray(content)
                for _ in range(self.chance.choice((1, 1, 3))):
                    turned[self.chance.randrange(size)] ^= 1 << self.chance.randrange(8)
                return bytes(turned)
            case _:
                return self.chance.randbytes(9)


def as_json(value: Value) -> str:
    """JSON, with whatever a `Raw` or a `Twins` says in it."""
    if isinstance(value, Raw):
        return value.text
    if isinstance(value, Twins):
        twin = f"{json.dumps(value.key)}: {as_json(value.entries[value.key])}"
        return f"{as_json(value.entries)[:-1]}, {twin}}}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {as_json(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_json, value)) + "]"
    return json.dumps(value)


def as_toml(value: Value) -> str:
    """TOML: a line for each key at the top, inline tables below."""
    lines: list[str] = []
    while isinstance(value, Twins):
        lines.append(f"{_toml_text(value.key)} = {_inline(value.entries.get(value.key))}")
        value = value.entries
    if not isinstance(value, dict):
        return _inline(value)
    return "\n".join([f"{_toml_text(key)} = {_inline(entry)}" for key, entry in value.items()] + lines) + "\n"


def _inline(value: Value) -> str:
    if isinstance(value, Raw):
        return value.text
    if isinstance(value, Twins):
        return f"{_inline(value.entries)[:-1]}, {_toml_text(value.key)} = {_inline(value.entries[value.key])}}}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml_text(key)} = {_inline(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)
    return _toml_text(value) if isinstance(value, str) else f"{value}"  # None is none: a mistake of its own


def _toml_text(text: str) -> str:
    if text.isascii() and text.replace("_", "").replace("-", "").isalnum():
        return f'"{text}"'
    safe = text.encode("utf-8", errors="replace").decode("utf-8")
    return json.dumps(safe, ensure_ascii=False).replace("\x7f", "\\u007f")
