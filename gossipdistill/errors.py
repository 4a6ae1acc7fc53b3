"""The tree of all errors that a user can meet. A misbehaving peer is an event (events.py), never one of these.

    GossipdistillError            1   a fault of ours
      UsageError                  2   unknown option or argument
      ConfigError                 3   a file, key or value is refused
        UserCodeError             3   an exception out of the user's own code; 11 after the first step
      DataMissingError            4   a data set is not there
      AddressError                5   an address is in use, refused or cannot be reached
      NeedsError                  6   what the strategy needs of topology, model or initialisation is not met
      IdentityError               7   a key or an identity is refused (also: superseded by a newer process)

The number is the exit code of the process. A message names the file, the key, the value and what would be accepted.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar

from gossipdistill.printable import printable, shown


class GossipdistillError(Exception):
    """Base of all errors shown to a user."""

    exit_code: ClassVar[int] = 1


class UsageError(GossipdistillError):
    """The command line asks for something that does not exist or does not fit together."""

    exit_code = 2


class ConfigError(GossipdistillError):
    """A configured value is refused. The message is `FILE: KEY = VALUE: problem; accepted: ...`."""

    exit_code = 3

    def __init__(
        self,
        problem: str,
        *,
        file: object = None,
        key: str | None = None,
        value: object = None,
        accepted: str | None = None,
    ) -> None:
        self.problem, self.file, self.key, self.value, self.accepted = problem, file, key, value, accepted
        place = f"{printable(str(file))}: " if file is not None else ""
        if key is not None:
            place += printable(f"{key} = {shown(value)}: " if value is not None else f"{key}: ")
        super().__init__(place + printable(problem + (f"; accepted: {accepted}" if accepted else "")))


class UserCodeError(ConfigError):
    """An exception out of the user's own task, model, loss, metric, optimizer or topology; it is the `__cause__`.

    Args:
        what: which part of the user's code was called, for example `Task.loss`.
        told: type, text and place of the exception, in one line.
        problem: the whole message, where that is not "failed: " and `told`.
        exit_code: 3 before the first step, 11 after it.
    """

    def __init__(
        self,
        what: str,
        told: str,
        *,
        file: object = None,
        key: str | None = None,
        value: object = None,
        problem: str | None = None,
        exit_code: int = 3,
    ) -> None:
        super().__init__(f"failed: {told}" if problem is None else problem, file=file, key=key, value=value)
        self.what, self.told = what, told
        self.exit_code = exit_code  # type: ignore[misc]


class DataMissingError(GossipdistillError):
    """A data set is neither in the data folder nor in the cache, and could not be downloaded."""

    exit_code = 4


class AddressError(GossipdistillError):
    """An address is in use, not allowed, or cannot be reached."""

    exit_code = 5


class NeedsError(GossipdistillError):
    """The strategy's declared needs are not met by the topology, the models or the initialisation."""

    exit_code = 6


class IdentityError(GossipdistillError):
    """A key or an identity is refused."""

    exit_code = 7


EXIT_LOST = 10
"""The run is done and results are written, but a peer that no plan names was lost or failed; or one was restarted and
did less than its share of the steps; or training diverged or collapsed; or a peer exchanged nothing beside living
neighbours."""
EXIT_NONE_FINISHED = 11
"""No peer finished."""
EXIT_UNMET = 20
"""An expectation of the fault plan was not met; results are written."""
EXIT_INTERRUPTED = 130
"""Ctrl-C: checkpoint and summary are written."""
EXIT_TERMINATED = 143
"""SIGTERM: checkpoint and summary are written."""

EXIT_CODES: dict[int, str] = {
    0: "Every peer finished, or ended as the fault plan asked.",
    1: "An error in gossipdistill itself. The message says where the report lies.",
    2: "Usage: an unknown option or argument.",
    3: "Configuration: a file, key or value is refused; the message names it, and what is accepted. Also: your own "
    "code failed before the first step, or a file or folder cannot be written before training.",
    4: "Data are missing. The message says which file to put where.",
    5: "An address is in use, is not an address of this machine, or cannot be reached.",
    6: "Topology, model or initial weights do not meet the needs of the strategy.",
    7: "A key or an identity is refused. Also: a newer process with the same key has taken this one's place; "
    "checkpoint and result are written first.",
    EXIT_LOST: "The run is done, but not all is well. A peer that no fault plan names was lost or failed; or it did "
    "less than nine tenths of its steps after restarts; or its training diverged or collapsed; or it exchanged nothing "
    "beside living neighbours; or a result could not be written.",
    EXIT_NONE_FINISHED: "No peer finished. For a worker: your own code failed after the first step.",
    EXIT_UNMET: "An expectation of the fault plan was not met. Results are written.",
    129: "The terminal was closed, without `nohup`. Checkpoint and summary are written, and no process is left behind.",
    EXIT_INTERRUPTED: "Ctrl-C. Checkpoint and summary are written, and no process is left behind.",
    134: "A worker: its network thread stood still for 60 s, or a library aborted. Its stderr.log says where each "
    "thread was.",
    137: "A worker: the system killed it, mostly because memory ran out.",
    EXIT_TERMINATED: "SIGTERM. Checkpoint and summary are written, and no process is left behind.",
}
"""Exit code -> what it means; the page docs/reference.md is made from this."""


def nearest(word: str, names: Iterable[str]) -> str:
    """The end of an error message about an unknown name: the nearest valid ones, or all of them when none is near."""
    known = sorted(map(printable, names))
    word = printable(word)
    close = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(close) + "?"
    return "known: " + (", ".join(known) if known else "none")
