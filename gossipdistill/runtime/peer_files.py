"""What a worker process writes into its folder, beside checkpoints and events; and what is done when it cannot.

Before training everything is tried, and a problem is the user's: a full or read-only disk, a folder that is a file.
Then nothing ends the training any more. At the end `result.json` comes before everything that is larger, into room that
was taken at the start, so that it can be written on a full disk; the rest is written where it can be, and what could
not be is named in the result, in the table and by the exit code.
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
    """Around what must be written before a run begins.

    Raises:
        ConfigError: in place of an OSError, naming the file and the reason.
    """
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"cannot be written: {error.strerror or error}", file=error.filename or file,
            accepted="a folder with room in it that may be written to, as in --out FOLDER",
        ) from None  # fmt: skip


@dataclass
class PeerFiles:
    """The files of one peer. `unwritten` names each that is not there as it should be, and why."""

    folder: Path
    disk: Disk = field(default_factory=Disk)
    unwritten: dict[str, str] = field(default_factory=dict)
    _result: KeptRoom = field(init=False)

    def __post_init__(self) -> None:
        self._result = KeptRoom(self.folder / RESULT_FILE, self.disk)

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Remove what an earlier start has left, write the settings, and take room for the result.

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
        """Write the result as it is now; `last` gives back what is left of its room."""
        self._note(RESULT_FILE, lambda: self._result.write(f"{as_json(result, indent=1)}\n".encode(), last))

    def write_outputs(self, outputs: Tensor, labels: Tensor) -> None:
        """Write the outputs for the validation set, with its labels."""
        tensors = {"outputs": outputs.float().contiguous(), "labels": labels.contiguous()}
        self._note(OUTPUTS_FILE, lambda: put(self.folder / OUTPUTS_FILE, file_parts(tensors), self.disk, synced=False))

    def end(self) -> None:
        """Give back the room that nobody needs any more, however the process ends."""
        self._result.give_back()

    def problems(self) -> list[str]:
        """Of all that could not be written, `FILE: reason`."""
        return list(self.unwritten.values())

    def _note(self, name: str, write: Any) -> None:
        self.unwritten.pop(name, None)
        try:
            write()
        except (OSError, TypeError) as error:
            where = "" if isinstance(error, OSError) else f"{self.folder / name}: "
            self.unwritten[name] = where + reason_of(error)
