"""Whether a worker's connections are encrypted and authenticated, and where its keys lie.

They are as soon as an address of the run is on another machine, or a key is named, or on request. What is missing then
is an error that says which file, whose key, and the command that makes it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gossipdistill.errors import IdentityError, UsageError
from gossipdistill.launch.keys.secrets import KeyPair, first_there, read_secret, usual_places
from gossipdistill.presence import NOWHERE, Address
from gossipdistill.roster import Roster, is_loopback, read_roster

INSECURE = (
    "INSECURE: nothing is encrypted and nobody is authenticated; whoever reaches the ports can read and send "
    "predictions and weights, in anybody's name (--insecure)"
)


@dataclass(frozen=True, slots=True)
class KeyFiles:
    """Where a worker finds its secret, and who may take part. Paths only: this is written into the run's folder."""

    secret: Path
    roster: Path

    def read(self, name: str) -> tuple[KeyPair, dict[str, str]]:
        """My pair, and the public keys of all who are trusted, by name.

        Raises:
            GossipdistillError: when a file is missing, refused or unfit.
        """
        return read_secret(self.secret, name), read_roster(self.roster).trusted


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user has said about keys."""

    key: Path | None = None
    secure: bool = False
    insecure: bool = False


def on_another_machine(addresses: Iterable[Address]) -> Address | None:
    """The first of these addresses that is not certainly on this machine."""
    return next((one for one in addresses if one != NOWHERE and not is_loopback(one.host)), None)


def choose(
    wishes: Wishes, name: str, file: Path | None, roster: Roster | None, addresses: Iterable[Address]
) -> KeyFiles | None:
    """The files with the keys of `name`, checked; None where connections stay as they are.

    Raises:
        IdentityError: for a key that is missing, refused or unfit.
        UsageError: for wishes that exclude one another.
    """
    if wishes.insecure and (wishes.secure or wishes.key is not None):
        raise UsageError("--insecure means without keys: leave out either that, or --key and --secure")
    elsewhere = on_another_machine(addresses)
    if wishes.insecure or not (wishes.secure or wishes.key is not None or elsewhere is not None):
        return None
    why = f"{elsewhere} is not on this machine, so keys are needed" if elsewhere is not None else "keys are asked for"
    if file is None or roster is None:
        raise IdentityError(
            f"{why}, and they are kept in a roster: give --peers FILE, with keys from: gossipdistill keys new --peers "
            "FILE; or, on a network that you trust, add --insecure"
        )
    file, keys = file.resolve(), f"gossipdistill keys new --peers {file}"
    secret = wishes.key or first_there(usual_places(name, file.parent))
    if secret is None:
        looked = " and ".join(str(place) for place in usual_places(name, file.parent))
        raise IdentityError(
            f"{why}; there is no secret of {name} at {looked}; make it here with: {keys} --name {name}; or give --key "
            "FILE; or, on a network that you trust, add --insecure"
        )
    pair = read_secret(secret, name)
    _check(name, pair, file, roster, why, keys)
    return KeyFiles(secret.resolve(), file)


def _check(name: str, pair: KeyPair, file: Path, roster: Roster, why: str, keys: str) -> None:
    entry = roster.entry(name)
    if entry.revoked:
        raise IdentityError(f"{file}: {name} is revoked; gossipdistill keys trust {name} KEY --peers {file} ends that")
    missing = [one.name for one in roster.peer if one.public_key is None]
    if missing:
        raise IdentityError(
            f"{why}; {file} has no public key of {', '.join(missing[:8])}; make it with: {keys} --name {missing[0]}"
            f" where its secret is to lie, or write in a known one: gossipdistill keys trust {missing[0]} KEY --peers "
            f"{file}; or, on a network that you trust, add --insecure"
        )
    if entry.public_key != pair.public:
        raise IdentityError(
            f"{file}: the public key of {name} is not that of its secret here, which is {pair.public}; see: "
            f"gossipdistill keys show --peers {file}"
        )
