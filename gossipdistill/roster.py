"""The peers of a run: names, addresses and peculiarities, in the order that shards and topologies use."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    PlainSerializer,
    model_validator,
)

from gossipdistill import bundled
from gossipdistill.errors import ConfigError, nearest
from gossipdistill.ids import PEER_NAME_RULE, is_peer_name
from gossipdistill.presence import NOWHERE
from gossipdistill.presence import Address as Address

PEERS_MAX = 65_536
CONTROL_PORT_MAX = 65_534
"""The control port is at most this, since data uses the next port, which must exist too."""
_COUNT_CHARACTERS_MAX = 20
"""A count has at most this many characters. A longer number is no number of peers, and Python reads numbers of some
thousand digits only."""
LOCAL_NAMES = ("ada", "bo", "cy", "dee", "eve", "fay", "gus", "hal", "ivy", "jo", "kim", "lou")
"""These are the names of local peers of which only the count is given. From the thirteenth on they are called peer-13,
peer-14, ..."""

_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?")
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")
_SHARD = re.compile(r"(\d+)/(\d+)")
_KEY = re.compile(r"[0-9A-Za-z.:+=^!/*?&<>()\[\]{}@%$#-]{40}")


def parse_address(text: str) -> Address:
    """`host:port` or `[ipv6]:port` as an `Address`; a `ConfigError` says what is wrong with it."""
    try:
        return _address(text)
    except ValueError as error:
        raise ConfigError(str(error), key="address", value=text, accepted="host:port or [ipv6]:port") from None


def is_loopback(host: str) -> bool:
    """Whether `host` certainly is this machine: a loopback address or `localhost`. Other names are not resolved."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def classify(where: str) -> Literal["count", "addresses", "roster"]:
    """What a `--peers WHERE` is: a number of local peers, one or more addresses, or the name or file of a roster."""
    if re.fullmatch(r"[+-]?\d+", where.strip()):
        return "count"
    if not where.endswith(".toml") and ("," in where or ":" in where):
        return "addresses"
    return "roster"


def _address(text: object) -> Address:
    if isinstance(text, Address):
        return text
    if not isinstance(text, str):
        raise ValueError("must be a text such as 127.0.0.1:7400")
    host, colon, port = text.strip().rpartition(":")
    if not colon or not port:
        raise ValueError("lacks a port")
    if ":" in host:
        if not (host.startswith("[") and host.endswith("]")):
            raise ValueError("an IPv6 address needs brackets, as in [::1]:7400")
        host = _ipv6(host[1:-1])
    elif not _HOST.fullmatch(host):
        raise ValueError("lacks a host" if not host else f"{host!r} is no host name")
    if not (port.isascii() and port.isdigit()) or int(port) > CONTROL_PORT_MAX:
        raise ValueError(f"port {port} is not a number from 0 to {CONTROL_PORT_MAX} (data uses the port after it)")
    return Address(host, int(port))


def _ipv6(text: str) -> str:
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        raise ValueError(f"{text!r} is no IPv6 address") from None


def _reachable(address: Address) -> Address:
    if address.host in ("0.0.0.0", "::"):
        raise ValueError(f"{address.host} can be listened on, but not be reached; give the address that others dial")
    if address.port == 0 and not is_loopback(address.host):
        raise ValueError("port 0 is for peers of this machine; others must know the port")
    return address


def _name(text: str) -> str:
    if not is_peer_name(text):
        raise ValueError(f"is no peer name: {PEER_NAME_RULE}")
    return text


def _device(text: str) -> str:
    if not _DEVICE.fullmatch(text):
        raise ValueError("is no device: auto, cpu, cuda or cuda:K")
    return text


def _shard(text: str) -> str:
    match = _SHARD.fullmatch(text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError('is no shard: "k/n" with k from 1 to n, such as "3/8"')
    return text


def is_public_key(text: object) -> bool:
    """Whether `text` may be a CURVE key: 40 characters of Z85."""
    return isinstance(text, str) and _KEY.fullmatch(text) is not None


def _public_key(text: str) -> str:
    if not is_public_key(text):
        raise ValueError("is no public key: 40 characters, as `gossipdistill keys new` writes them")
    return text


def _dotted(settings: object, prefix: str = "") -> object:
    """Nested tables as dotted keys, so that `set = {task.model = "mlp"}` means the same as with quotes."""
    if not isinstance(settings, dict):
        return settings
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        inner = _dotted(value, f"{prefix}{key}.")
        new = inner if isinstance(inner, dict) else {f"{prefix}{key}": value}
        if again := flat.keys() & new.keys():
            raise ValueError(f"{min(again)} is given twice")
        flat |= new
    return flat


class PeerEntry(BaseModel):
    """One `[[peer]]` of a roster."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: Annotated[str, AfterValidator(_name)]
    address: Annotated[
        InstanceOf[Address], BeforeValidator(_address), AfterValidator(_reachable), PlainSerializer(str)
    ] = NOWHERE
    """Others reach this peer at this address."""
    listen: Literal["none"] | None = None
    """"none": nobody can reach this peer (a home network), so it has no address. It dials the others."""
    set: Annotated[dict[str, Any], BeforeValidator(_dotted)] = {}
    """These dotted keys of the run have other values for this peer."""
    slowdown: Annotated[float, Field(ge=1.0, allow_inf_nan=False)] = 1.0
    """Each step of this peer takes this many times as long (a deliberate straggler)."""
    device: Annotated[str, AfterValidator(_device)] | None = None
    shard: Annotated[str, AfterValidator(_shard)] | None = None
    """The shard is the k-th of n parts of the training data, counted from 1; the default is by place in the roster."""
    public_key: Annotated[str, AfterValidator(_public_key)] | None = None
    """The public key of the peer's CURVE key pair, as written by `gossipdistill keys new`."""
    revoked: bool = False
    """The key is not trusted any more; written by `gossipdistill keys revoke`."""

    @model_validator(mode="after")
    def _reached_or_not(self) -> PeerEntry:
        if self.address == NOWHERE and self.listen is None:
            raise ValueError('lacks an address; give one, or listen = "none" for a peer that dials out only')
        if self.address != NOWHERE and self.listen == "none":
            raise ValueError(f'has the address {self.address} and listen = "none"; leave one of them out')
        return self


class Roster(BaseModel):
    """All peers, in order. `load_roster` makes one from a count, a name or a file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    peer: Annotated[tuple[PeerEntry, ...], Field(min_length=1, max_length=PEERS_MAX)]

    @model_validator(mode="after")
    def _distinct(self) -> Roster:
        """Refuse equal names, overlapping pairs of ports on one host, and a roster without a peer that can be
        dialled."""
        taken: dict[tuple[str, int], PeerEntry] = {}
        names: dict[str, int] = {}
        holders: dict[str, str] = {}
        for number, entry in enumerate(self.peer, start=1):
            if entry.name in names:
                raise ValueError(f"peers {names[entry.name]} and {number} have the same name {entry.name!r}")
            names[entry.name] = number
            if entry.public_key is not None and holders.setdefault(entry.public_key, entry.name) != entry.name:
                raise ValueError(f"{holders[entry.public_key]} and {entry.name} have the same public key")
            if entry.address.port == 0:
                continue
            for port in (entry.address.port, entry.address.data_port):
                other = taken.setdefault((_machine(entry.address.host), port), entry)
                if other is not entry:
                    raise ValueError(_collision(other, entry))
        if len(self.peer) > 1 and all(entry.address == NOWHERE for entry in self.peer):
            raise ValueError('all peers have listen = "none": one at least must have an address that the others dial')
        return self

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names in roster order."""
        return tuple(entry.name for entry in self.peer)

    @cached_property
    def trusted(self) -> dict[str, str]:
        """Public keys by name, of all peers with a key that is not revoked."""
        return {one.name: one.public_key for one in self.peer if one.public_key is not None and not one.revoked}

    @cached_property
    def revoked(self) -> frozenset[str]:
        """Names of the peers whose keys are revoked."""
        return frozenset(one.name for one in self.peer if one.revoked)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.names)}

    def place(self, name: str) -> int:
        """Index of `name`, from 0, or a `ConfigError` with the nearest names."""
        if name not in self._places:
            raise ConfigError(f"peer {name!r} is not in the roster; {nearest(name, self.names)}")
        return self._places[name]

    def entry(self, name: str) -> PeerEntry:
        """The entry of `name`, or a `ConfigError` with the nearest names."""
        return self.peer[self.place(name)]

    @property
    def without_ports(self) -> tuple[str, ...]:
        """Names of the peers whose ports the launcher must still pick."""
        return tuple(entry.name for entry in self.peer if entry.address.port == 0 and entry.listen is None)

    def with_ports(self, ports: Mapping[str, int]) -> Roster:
        """The same roster with these control ports (name -> port), checked again for collisions."""
        for name in ports:
            self.place(name)
        moved = [
            entry.model_copy(update={"address": Address(entry.address.host, ports[entry.name])})
            if entry.name in ports
            else entry
            for entry in self.peer
        ]
        return bundled.validated(Roster, {"peer": tuple(moved)}, file="roster")


def load_roster(where: str, base: Path | None = None) -> Roster:
    """The roster that `where` means: a count of local peers (their ports still 0), a ready-made name, or a file.

    A path is relative to `base` (default: the current folder). Lists of addresses are not rosters; see `classify`.
    """
    what = classify(where)
    if what == "count":
        return _counted(int(where) if len(where.strip()) <= _COUNT_CHARACTERS_MAX else 0, where)
    if what == "addresses":
        raise ConfigError(
            "a list of addresses is not a roster",
            key="peers",
            value=where,
            accepted="a count, a ready-made roster, or a .toml file",
        )
    return read_roster(bundled.find("peers", where, base))


def read_roster(file: Path) -> Roster:
    """The roster in a TOML file. Errors name the file and the entry."""
    data = bundled.read_toml(file)
    for key in data:
        if key != "peer":
            raise ConfigError("unknown key; a roster consists of [[peer]] entries", file=file, key=key)
    written = data.get("peer")
    if not isinstance(written, list) or not written:
        raise ConfigError("has no [[peer]] entry", file=file)
    entries = []
    for number, table in enumerate(written, start=1):
        name = table.get("name") if isinstance(table, dict) else None
        of_whom = f"{file}: peer {number}" + (f" ({name})" if isinstance(name, str) else "")
        if not isinstance(table, dict):
            raise ConfigError("must be a [[peer]] table", file=of_whom, value=table)
        entries.append(bundled.validated(PeerEntry, table, file=of_whom))
    return bundled.validated(Roster, {"peer": tuple(entries)}, file=file)


def _counted(count: int, written: str) -> Roster:
    if not 1 <= count <= PEERS_MAX:
        value = count or written
        raise ConfigError("is no number of peers", key="peers", value=value, accepted=f"1 to {PEERS_MAX}")
    names = [LOCAL_NAMES[k] if k < len(LOCAL_NAMES) else f"peer-{k + 1}" for k in range(count)]
    here = Address("127.0.0.1", 0)
    return Roster(peer=tuple(PeerEntry(name=name, address=here) for name in names))


def _machine(host: str) -> str:
    # localhost is written for either loopback address; 127.0.0.1 stands for both.
    return "127.0.0.1" if host.lower().rstrip(".") in ("localhost", "::1") else host.lower().rstrip(".")


def _collision(one: PeerEntry, other: PeerEntry) -> str:
    if one.address.port == other.address.port:
        return f"{one.name} and {other.name} have the same address {other.address}"
    return (
        f"the ports of {one.name} ({one.address}, data on {one.address.data_port}) and {other.name} "
        f"({other.address}, data on {other.address.data_port}) overlap; leave two ports to each peer"
    )
