"""The specification of one worker process: all keys, resolved, as one JSON object."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict

from gossipdistill.config.layers import Layer, Resolved
from gossipdistill.config.origins import Origin, chosen
from gossipdistill.config.resolving import resolve
from gossipdistill.config.schema import RunConfig
from gossipdistill.config.tables import Dotted
from gossipdistill.errors import GossipdistillError
from gossipdistill.faults import FaultPlan
from gossipdistill.files import check_shape, parse_json, read_text
from gossipdistill.ids import is_peer_name
from gossipdistill.keys.choice import KeyFiles
from gossipdistill.presence import NOWHERE, Address
from gossipdistill.printable import printable

_ENDLESS_S = 1e9


def _peer_name(text: str) -> str:
    if not is_peer_name(text):
        raise ValueError("is no name for a peer")
    return text


class _Fields(BaseModel):
    """The plain fields of a specification, as JSON has them."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)

    name: Annotated[str, AfterValidator(_peer_name)]
    place: int
    count: int
    folder: str
    names: list[str]
    shard: list[int] | None
    pooled: bool
    slowdown: float
    device: str
    start_when: int
    start_within_s: float
    released_by_launcher: bool
    resume: bool
    insecure: bool


@dataclass(frozen=True)
class WorkerSpec:
    """One peer of a run.

    `names` are the peers by place (a roster), empty without a roster; then `seeds` are addresses to ask, and `count`
    is the number of shards. `addresses` go with `names`.
    """

    name: str
    place: int
    count: int
    resolved: Resolved
    folder: Path
    listen: Address
    advertise: Address
    names: tuple[str, ...] = ()
    addresses: tuple[Address, ...] = ()
    seeds: tuple[Address, ...] = ()
    shard: tuple[int, int] | None = None
    pooled: bool = False
    slowdown: float = 1.0
    device: str = "auto"
    data_dir: Path | None = None
    start_when: int = 1
    start_within_s: float = 60.0
    released_by_launcher: bool = False
    resume: bool = True
    topology_base: Path | None = field(default=None)
    user_folder: Path | None = None
    """The command was given in this folder: it holds the user's own modules, and each worker begins there."""
    faults: FaultPlan | None = None
    keys: KeyFiles | None = None
    """With these keys connections are encrypted, and messages of all others are refused."""
    insecure: bool = False
    """Whether other machines take part without keys, because the user has allowed it."""
    notices: tuple[str, ...] = ()
    """The user reads these notices before the run begins; each once, however many peers have it."""

    @classmethod
    def in_process(cls, name: str, names: Sequence[str], keys: Dotted) -> WorkerSpec:
        """A peer that its caller steps: without a process, an address or a file. `names` are all peers by place; `keys`
        are dotted, as in a run file, where it has no end unless they say steps or seconds.

        Raises:
            ConfigError: naming the key, the value and what would be accepted.
        """
        endless = {} if {"steps", "seconds"} & set(keys) else {"seconds": _ENDLESS_S}
        resolved = resolve([Layer(chosen("default"), endless), Layer(chosen("keys"), keys)])
        addresses = (NOWHERE,) * len(names)
        return cls(
            name,
            tuple(names).index(name),
            len(names),
            resolved,
            Path(),
            NOWHERE,
            NOWHERE,
            tuple(names),
            addresses,
            device="cpu",
        )

    @property
    def config(self) -> RunConfig:
        """The resolved configuration of this peer."""
        return self.resolved.config

    @property
    def threads(self) -> int:
        """CPU threads of this peer; chosen when the run was planned (config/threads.py)."""
        return self.config.train.threads or 1

    def typed(self, path: Path) -> Path:
        """A path as the user would type it: from the folder in which the command was given."""
        here = self.user_folder
        return path.relative_to(here) if here is not None and path.is_relative_to(here) else path

    def to_json(self) -> str:
        """For handing to a child process."""
        fields = {key: value for key, value in asdict(self).items() if key != "resolved"}
        fields["resolved"] = {
            "config": self.resolved.config.model_dump(mode="json"),
            "origins": {key: str(origin) for key, origin in self.resolved.origins.items()},
        }
        fields["faults"] = self.faults.model_dump(mode="json", exclude_none=True) if self.faults else None
        return json.dumps(fields, default=str, indent=1)

    @staticmethod
    def read(file: Path) -> WorkerSpec:
        """The specification in a file that a launcher wrote.

        Raises:
            GossipdistillError: when it is damaged.
        """
        try:
            return WorkerSpec.from_json(read_text(file))
        except Exception as error:  # this package wrote it: the key at fault is of no use to the user
            reason = printable(f"{type(error).__name__}: {error}")
            raise GossipdistillError(f"{file}: is damaged: {reason}") from error

    @staticmethod
    def from_json(text: str) -> WorkerSpec:
        """The inverse of `to_json`."""
        fields: dict[str, Any] = parse_json(text, nonfinite=True)  # an optimizer's options may be infinite
        check_shape(_Fields, fields)
        resolved = fields.pop("resolved")

        def path(key: str) -> Path | None:
            return Path(fields[key]) if fields[key] is not None else None

        fields |= {
            "folder": Path(fields["folder"]),
            "data_dir": path("data_dir"),
            "topology_base": path("topology_base"),
            "user_folder": path("user_folder"),
            "listen": Address(*fields["listen"]),
            "advertise": Address(*fields["advertise"]),
            "names": tuple(fields["names"]),
            "addresses": tuple(Address(*address) for address in fields["addresses"]),
            "notices": tuple(fields["notices"]),
            "seeds": tuple(Address(*address) for address in fields["seeds"]),
            "faults": FaultPlan.model_validate(fields["faults"]) if fields["faults"] else None,
            "shard": tuple(fields["shard"]) if fields["shard"] else None,
            "keys": KeyFiles(**{key: file and Path(file) for key, file in fields["keys"].items()})
            if fields["keys"]
            else None,
        }
        origins = {key: Origin.read(text) for key, text in resolved["origins"].items()}
        return WorkerSpec(resolved=Resolved(RunConfig.model_validate(resolved["config"]), origins), **fields)
