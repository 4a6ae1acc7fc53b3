"""The files that a worker process writes beside checkpoints and events, and what happens when it cannot write them.

Before training every file is tried, and a failure is reported to the user: a full or read-only disk, a folder that is a
file. After that, no failing write ends the training. At the end `result.json` is written before all larger files, into
room that was reserved at the start, so that it fits on a full disk. The other files are written where possible. A file
that could not be written is named in the result and in the table, and changes the exit code.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from gossipdistill.durable import Disk, KeptRoom, put, reason_of
from gossipdistill.errors import ConfigError
from gossipdistill.learning.checkpoint import file_parts
from gossipdistill.observe.outputs import OUTPUTS_FILE
from gossipdistill.observe.records import PeerRecord
from gossipdistill.observe.report import FAULTS_FILE, as_json

RESULT_FILE = "result.json"
CHECKPOINTS = "checkpoints"


@contextlib.contextmanager
def needed(file: Path) -> Iterator[None]:
    """A context for files that must be written before a run begins.

    Raises:
        ConfigError: in place of an OSError, naming the file and the reason.
    """
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"cannot be written: {error.strerror or error}",
            file=error.filename or file,
            accepted="a folder with room in it that may be written to, as in --out FOLDER",
        ) from None


@dataclass
class PeerFiles:
    """The files of one peer. `unwritten` maps the name of each file that could not be written to the reason."""

    folder: Path
    disk: Disk = field(default_factory=Disk)
    unwritten: dict[str, str] = field(default_factory=dict)
    _result: KeptRoom = field(init=False)

    def __post_init__(self) -> None:
        self._result = KeptRoom(self.folder / RESULT_FILE, self.disk)

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Remove the files of an earlier start, write the settings, and reserve room for the result.

        Raises:
            ConfigError: when the folder cannot be written to.
        """
        with needed(self.folder):
            self.disk.make_folder(self.folder / CHECKPOINTS)
            for name in (RESULT_FILE, OUTPUTS_FILE, FAULTS_FILE):
                self.disk.remove(self.folder / name)
            put(self.folder / "config.json", [(as_json(settings, indent=1) + "\n").encode()], self.disk, synced=False)
            self._result.take()

    def write_result(self, result: PeerRecord, last: bool = False) -> None:
        """Write the result as it is now; `last` releases the rest of the reserved room."""
        self._note(RESULT_FILE, lambda: self._result.write(f"{as_json(result, indent=1)}\n".encode(), last))

    def write_outputs(self, outputs: Tensor, labels: Tensor) -> None:
        """Write the outputs for the validation set, with its labels."""
        tensors = {"outputs": outputs.float().contiguous(), "labels": labels.contiguous()}
        self._note(OUTPUTS_FILE, lambda: put(self.folder / OUTPUTS_FILE, file_parts(tensors), self.disk, synced=False))

    def end(self) -> None:
        """Release the reserved room, however the process ends."""
        self._result.give_back()

    def problems(self) -> list[str]:
        """`FILE: reason` for each file that could not be written."""
        return list(self.unwritten.values())

    def _note(self, name: str, write: Any) -> None:
        self.unwritten.pop(name, None)
        try:
            write()
        except (OSError, TypeError) as error:
            where = "" if isinstance(error, OSError) else f"{self.folder / name}: "
            self.unwritten[name] = where + reason_of(error)
