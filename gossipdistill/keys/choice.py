"""Decides whether a worker's connections are encrypted and authenticated, and finds its keys.

They are if an address of the run is on another machine, if a key is named, or on request. A missing key is then an
error that names the file, the peer and the command that makes it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gossipdistill.errors import IdentityError, UsageError
from gossipdistill.ids import PeerName
from gossipdistill.keys.joining import read_join
from gossipdistill.keys.secrets import KeyPair, first_there, read_secret, usual_places
from gossipdistill.presence import NOWHERE, Address
from gossipdistill.protocol.enrolment import Book
from gossipdistill.roster import Roster, is_loopback, read_roster

INSECURE = (
    "INSECURE: nothing is encrypted or authenticated; any process that reaches the ports can read and send "
    "predictions and weights, in any peer's name (--insecure)"
)


@dataclass(frozen=True, slots=True)
class KeyFiles:
    """The paths of a worker's secret and of the keys of those that may take part. No secrets: this is written into the
    run's folder."""

    secret: Path
    roster: Path | None = None
    join: Path | None = None

    def read(self, name: str, run: str, boot: int) -> tuple[KeyPair, Book]:
        """The worker's key pair, and the book of all public keys.

        Raises:
            GossipdistillError: when a file is missing, refused or invalid.
        """
        pair = read_secret(self.secret, name)
        book = Book(run, PeerName(name), {name: pair.public})
        if self.join is not None:
            join = read_join(self.join, run)
            book.secret, book.given = join.secret, {join.host: join.public, name: pair.public}
        if self.roster is not None:
            roster = read_roster(self.roster)
            book.hold_to(roster.trusted, roster.revoked)
        book.enrol_myself(pair.public, boot)
        return pair, book


@dataclass(frozen=True, slots=True)
class KeyOptions:
    """The user's options about keys."""

    key: Path | None = None
    join: Path | None = None
    secure: bool = False
    insecure: bool = False


def on_another_machine(addresses: Iterable[Address]) -> Address | None:
    """The first of these addresses that is not known to be on this machine."""
    return next((one for one in addresses if one != NOWHERE and not is_loopback(one.host)), None)


def choose(
    key_options: KeyOptions, name: str, run: str, file: Path | None, roster: Roster | None, addresses: Iterable[Address]
) -> KeyFiles | None:
    """The files with the keys of `name`, checked; None where connections stay unencrypted.

    Raises:
        IdentityError: for a key that is missing, refused or invalid.
        UsageError: for options that exclude one another.
    """
    asked = key_options.secure or key_options.key is not None or key_options.join is not None
    if key_options.insecure and asked:
        raise UsageError("--insecure means without keys: leave out either that, or --key, --join and --secure")
    elsewhere = on_another_machine(addresses)
    if key_options.insecure or not (asked or elsewhere is not None):
        return None
    why = f"{elsewhere} is not on this machine, so keys are needed" if elsewhere is not None else "keys are asked for"
    if key_options.join is not None:
        read_join(key_options.join, run)
    elif file is None or roster is None:
        raise IdentityError(
            f"{why}, and they are kept in a roster: give --peers FILE, with keys from: gossipdistill keys new --peers "
            "FILE; or without a roster a join file, --join FILE, from: gossipdistill keys invite FILE; or, on a "
            "network that you trust, add --insecure"
        )
    file = file.resolve() if file is not None else None
    base = file.parent if file is not None else Path.cwd()
    keys = "gossipdistill keys new" + (f" --peers {file}" if file is not None else "")
    secret = key_options.key or first_there(usual_places(name, base))
    if secret is None:
        looked = " and ".join(str(place) for place in usual_places(name, base))
        raise IdentityError(
            f"{why}; there is no secret of {name} at {looked}; make it here with: {keys} --name {name}; or give --key "
            "FILE; or, on a network that you trust, add --insecure"
        )
    pair = read_secret(secret, name)
    if file is not None and roster is not None:
        _check(name, pair, file, roster, f"{why}; {{}}; make it with: {keys} --name {{}}", key_options.join is not None)
    return KeyFiles(secret.resolve(), file, key_options.join.resolve() if key_options.join is not None else None)


def _check(name: str, pair: KeyPair, file: Path, roster: Roster, why: str, may_enrol: bool) -> None:
    entry = roster.entry(name)
    if entry.revoked:
        raise IdentityError(f"{file}: {name} is revoked; gossipdistill keys trust {name} KEY --peers {file} ends that")
    missing = [one.name for one in roster.peer if one.public_key is None]
    if missing and not may_enrol:
        raise IdentityError(
            why.format(f"{file} has no public key of {', '.join(missing[:8])}", missing[0])
            + f" where its secret is to lie, or write in a known one: gossipdistill keys trust {missing[0]} KEY "
            f"--peers {file}; or, on a network that you trust, add --insecure"
        )
    if entry.public_key not in (None, pair.public):
        raise IdentityError(
            f"{file}: the public key of {name} is not that of its secret here, which is {pair.public}; see: "
            f"gossipdistill keys show --peers {file}"
        )
