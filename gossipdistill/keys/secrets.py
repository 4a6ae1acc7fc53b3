"""The secret file of one peer: TOML with a name, a public and a secret key. Only its owner may read it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import zmq
from pydantic import BaseModel, ConfigDict

from gossipdistill.errors import IdentityError
from gossipdistill.files import UnusableError, check_shape, decoded, is_file, opened
from gossipdistill.ids import is_peer_name
from gossipdistill.roster import is_public_key
from gossipdistill.toml import parse_toml

SUFFIX = ".secret"
FOLDER = "keys"
_BYTES_MAX = 4096
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_HEAD = """\
# The secret key of {name}, for gossipdistill. With it, any process can act as {name}: keep it only on its own machine.
"""


class _Written(BaseModel):
    """The content of a secret file, as written."""

    model_config = ConfigDict(strict=True)

    name: str
    public: str
    secret: str


@dataclass(frozen=True, slots=True)
class KeyPair:
    """The key pair of one peer. Keys are 40 characters of Z85. Only the public key is ever shown."""

    name: str
    public: str
    secret: str = field(repr=False)


def make_pair(name: str) -> KeyPair:
    """Make a new key pair."""
    public, secret = zmq.curve_keypair()
    return KeyPair(name, public.decode("ascii"), secret.decode("ascii"))


def read_secret(file: Path, name: str | None = None) -> KeyPair:
    """Read the key pair in this file, which must be of `name` if that is given.

    Raises:
        IdentityError: when others may read it, or it is not a secret file. The message shows nothing of its content.
    """
    text = read_private(file)
    try:
        written = check_shape(_Written, parse_toml(text))
    except UnusableError:  # its reason may show the file's content
        written = None
    if written is None or not (
        is_peer_name(written.name) and is_public_key(written.public) and is_public_key(written.secret)
    ):
        raise IdentityError(f"{file}: is not a secret file; make a new pair: gossipdistill keys new --renew")
    pair = KeyPair(written.name, written.public, written.secret)
    if _public_of(pair.secret) != pair.public:
        raise IdentityError(
            f"{file}: its public key is not that of the secret one; make a new pair: gossipdistill keys new --renew"
        )
    if name not in (None, pair.name):
        raise IdentityError(f"{file}: is the secret of {pair.name}, not of {name}")
    return pair


def _public_of(secret: str) -> str | None:
    """The public key that belongs to a secret key; None for 40 characters that are not a key."""
    try:
        return str(zmq.curve_public(secret.encode("ascii")).decode("ascii"))
    except zmq.ZMQError:
        return None


def write_secret(file: Path, pair: KeyPair, replace: bool = False) -> None:
    """Write a secret file with mode 0600, in a folder of mode 0700 that is made if it is missing.

    Raises:
        IdentityError: when the file is there and not to be replaced, or others may enter its folder.
    """
    content = f'name = "{pair.name}"\npublic = "{pair.public}"\nsecret = "{pair.secret}"\n'
    write_private(file, _HEAD.format(name=pair.name) + content, replace)


def read_private(file: Path) -> str:
    """The text of a small file that only its owner may read.

    Raises:
        IdentityError: when it does not exist, others may read it, or it is not text.
    """
    try:
        with opened(file) as (number, status):
            mode = stat.S_IMODE(status.st_mode)
            content = os.read(number, _BYTES_MAX + 1)
    except UnusableError as reason:
        raise IdentityError(f"{file}: {reason}") from None
    if os.name == "posix" and mode & _OTHERS:
        raise IdentityError(f"{file}: others may read it (mode {mode:04o}); do: chmod 600 {file}")
    if len(content) > _BYTES_MAX:
        raise IdentityError(f"{file}: is not a secret file: more than {_BYTES_MAX} bytes")
    try:
        return decoded(content)
    except UnusableError:
        raise IdentityError(f"{file}: is not a secret file: no text") from None


def write_private(file: Path, text: str, replace: bool) -> None:
    """Write a file that only its owner may read, into a folder that only its owner may enter.

    Raises:
        IdentityError: when the file is there and not to be replaced, or others may enter its folder.
    """
    scratch = file.with_name(f".{file.name}.partial-{os.getpid()}")
    try:
        if not file.parent.is_dir():
            file.parent.mkdir(mode=0o700, parents=True)
        mode = stat.S_IMODE(file.parent.stat().st_mode)
        if os.name == "posix" and mode & _OTHERS:
            raise IdentityError(f"{file.parent}: others may enter it (mode {mode:04o}); do: chmod 700 {file.parent}")
        number = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(number, "w", encoding="utf-8") as opened:
                opened.write(text)
                opened.flush()
                os.fsync(number)
            if replace:
                os.replace(scratch, file)
            else:
                os.link(scratch, file)  # fails if another process was faster
        finally:
            scratch.unlink(missing_ok=True)
    except FileExistsError:
        raise IdentityError(f"{file}: is there already, and is not overwritten") from None
    except OSError as error:
        raise IdentityError(f"{file}: cannot be written: {error.strerror}") from None


def usual_places(name: str, base: Path) -> tuple[Path, ...]:
    """The default paths of the secret of `name`: beside the roster, or in `keys` there."""
    return (base / FOLDER / f"{name}{SUFFIX}", base / f"{name}{SUFFIX}")


def first_there(files: Iterable[Path]) -> Path | None:
    """The first of these files that exists."""
    return next((file for file in files if is_file(file)), None)
