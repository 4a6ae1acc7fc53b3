"""The commands keys new, show, trust and revoke. They write public keys into the roster, and keep its order and
comments."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import Comment, Table, Whitespace

from gossipdistill import bundled
from gossipdistill.durable import Disk, put
from gossipdistill.errors import ConfigError, IdentityError, UsageError
from gossipdistill.files import TEXT_BYTES_MAX, UnusableError, decoded, read_bytes
from gossipdistill.ids import PEER_NAME_RULE, is_peer_name
from gossipdistill.keys.secrets import (
    FOLDER,
    SUFFIX,
    first_there,
    make_pair,
    read_secret,
    usual_places,
    write_secret,
)
from gossipdistill.roster import Roster, classify, is_public_key, read_roster
from gossipdistill.toml import parse_toml

try:
    import fcntl
except ImportError:  # Windows: the user must run one at a time
    fcntl = None  # type: ignore[assignment]

_LOOK_EVERY_S = 0.2
_MARK = b"\xef\xbb\xbf"
"""The byte order mark that Windows editors put in front of a UTF-8 text."""


@dataclass(frozen=True, slots=True)
class Issued:
    """What was done with one peer's keys."""

    name: str
    public: str
    what: str


@dataclass(frozen=True, slots=True)
class Listed:
    """What is known of one peer's keys. `secret` is a path, a problem with it, or empty."""

    name: str
    public: str
    state: str
    secret: str


def roster_file(where: str) -> Path:
    """The file of a roster that may be changed.

    Raises:
        ConfigError: for a count, addresses, or a roster that is part of the installation.
    """
    if classify(where) != "roster":
        raise ConfigError("keys are kept in a roster", key="peers", value=where, accepted="a .toml file")
    file = bundled.find("peers", where)
    if file in [ready for _, ready in bundled.listing("peers")]:
        raise ConfigError(
            "came with the installation and is not changed; copy it first",
            key="peers",
            value=where,
            accepted=f"a .toml file of your own: cp {file} .",
        )
    return file


def new(file: Path, names: Sequence[str] = (), folder: Path | None = None, renew: bool = False) -> list[Issued]:
    """Make a key pair for each peer of the roster, or for `names`: secrets into `folder`, public keys into the roster.

    Existing keys are kept. The public key of an existing secret is written into the roster if it is missing there; a
    public key without a secret here belongs to another machine. With `renew` both are made anew.

    Raises:
        ConfigError: for a roster that cannot be read, or a name that is not in it.
        IdentityError: when a secret does not match the roster, or a file cannot be written.
    """
    folder = folder if folder is not None else file.parent / FOLDER
    with _locked(file):
        roster = read_roster(file)
        issued = [_issue(file, roster, name, folder, renew) for name in names or roster.names]
        changed = {one.name: one.public for one in issued if one.public != (roster.entry(one.name).public_key or "")}
        if changed:
            _rewrite(file, lambda entry: _set_key(entry, changed.get(entry["name"])))
    return issued


def new_secrets(names: Sequence[str], folder: Path | None = None, renew: bool = False) -> list[Issued]:
    """Make a key pair for each of `names`, which are in no roster: secrets only.

    Raises:
        UsageError: without names.
        ConfigError: for an invalid name.
        IdentityError: when a file cannot be written.
    """
    if not names:
        raise UsageError("give --peers ROSTER, or --name NAME for a peer that is in no roster")
    issued = []
    for name in names:
        if not is_peer_name(name):
            raise ConfigError("is no name for a peer", key="--name", value=name, accepted=PEER_NAME_RULE)
        place = (folder if folder is not None else Path(FOLDER)) / f"{name}{SUFFIX}"
        if place.exists() and not renew:
            issued.append(Issued(name, read_secret(place, name).public, f"kept: {place}"))
            continue
        pair = make_pair(name)
        write_secret(place, pair, renew)
        issued.append(Issued(name, pair.public, f"made: {place}"))
    return issued


def await_all(file: Path, wait_s: float, say: Callable[[str], None]) -> None:
    """Wait until every peer of a roster that other machines write too (a shared folder, a volume) has its public key.

    Raises:
        IdentityError: when a peer has none after `wait_s` seconds.
    """
    give_up_s, said = time.monotonic() + wait_s, ""
    while missing := [one.name for one in read_roster(file).peer if one.public_key is None]:
        if time.monotonic() >= give_up_s:
            raise IdentityError(f"{file}: no public key of {', '.join(missing)} within {wait_s:g} s")
        if said != (said := ", ".join(missing)):
            say(f"waiting for the public keys of {said}")
        time.sleep(_LOOK_EVERY_S)


def trust(file: Path, name: str, key: str, replace: bool = False) -> None:
    """Make `key` the public key of this peer, and end a revocation of the peer.

    Raises:
        ConfigError: for an invalid key, or a name that is not in the roster.
        IdentityError: when the peer has another key and `replace` is not set.
    """
    if not is_public_key(key):
        raise ConfigError("is no public key", key="KEY", value=key, accepted="the 40 characters that `keys show` shows")
    with _locked(file):
        known = read_roster(file).entry(name).public_key
        if known not in (None, key) and not replace:
            raise IdentityError(f"{file}: {name} has another public key, {known}; to replace it, add --replace")
        _rewrite(file, lambda entry: _set_key(entry, key if entry["name"] == name else None))


def revoke(file: Path, name: str) -> None:
    """Revoke the peer `name` until a key of it is trusted again. It keeps its place in the roster.

    Raises:
        ConfigError: for a name that is not in the roster.
    """
    with _locked(file):
        read_roster(file).entry(name)
        _rewrite(file, lambda entry: _set_revoked(entry) if entry["name"] == name else None)


def show(file: Path) -> list[Listed]:
    """Each peer's public key, whether it is trusted, and the path of its secret if it is here."""
    listed = []
    for entry in read_roster(file).peer:
        state = "none" if entry.public_key is None else "revoked" if entry.revoked else "trusted"
        here, problem = first_there(usual_places(entry.name, file.parent)), ""
        if here is not None:
            try:
                if read_secret(here, entry.name).public != entry.public_key:
                    problem = f"{here}: does not fit the public key in the roster"
            except IdentityError as error:
                problem = str(error)
        listed.append(Listed(entry.name, entry.public_key or "", state, problem or str(here or "")))
    return listed


def _issue(file: Path, roster: Roster, name: str, folder: Path, renew: bool) -> Issued:
    known, place = roster.entry(name).public_key, folder / f"{name}{SUFFIX}"
    if renew or (known is None and not place.exists()):
        pair = make_pair(name)
        write_secret(place, pair, replace=renew)
        return Issued(name, pair.public, f"made: {place}")
    if not place.exists():
        return Issued(name, known or "", "kept; its secret is not here")
    pair = read_secret(place, name)
    if known is None:
        return Issued(name, pair.public, f"public key written from {place}")
    if known != pair.public:
        raise IdentityError(
            f"{place}: its public key is {pair.public}, and {file} says {known} of {name}; if the secret is the right "
            f"one: keys trust {name} KEY --replace; else make both anew: keys new --name {name} --renew"
        )
    return Issued(name, known, f"kept: {place}")


def _set_key(entry: Any, key: str | None) -> None:
    if key is not None:
        _set(entry, "public_key", key)
        entry.pop("revoked", None)


def _set_revoked(entry: Any) -> None:
    _set(entry, "revoked", True)


def _set(entry: Any, key: str, value: str | bool) -> None:
    """Insert a key after the other keys, and before a comment that belongs to the next entry."""
    if key in entry or not isinstance(entry, Table):
        entry[key] = value
        return
    behind: list[Comment | Whitespace] = []
    body = entry.value.body
    while body and isinstance(item := body[-1][1], Comment | Whitespace):
        behind.insert(0, item)
        body.pop()
    entry[key] = value
    for item in behind:
        entry.add(item)


def _rewrite(file: Path, change: Callable[[Any], None]) -> None:
    """Apply `change` to each [[peer]] of a roster; nothing else of the file may differ afterwards."""
    real = file.resolve()
    try:
        content = read_bytes(real, TEXT_BYTES_MAX)
        before = decoded(content)
        document = tomlkit.parse(before)
        for entry in document["peer"]:
            change(entry)
        after = tomlkit.dumps(document)
        kept = _without_keys(before) == _without_keys(after)
    except UnusableError as reason:
        raise ConfigError(str(reason), file=file) from None
    except Exception:  # a file that tomllib reads and tomlkit does not
        kept = False
    if not kept:
        raise ConfigError("cannot be changed without losing something of it; write the keys in by hand", file=file)
    mark = content[: len(_MARK)] if content.startswith(_MARK) else b""
    mode, disk = real.stat().st_mode & 0o777, Disk()
    try:
        put(real, [mark, after.encode("utf-8")], disk)
        real.chmod(mode)
        disk.sync(real.parent)
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror}", file=file) from None


def _without_keys(text: str) -> dict[str, Any]:
    read = parse_toml(text)
    for entry in read["peer"]:
        entry.pop("public_key", None)
        entry.pop("revoked", None)
    return read


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Only one process at a time changes a roster, also among machines or containers with a shared folder."""
    if fcntl is None:
        yield
        return
    try:
        number = os.open(file.resolve().parent, os.O_RDONLY)
    except OSError as error:
        raise ConfigError(f"its folder cannot be opened: {error.strerror}", file=file) from None
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)
