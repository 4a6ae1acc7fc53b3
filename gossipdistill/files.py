"""Reading a file that may hold anything: completely, with bounds, and refused with a reason where it cannot be used.

Every reader of the package gets its bytes, its text and its JSON here. Whatever lies at the path (nothing, a folder, a
pipe that would never end, a file of many gigabytes) and whatever is in it, the only exception is `UnusableError`, whose
text is the reason; a reader says in its own error which file it is.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from gossipdistill.printable import printable, shown

TEXT_BYTES_MAX = 16 * 1024 * 1024
"""A file that people write has at most this many bytes."""
JSON_BYTES_MAX = 256 * 1024 * 1024
"""A file that this package writes has at most this many bytes: the summary of a thousand peers has tens of
megabytes."""
_UNSIZED_BYTES_MAX = 1 << 20
DEPTH_MAX = 32
"""Lists and tables are nested at most this deep."""
INTEGER_BITS_MAX = 128
"""A number has at most this many bits. A larger one is no count, no time and no state of a generator, and could not
even become a float."""

Shape = TypeVar("Shape", bound=BaseModel)


class UnusableError(Exception):
    """The reason why a file cannot be used, for people. `missing` says that there is no such file."""

    def __init__(self, reason: str, missing: bool = False) -> None:
        super().__init__(reason)
        self.missing = missing


# --- bytes and text ---------------------------------------------------------------------------------------------------


def is_there(path: Path) -> bool:
    """Whether anything exists at this path, as far as permissions show; a dangling link exists."""
    try:
        path.lstat()
    except (OSError, ValueError):
        return False
    return True


def is_file(path: Path) -> bool:
    """Whether an ordinary file exists at this path, as far as permissions show."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Whether a folder exists at this path, as far as permissions show."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def entries(folder: Path, pattern: str) -> list[Path]:
    """The paths below `folder` that match, sorted; empty where permissions are missing."""
    found: list[Path] = []
    with contextlib.suppress(OSError, ValueError):
        found.extend(folder.glob(pattern))
    return sorted(found)


def changed_s(path: Path) -> float:
    """The time at which a file was last written, in seconds since 1970; 0 where it is not known."""
    try:
        return path.stat().st_mtime
    except (OSError, ValueError):
        return 0.0


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[int, os.stat_result]]:
    """The descriptor and the status of an ordinary file. Opening never blocks: a pipe is refused.

    Raises:
        UnusableError: when it is not there, no ordinary file, or may not be read.
    """
    try:
        # Without O_NONBLOCK opening a pipe would block; O_NOCTTY keeps a terminal from becoming this process's own.
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))
    except OSError as error:
        if is_folder(path):  # Windows does not open folders
            raise UnusableError("is a folder, not a file") from None
        missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
        raise UnusableError(f"cannot be read: {error.strerror or type(error).__name__}", missing) from None
    except ValueError:
        raise UnusableError("has a name that no file can have", missing=True) from None
    try:
        status = os.fstat(number)
        if stat.S_ISDIR(status.st_mode):
            raise UnusableError("is a folder, not a file")
        if not stat.S_ISREG(status.st_mode):
            raise UnusableError("is a pipe or a device, not an ordinary file")
        yield number, status
    except OSError as error:
        raise UnusableError(f"cannot be read: {error.strerror or type(error).__name__}") from None
    finally:
        os.close(number)


def read_bytes(path: Path, bytes_max: int | None = None) -> bytes:
    """The content of an ordinary file of at most `bytes_max` bytes (default: what fits into memory).

    Raises:
        UnusableError: when it cannot be read, or is larger.
    """
    with opened(path) as (number, status):
        if bytes_max is not None and status.st_size > bytes_max:
            raise UnusableError(f"is too large: {status.st_size} bytes, at most {bytes_max}")
        try:
            with os.fdopen(number, "rb", closefd=False) as file:
                # Never ask for more than there is: `read` allocates its memory at once. Files that the system generates
                # have a stated size of 0, and a bound of their own.
                most = status.st_size or min(bytes_max or _UNSIZED_BYTES_MAX, _UNSIZED_BYTES_MAX)
                content = file.read(most + 1)
        except MemoryError:
            raise UnusableError(f"does not fit into memory: {status.st_size} bytes") from None
    if bytes_max is not None and len(content) > bytes_max:
        raise UnusableError(f"is too large: more than {bytes_max} bytes")
    return content


def read_text(path: Path, bytes_max: int = TEXT_BYTES_MAX) -> str:
    """The UTF-8 text of a file, without a byte order mark; all line ends become `\\n`.

    Raises:
        UnusableError: when it cannot be read, or is no such text.
    """
    return decoded(read_bytes(path, bytes_max)).replace("\r\n", "\n").replace("\r", "\n")


def decoded(content: bytes) -> str:
    """UTF-8 bytes as text, without a byte order mark in front.

    Raises:
        UnusableError: when they are not UTF-8.
    """
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UnusableError("is not UTF-8 text, but UTF-16; save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if b"\0" in content:
            raise UnusableError("is not UTF-8 text, but binary") from None
        line = content.count(b"\n", 0, error.start) + 1
        raise UnusableError(f"is not UTF-8 text (line {line}, byte {error.start}); save it as UTF-8") from None
    if "\0" in text:
        raise UnusableError("is no text, but binary: it holds a NUL")
    return text


# --- JSON -------------------------------------------------------------------------------------------------------------


def parse_json(text: str, nonfinite: bool = False, depth_max: int = DEPTH_MAX) -> Any:
    """A JSON value of bounded depth, without duplicate keys and with numbers of a sensible size. `nonfinite` accepts
    NaN and the infinities, which Python writes and JSON does not have.

    Raises:
        UnusableError: for anything else.
    """
    try:
        value = json.loads(text, object_pairs_hook=_without_twins, parse_constant=None if nonfinite else _refused)
    except RecursionError:
        raise UnusableError(f"is nested more than {depth_max} deep") from None
    except json.JSONDecodeError as error:
        raise UnusableError(f"is no JSON: {error.msg} (line {error.lineno}, column {error.colno})") from None
    except ValueError:  # Python's bound on the digits of a number
        raise UnusableError("holds a number with too many digits") from None
    refuse_extremes(value, INTEGER_BITS_MAX, nonfinite, depth_max)
    return value


def read_object(path: Path, bytes_max: int = JSON_BYTES_MAX) -> dict[str, Any]:
    """The JSON object in a file; see `parse_json`.

    Raises:
        UnusableError: when it cannot be read, or is none.
    """
    value = parse_json(read_text(path, bytes_max))
    if not isinstance(value, dict):
        raise UnusableError(f"holds no JSON object, but {kind_of(value)}")
    return value


def refuse_extremes(value: Any, bits_max: int, nonfinite: bool = False, depth_max: int = DEPTH_MAX) -> None:
    """Refuse values that are nested too deeply, too large numbers, and non-finite ones.

    Raises:
        UnusableError: about the first of them.
    """
    level, depth = [value], 0
    while level:
        if depth > depth_max:
            raise UnusableError(f"is nested more than {depth_max} deep")
        inner: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                inner.extend(one.values())
            elif isinstance(one, list):
                inner.extend(one)
            elif isinstance(one, int):
                if one.bit_length() > bits_max:
                    raise UnusableError(f"holds a number of {one.bit_length()} bits, at most {bits_max}")
            elif isinstance(one, float) and not nonfinite and not math.isfinite(one):
                raise UnusableError(f"holds a number that is not finite: {one}")
        level, depth = inner, depth + 1


def check_shape(shape: type[Shape], value: object) -> Shape:
    """`value` as a `shape`.

    Raises:
        UnusableError: naming the first key at fault and what it holds.
    """
    try:
        return shape.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
    if first["type"] == "missing":
        raise UnusableError(f"{printable(place)}: is missing")
    problem = str(first["msg"]).replace("Input should", "should")
    problem = problem[:1].lower() + problem[1:]
    raise UnusableError(f"{printable(place)} = {shown(first['input'])}: {problem}" if place else problem)


def kind_of(value: object) -> str:
    """The kind of a JSON value, in words."""
    words = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return words.get(type(value), "a number")


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        twin = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise UnusableError(f"has the key {shown(twin)} twice in one object")
    return made


def _refused(word: str) -> float:
    raise UnusableError(f"holds a number that is not finite: {word}")
