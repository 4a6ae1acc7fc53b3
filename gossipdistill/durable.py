"""Checkpoints on disk that survive a kill at any moment, and a power cut. What their bytes mean is not known here.

A checkpoint is two files of one folder, `<boot>-<serial>.safetensors` and, written after it, `<boot>-<serial>.json`.
The checkpoint is complete only with the second file, which holds the length and SHA-256 of the first, and a SHA-256 of
itself. The rules, in the order of the file operations of one save:

1. Every file is written under a name that no reader looks for (`.partial`), and synced, before it is renamed to its
   own.
2. The folder is synced before anything is removed. So the newest complete checkpoint is on the disk at every moment.
3. Only then older ones are removed, except the newest `keep` and the best; of each the JSON first.
4. What a killed process left unfinished is removed by the next save.

Only `Disk` changes files, so that a test can stop the process at each operation.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from gossipdistill.files import JSON_BYTES_MAX, UnusableError, check_shape, parse_json, read_bytes, read_text
from gossipdistill.printable import printable, shown

T = TypeVar("T")

Parts = Sequence[bytes | memoryview]
"""These bytes, one part after the other, are the content of a file. Nothing large is copied on its way to the disk."""

FORMAT = 2
"""Checkpoints are written in this format."""
_FORMATS = (1, FORMAT)
"""These formats are read; checkpoints of release 0.1 have 1."""
_NOTE_DEPTH_MAX = 256
"""The lists and objects in a checkpoint's JSON may be nested this deep: states of an optimizer may be nested 64 deep,
each three times."""
_NAME = re.compile(r"(0|[1-9]\d{0,17})-([1-9]\d{0,8})(\.safetensors|\.json)(\.partial)?")
_PARENTS_SYNCED = 4
"""The number of parent folders that are synced: runs/NAME/PEER/checkpoints, each in the one above it. A folder is safe
only when its parent's entry is on disk."""


class _Sealed(BaseModel):
    """The JSON file of a checkpoint: its content with a checksum."""

    model_config = ConfigDict(strict=True)

    sha256: str
    note: dict[str, Any]


class _Note(BaseModel):
    """The content of the JSON file."""

    model_config = ConfigDict(strict=True)

    identity: dict[str, str]
    score: Annotated[float, Field(allow_inf_nan=False)] | None
    bytes: Annotated[int, Field(ge=0, le=2**62)]
    sha256: str
    content: dict[str, Any]


OF_STORAGE = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EACCES,
        errno.EPERM,
        errno.EIO,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EEXIST,
        errno.EFBIG,
        errno.ENAMETOOLONG,
    }
)
"""Errors that the owner of a disk must solve: it is full, read-only, failing, or something else has the name."""


_NO_FILE = (errno.EMFILE, errno.ENFILE)
"""No more files may be open: this happens for milliseconds during a flood of connections, see drivers/overload/."""
_FILE_WITHIN_S, _TRY_AGAIN_S = 1.0, 0.01


class RefusedCheckpointError(Exception):
    """The checkpoint is torn, or belongs to another peer; the message is the reason, for an event."""


def _patiently(opened: Callable[[], T]) -> T:
    """Call `opened` as soon as a file may be opened; waits for a second at most.

    Raises:
        OSError: when it cannot be opened.
    """
    end_s = time.monotonic() + _FILE_WITHIN_S
    while True:
        try:
            return opened()
        except OSError as error:
            if error.errno not in _NO_FILE or time.monotonic() > end_s:
                raise
        time.sleep(_TRY_AGAIN_S)


class Disk:
    """The operations that change files: each is one system call, or a few that belong together."""

    def make_folder(self, folder: Path) -> None:
        """Make a folder and those above it, if they are missing."""
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, file: Path, parts: Parts) -> None:
        """Write a whole file, part after part; a crash of the machine may lose any of it until it is synced."""
        with _patiently(lambda: file.open("wb", buffering=0)) as raw:
            for part in parts:
                left = memoryview(part)
                while left:
                    left = left[raw.write(left) or 0 :]

    def write_over(self, file: Path, data: bytes) -> None:
        """Overwrite the content of an existing file: if the new content is no longer, this needs no free space."""
        with _patiently(lambda: file.open("r+b", buffering=0)) as raw:
            left = memoryview(data)
            while left:
                left = left[raw.write(left) or 0 :]
            raw.truncate()

    def append(self, file: Path, data: bytes) -> None:
        """Append to a file, which is created if it is missing."""
        with _patiently(lambda: file.open("ab", buffering=0)) as raw:
            left = memoryview(data)
            while left:
                left = left[raw.write(left) or 0 :]

    def sync(self, path: Path) -> None:
        """Return when the content of a file, or the entries of a folder, are on the disk."""
        number = _patiently(lambda: os.open(path, os.O_RDONLY))
        try:
            os.fsync(number)
        finally:
            os.close(number)

    def rename(self, file: Path, to: Path) -> None:
        """Rename a file, replacing the one that had the name."""
        os.replace(file, to)

    def remove(self, file: Path) -> None:
        """Remove a file, if it is there."""
        file.unlink(missing_ok=True)


def put(file: Path, parts: Parts, disk: Disk, synced: bool = True) -> None:
    """Write a whole file: a reader, also after a crash, finds the old content or the new one. The name survives a power
    cut once the folder is synced too. Without `synced` the call returns sooner, and a power cut may leave an empty
    file.

    Raises:
        OSError: with the name of the file; what was begun is removed.
    """
    scratch = file.with_name(file.name + ".partial")
    try:
        disk.write(scratch, parts)
        if synced:
            disk.sync(scratch)
        disk.rename(scratch, file)
    except OSError as error:
        with contextlib.suppress(OSError):
            disk.remove(scratch)  # a full disk needs the space back
        error.filename = str(file)  # the system has none for a write
        raise


@dataclass(slots=True)
class KeptRoom:
    """A small file that is written at the end, when the disk may be full. Room for it is reserved at the start in a
    file beside it, which is overwritten and renamed at the end."""

    file: Path
    disk: Disk
    room_bytes: int = 32 * 1024

    def take(self) -> None:
        """Reserve the room.

        Raises:
            OSError: where there is none.
        """
        put(self._beside, [b" " * self.room_bytes], self.disk, synced=False)

    def write(self, data: bytes, last: bool = True) -> None:
        """Write the file; unless this is the `last` time, reserve room again, if there is some.

        Raises:
            OSError: when it cannot be written; the file is as it was.
        """
        try:
            self.disk.write_over(self._beside, data)
            self.disk.rename(self._beside, self.file)
        except OSError:  # there is no room beside it
            self.give_back()
            self._without_room(data)
        if not last:
            with contextlib.suppress(OSError):
                self.take()

    def _without_room(self, data: bytes) -> None:
        try:
            put(self.file, [data], self.disk, synced=False)
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            if not full or not self.file.is_file() or _held_bytes(self.file) < len(data):
                raise
            try:
                self.disk.write_over(self.file, data)  # not atomic, but the old content is out of date
            except OSError as again:
                again.filename = str(self.file)
                raise

    def give_back(self) -> None:
        """Free the room if it was not used."""
        with contextlib.suppress(OSError):
            self.disk.remove(self._beside)

    @property
    def _beside(self) -> Path:
        return self.file.with_name(self.file.name + ".room")


def _held_bytes(file: Path) -> int:
    """The number of bytes that can be written over a file without more space."""
    status = file.stat()
    return max(status.st_size, getattr(status, "st_blocks", 0) * 512)


def reason_of(error: Exception) -> str:
    """An error of the file system as `FILE: reason`, any other with its type; in one line."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


class Number(NamedTuple):
    """Orders the checkpoints of one peer: by process, then by save of that process."""

    boot: int
    serial: int


@dataclass(frozen=True, slots=True)
class Saved:
    """One checkpoint that was read and is complete: the bytes of its tensors, and all other content."""

    number: Number
    tensors: bytes
    content: dict[str, Any]


class Refusal(NamedTuple):
    """A checkpoint that was not used, and the reason in words."""

    number: Number
    reason: str


@dataclass(slots=True)
class CheckpointFolder:
    """The checkpoints of one peer. `identity` names their owner: a checkpoint with another identity is refused.

    `boot` is that of the process that writes. There is one writer at a time. A process that is superseded by a newer
    one of its name does no harm, as the newer one has the higher boot.
    """

    folder: Path
    identity: dict[str, str]
    keep: int = 3
    boot: int = 0
    disk: Disk = field(default_factory=Disk)
    _serial: int = 0
    _made: bool = False
    _refused: set[Number] = field(default_factory=set)

    def numbers(self) -> list[Number]:
        """The numbers of all complete checkpoints, the newest first."""
        return sorted((number for number, ending in self._files() if ending == ".json"), reverse=True)

    def newest(self, use: Callable[[Saved], T]) -> tuple[T | None, list[Refusal]]:
        """Return what `use` makes of the newest checkpoint that neither it nor `read` refuses, and why newer ones were
        refused; None where there is none."""
        refusals: list[Refusal] = []
        for number in self.numbers():
            try:
                return use(self.read(number)), refusals
            except RefusedCheckpointError as refused:
                self._refused.add(number)
                refusals.append(Refusal(number, str(refused)))
        return None, refusals

    def read(self, number: Number) -> Saved:
        """Read one complete checkpoint.

        Raises:
            RefusedCheckpointError: when it is torn, or another peer's.
        """
        note = self._note(number)
        content = note["content"]
        for key, mine in self.identity.items():
            theirs = note["identity"].get(key)
            if theirs != mine:
                raise RefusedCheckpointError(printable(f"it belongs to {key} {theirs}, and this is {key} {mine}"))
        try:
            # A larger file is not read to its end, and a false size allocates no memory.
            tensors = read_bytes(self._path(number, ".safetensors"), note["bytes"])
        except UnusableError as reason:
            raise RefusedCheckpointError(f"its tensors: {reason}") from None
        if len(tensors) != note["bytes"]:
            raise RefusedCheckpointError(f"it is torn: {len(tensors)} of {note['bytes']} bytes of tensors are there")
        if hashlib.sha256(tensors).hexdigest() != note["sha256"]:
            raise RefusedCheckpointError("it is damaged: the checksum of its tensors differs")
        return Saved(number, tensors, content)

    def save(self, tensors: Parts, content: dict[str, Any], score: float | None = None) -> Number:
        """Write one checkpoint, then remove those that are not kept. `tensors` are the parts of one file. The lower of
        two scores is better; None means no score.

        Raises:
            OSError: when it cannot be written; those before it are as they were.
        """
        if not self._made:
            self.disk.make_folder(self.folder)
            for parent in list(self.folder.parents)[:_PARENTS_SYNCED]:
                with contextlib.suppress(PermissionError):  # not ours, and older than this run
                    self.disk.sync(parent)
            self._made = True
        self._serial += 1
        length, digest = 0, hashlib.sha256()
        for part in tensors:  # where a part is large, other threads go on
            length += len(part)
            digest.update(part)
        number = Number(self.boot, self._serial)
        note = {
            "format": FORMAT,
            "identity": self.identity,
            "score": score if score is not None and math.isfinite(score) else None,
            "bytes": length,
            "sha256": digest.hexdigest(),
            "content": content,
        }
        sealed = json.dumps({"sha256": _digest_of(note), "note": note})
        try:
            put(self._path(number, ".safetensors"), tensors, self.disk)
            put(self._path(number, ".json"), [sealed.encode()], self.disk)
        except OSError:
            self._sweep(number)
            raise
        self.disk.sync(self.folder)
        self._prune(number)
        return number

    def clear(self) -> None:
        """Remove all checkpoints, for a run that starts afresh."""
        for number, ending in sorted(self._files(), key=_json_first):
            self.disk.remove(self._path(number, ending))

    def best(self) -> Number | None:
        """The checkpoint with the lowest score, of equal ones the newest. None where none has a score."""
        scored: list[tuple[float, Number]] = []
        for number in self.numbers():
            if number in self._refused:
                continue
            with contextlib.suppress(RefusedCheckpointError):
                score = self._note(number)["score"]
                if score is not None:
                    scored.append((score, number))
        return min(scored, key=lambda pair: pair[0])[1] if scored else None

    def holds_some(self) -> bool:
        """Whether there is a complete checkpoint, as far as the folder can be read."""
        try:
            return bool(self.numbers())
        except OSError:
            return False

    def highest_boot(self) -> int:
        """The highest boot of all processes that have written here."""
        return max((number.boot for number, _ in self._files()), default=0)

    def _prune(self, written: Number) -> None:
        """Remove older checkpoints that are not kept, refused ones and unfinished ones; nothing of a newer process."""
        finished = [number for number in self.numbers() if number not in self._refused]
        kept = {*finished[: max(self.keep, 1)], written, self.best()}
        for number, ending in sorted(self._files(), key=_json_first):
            if number <= written and (number not in kept or ending.endswith(".partial")):
                self.disk.remove(self._path(number, ending))

    def _sweep(self, failed: Number) -> None:
        """Free the space of unfinished checkpoints of this process or of one that was killed."""
        finished = set(self.numbers())
        with contextlib.suppress(OSError):
            for number, ending in sorted(self._files(), key=_json_first):
                if number <= failed and (number not in finished or ending.endswith(".partial")):
                    self.disk.remove(self._path(number, ending))

    def _note(self, number: Number) -> dict[str, Any]:
        try:
            # Release 0.1 wrote the infinite settings of an optimizer as Python does.
            text = read_text(self._path(number, ".json"), JSON_BYTES_MAX)
            sealed = parse_json(text, nonfinite=True, depth_max=_NOTE_DEPTH_MAX)
            check_shape(_Sealed, sealed)
        except UnusableError as reason:
            raise RefusedCheckpointError(f"it is torn: its JSON is not whole ({reason})") from None
        note: dict[str, Any] = sealed["note"]
        if _digest_of(note) != sealed["sha256"]:
            raise RefusedCheckpointError("it is damaged: the checksum of its JSON differs")
        if note.get("format") not in _FORMATS:
            theirs = shown(note.get("format"))
            raise RefusedCheckpointError(f"it has format {theirs}, and this release reads {_FORMATS}")
        try:
            check_shape(_Note, note)
        except UnusableError as reason:
            raise RefusedCheckpointError(f"it is malformed: {reason}") from None
        return note

    def _path(self, number: Number, ending: str) -> Path:
        return self.folder / f"{number.boot}-{number.serial}{ending}"

    def _files(self) -> list[tuple[Number, str]]:
        """(number, ending) of each checkpoint file in the folder, in no order."""
        if not self.folder.is_dir():
            return []
        matches = (_NAME.fullmatch(file.name) for file in self.folder.iterdir())
        return [(Number(int(m[1]), int(m[2])), m[3] + (m[4] or "")) for m in matches if m is not None]


def _digest_of(note: dict[str, Any]) -> str:
    """The SHA-256 of its JSON text, which is the same again after reading it from JSON."""
    return hashlib.sha256(json.dumps(note).encode()).hexdigest()


def _json_first(file: tuple[Number, str]) -> tuple[bool, Number, str]:
    """Sort key: the JSON first. Without it a checkpoint does not count, so none is ever half removed."""
    number, ending = file
    return (ending != ".json", number, ending)
