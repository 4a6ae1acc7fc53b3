"""The join file of a run: a peer that has it may enrol with a key of its own. It also names one live peer to enrol
with.

It is TOML with the run's name, a secret of 32 bytes, and name, address and public key of that peer. Only its owner may
read it, as for a secret key.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from gossipdistill.errors import ConfigError, IdentityError
from gossipdistill.files import UnusableError, check_shape
from gossipdistill.ids import is_peer_name
from gossipdistill.keys.secrets import read_private, write_private
from gossipdistill.presence import Address
from gossipdistill.roster import is_public_key, parse_address
from gossipdistill.toml import parse_toml

_SECRET_BYTES = 32
_HEAD = """\
# The join secret of the run {run}, for gossipdistill. With it, any peer can take part in that run: copy it (scp)
# only to newcomers and to the peers that take part.
"""


class _Written(BaseModel):
    """The content of a join file, as written."""

    model_config = ConfigDict(strict=True)

    run: str
    secret: str
    name: str
    address: str
    public: str


@dataclass(frozen=True, slots=True)
class Join:
    """The content of a join file. `host` is the name of the peer to enrol with."""

    run: str
    secret: bytes = field(repr=False)
    host: str
    address: Address
    public: str


def make_join(file: Path, run: str, host: str, address: Address, public: str, replace: bool = False) -> None:
    """Write a join file with a new secret.

    Raises:
        IdentityError: when the file exists and is not to be replaced, or cannot be written.
    """
    content = (
        f'run = "{run}"\nsecret = "{secrets.token_hex(_SECRET_BYTES)}"\n\n# A peer that is there:\n'
        f'name = "{host}"\naddress = "{address}"\npublic = "{public}"\n'
    )
    write_private(file, _HEAD.format(run=run) + content, replace)


def read_join(file: Path, run: str) -> Join:
    """Read the join file of this run.

    Raises:
        IdentityError: when others may read it, it is of another run, or it is not a join file. The message shows
        nothing of the secret.
    """
    text = read_private(file)
    join: Join | None
    try:
        said = check_shape(_Written, parse_toml(text))
        join = Join(said.run, bytes.fromhex(said.secret), said.name, parse_address(said.address), said.public)
    except (UnusableError, ValueError, ConfigError):  # their reasons may show the file's content
        join = None
    if join is None or not (
        is_peer_name(join.run)
        and is_peer_name(join.host)
        and is_public_key(join.public)
        and len(join.secret) == _SECRET_BYTES
    ):
        raise IdentityError(f"{file}: is not a join file; `gossipdistill keys invite` makes them")
    if join.run != run:
        raise IdentityError(f"{file}: is for the run {join.run}, and this one is called {run}")
    return join
