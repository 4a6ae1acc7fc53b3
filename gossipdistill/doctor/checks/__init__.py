"""One file per check, all with the same interface: `check(case)` looks at a frozen case and returns findings.

A check does no I/O: what it needs is in the case. To add one, add a file and a line in `CHECKS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from gossipdistill.doctor.case import Case, Finding
from gossipdistill.doctor.checks import (
    addresses,
    clocks,
    identity,
    keys,
    names,
    open_files,
    ports,
    reached,
    reaching,
    roster,
    round_trips,
    threads,
    transfers,
    versions,
)
from gossipdistill.errors import AddressError, ConfigError, IdentityError


class Check(NamedTuple):
    """A check, and the exit code of the command if this is the first check that finds a problem."""

    look: Callable[[Case], list[Finding]]
    exit_code: int


CHECKS: dict[str, Check] = {
    "roster": Check(roster.check, ConfigError.exit_code),
    "this machine": Check(identity.check, ConfigError.exit_code),
    "names": Check(names.check, AddressError.exit_code),
    "addresses": Check(addresses.check, ConfigError.exit_code),
    "ports": Check(ports.check, AddressError.exit_code),
    "keys": Check(keys.check, IdentityError.exit_code),
    "versions": Check(versions.check, ConfigError.exit_code),
    "reaching": Check(reaching.check, AddressError.exit_code),
    "reached by": Check(reached.check, AddressError.exit_code),
    "round trip": Check(round_trips.check, AddressError.exit_code),
    "transfer": Check(transfers.check, AddressError.exit_code),
    "clock": Check(clocks.check, ConfigError.exit_code),
    "open files": Check(open_files.check, ConfigError.exit_code),
    "CPU threads": Check(threads.check, ConfigError.exit_code),
}
"""The checks are in the order in which they are shown: an early finding may explain a later one."""
