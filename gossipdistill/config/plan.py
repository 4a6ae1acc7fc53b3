"""From what the user typed to the specifications of worker processes."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gossipdistill import bundled
from gossipdistill.config.dealing import part_of, refuse_one_part_twice
from gossipdistill.config.layers import Layer, Resolved, environment_layers, file_layer, parse_settings
from gossipdistill.config.origins import COMMAND_LINE, TYPED, Origin, Source, chosen
from gossipdistill.config.resolving import SECTION_NAMES, resolve
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.config.threads import Cpus, Threads, with_threads
from gossipdistill.config.threads import choose as choose_threads
from gossipdistill.errors import AddressError, ConfigError, UsageError
from gossipdistill.ids import PEER_NAME_RULE, is_peer_name
from gossipdistill.keys.choice import KeyOptions, choose, on_another_machine
from gossipdistill.keys.joining import read_join
from gossipdistill.machine.listening import free_ports, refuse_unusable
from gossipdistill.presence import NOWHERE, Address
from gossipdistill.roster import Roster, classify, is_loopback, load_roster, parse_address
from gossipdistill.strategies import Delivery

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Asked:
    """The options that run, worker and compare share, as typed. None: not given."""

    run_file: Path | None = None
    peers: str | None = None
    topology: str | None = None
    task: str | None = None
    strategy: str | None = None
    steps: int | None = None
    seconds: float | None = None
    seed: int | None = None
    settings: Sequence[str] | None = None
    """These are texts `key=value`, as for --set."""
    data_dir: Path | None = None
    device: str = "auto"
    out: Path = Path("runs")
    key_options: KeyOptions = field(default_factory=KeyOptions)
    """These are the options about encryption keys."""
    without: frozenset[str] = frozenset()
    """These keys are passed over (used by `compare`)."""
    here: Path = field(default_factory=Path.cwd)
    """The command was given in this folder. Paths are made absolute by it at once: a task may change folders."""

    def __post_init__(self) -> None:
        key_options, here = self.key_options, self.here
        key_options = replace(key_options, key=_within(here, key_options.key), join=_within(here, key_options.join))
        object.__setattr__(self, "key_options", key_options)
        object.__setattr__(self, "data_dir", _within(here, self.data_dir))
        object.__setattr__(self, "out", here / self.out)

    def layers(self, ready_made: Layer | None = None) -> list[Layer]:
        """Run file, environment and command line, weakest first (a roster entry goes between the first two). Without a
        run file, `ready_made` stands in its place; unset: the run `first-light`."""
        typed = {
            "peers": self.peers,
            "topology": self.topology,
            "task.name": self.task,
            "strategy.name": self.strategy,
            "steps": self.steps,
            "seconds": self.seconds,
            "seed": self.seed,
        }
        values = {key: value for key, value in typed.items() if value is not None} | parse_settings(self.settings or ())
        file = file_layer(self.run_file) if self.run_file is not None or ready_made is None else ready_made
        above = [*environment_layers(), Layer(COMMAND_LINE, values)]
        if self.run_file is None:
            file = _fitting(file, above)
        return [layer.without(self.without) for layer in (file, *above)]

    def base_of(self, resolved: Resolved, key: str) -> Path:
        """Folder that a path under `key` is relative to: that of the run file if the key stands there."""
        origin = resolved.origins.get(key)
        if self.run_file is not None and origin is not None and origin.source is Source.RUN_FILE:
            return (self.here / self.run_file).resolve().parent
        return self.here


def _fitting(ready_made: Layer, above: Sequence[Layer]) -> Layer:
    """The ready-made run, without the keys for its own task and its own end where others are asked for."""
    asked = {SECTION_NAMES.get(key, key): value for layer in above for key, value in layer.values.items()}
    own = ready_made.values.get("task.name")
    unfit = set()
    if asked.get("task.name", own) != own:
        unfit = {key for key in ready_made.values if key.startswith("task.")}
    if "steps" in asked and "seconds" not in asked:
        unfit.add("seconds")  # it ends by time; a user who asks for steps means steps
    return ready_made.without(unfit)


def _within(here: Path, path: Path | None) -> Path | None:
    return None if path is None else here / path


def plan_local(
    asked: Asked,
    extra: Sequence[Layer] = (),
    drop_from_roster: Iterable[str] = (),
    resume: bool = False,
    threads: Callable[[int], Threads] | None = None,
) -> list[WorkerSpec]:
    """One specification per peer of a run on this machine, with free ports filled in. Nothing is written: the run's
    folder is where it would be if the name is not taken (`settle` makes it).

    Args:
        extra: layers above the command line (used by `compare`).
        drop_from_roster: dotted keys of roster entries that are left out (used by `compare`).
        resume: go on in the run folder of this name instead of beginning a new one.
        threads: from the number of peers to the CPU threads of each; unset: as this machine has them free now.
    """
    layers = [*asked.layers(), *extra]
    common = resolve(layers)
    where, base = common.config.peers, asked.base_of(common, "peers")
    roster = _local_roster(asked, common)
    file = bundled.find("peers", where, base) if classify(where) == "roster" else None
    folder = asked.out / common.config.name
    if resume and not folder.is_dir():
        raise ConfigError("no such run to resume; leave out --resume to begin one", file=folder)
    parts = {name: part_of(roster, name) for name in roster.names}
    refuse_one_part_twice(parts, common.config.task.shards, file)
    dropped = set(drop_from_roster)
    each = (threads or threads_here)(len(roster.peer))
    addresses = _addresses_of(roster)
    specs = []
    for place, entry in enumerate(roster.peer):
        own = {key: value for key, value in entry.set.items() if key not in dropped}
        resolved = resolve(with_roster_entry(layers, entry.name, own))
        spec = planned_peer(asked, resolved, folder, roster, place, addresses)
        keys = choose(asked.key_options, entry.name, common.config.name, file, roster if file is not None else None, ())
        spec = replace(spec, keys=keys, released_by_launcher=True, resume=resume, notices=unused_here(resolved))
        specs.append(with_threads(spec, each))
    return specs


def planned_peer(
    asked: Asked, resolved: Resolved, folder: Path, roster: Roster, place: int, addresses: tuple[Address, ...]
) -> WorkerSpec:
    """The peer at this place of a roster, as each command plans it, in the run of this folder. `addresses` are those of
    all peers, by place."""
    entry = roster.peer[place]
    spec = _peer(asked, resolved, folder / entry.name, place, len(roster.peer), part_of(roster, entry.name))
    spec = replace(spec, listen=addresses[place], advertise=addresses[place], names=roster.names, addresses=addresses)
    return replace(spec, slowdown=entry.slowdown, device=entry.device or asked.device)


def _peer(asked: Asked, resolved: Resolved, folder: Path, place: int, count: int, shard: tuple[int, int]) -> WorkerSpec:
    """The common part of the specification of a peer with a roster and of one without; its name is that of its
    folder."""
    return WorkerSpec(
        folder.name,
        place,
        count,
        resolved,
        folder,
        NOWHERE,
        NOWHERE,
        shard=shard,
        device=asked.device,
        data_dir=asked.data_dir,
        topology_base=asked.base_of(resolved, "topology"),
        user_folder=asked.here,
    )


def _addresses_of(roster: Roster) -> tuple[Address, ...]:
    """The addresses of all peers, by place."""
    return tuple(_local(entry.address) for entry in roster.peer)


def unused_here(resolved: Resolved) -> tuple[str, ...]:
    """Keys of a simulation that were typed for a real run; in a run file they may stand for `simulate`."""
    keys = [key for key, origin in resolved.origins.items() if key.startswith("sim.") and origin.source in TYPED]
    return tuple(f"{key} is not used here: it is for gossipdistill simulate" for key in keys)


def settle(specs: Sequence[WorkerSpec]) -> list[WorkerSpec]:
    """The same run with a folder of its own, which is made now, and with a meeting place where the strategy needs
    one."""
    wanted = specs[0].folder.parent
    folder = wanted if specs[0].resume else new_run_folder(wanted.parent, wanted.name)
    values: dict[str, object] = {"name": folder.name}
    if specs[0].config.strategy_class().delivery is Delivery.COLLECTIVE:
        # A file that was never used before: a collective cannot begin anew in an old one.
        meeting = folder.resolve() / f"rendezvous-{time.time_ns()}"
        values["strategy.rendezvous"] = f"file://{meeting}"
    origin = chosen("chosen by the launcher")
    return [replace(spec, folder=folder / spec.name, resolved=spec.resolved.changed(values, origin)) for spec in specs]


def _local_roster(asked: Asked, common: Resolved) -> Roster:
    """The roster of a run on this machine, with free ports where it names none."""
    if classify(common.config.peers) == "addresses":
        raise ConfigError(
            "a run on this machine needs a count or a roster",
            key="peers",
            value=common.config.peers,
            accepted="for example 4, or unlike-4; addresses are for: gossipdistill worker",
        )
    roster = load_roster(common.config.peers, asked.base_of(common, "peers"))
    for entry in roster.peer:
        if entry.address != NOWHERE and not is_loopback(entry.address.host):
            raise AddressError(
                f"{entry.name} has the address {entry.address}, which is not on this machine; "
                f"start it there with: gossipdistill worker --name {entry.name} --peers {common.config.peers}"
            )
    ports = {str(entry.name): entry.address for entry in roster.peer if entry.address.port}
    refuse_unusable(ports, f"use --peers {len(roster.peer)} (a count), which picks free ports")
    taken = {port for address in ports.values() for port in (address.port, address.port + 1)}
    return roster.with_ports(free_ports(roster.without_ports, LOOPBACK, taken))


def plan_worker(
    asked: Asked,
    name: str | None,
    listen: str | None,
    advertise: str | None,
    shard: str | None,
    start_when: int,
    start_within_s: float,
    fresh: bool,
) -> WorkerSpec:
    """The specification of one peer of a cluster, with a roster or with addresses only."""
    common = resolve(asked.layers())
    where = common.config.peers
    if name is None:
        raise UsageError("which peer is this? Give --name NAME (or GOSSIPDISTILL_NAME)")
    if not is_peer_name(name):
        raise ConfigError("is no name for a peer", key="--name", value=name, accepted=PEER_NAME_RULE)
    _refuse_no_meeting(common)
    # A worker that is given no peers at all is the first one of a run without a roster.
    if ("peers" not in common.origins and shard is not None) or classify(where) == "addresses":
        spec, sharing = _without_roster(asked, common, name, listen, advertise, shard)
    else:
        spec, sharing = _with_roster(asked, common, name, listen, advertise, shard)
    notices = unused_here(spec.resolved)
    spec = replace(spec, start_when=start_when, start_within_s=start_within_s, resume=not fresh, notices=notices)
    return with_threads(spec, threads_here(sharing, 1))


def _with_roster(
    asked: Asked, common: Resolved, name: str, listen: str | None, advertise: str | None, shard: str | None
) -> tuple[WorkerSpec, int]:
    """The peer, and how many of them share this machine."""
    where = common.config.peers
    if "peers" not in common.origins:
        raise UsageError(
            "where are the others? Give --peers ROSTER or --peers HOST:PORT,...; the first peer of a run without a "
            "roster gives --shard K/N and --listen HOST:PORT instead"
        )
    if classify(where) == "count":
        raise ConfigError(
            "a single worker cannot find the others by a count",
            key="peers",
            value=where,
            accepted="a roster, or addresses with --shard K/N; a count is for: gossipdistill run",
        )
    roster = load_roster(where, asked.base_of(common, "peers"))
    entry = roster.entry(name)
    known = entry.address if entry.address != NOWHERE else None
    listening, advertised = _places(listen or entry.listen, advertise, known)
    parts = {one: part_of(roster, one) for one in roster.names} | ({name: parse_shard(shard)} if shard else {})
    addresses = [listening, advertised, *(other.address for other in roster.peer)]
    file = bundled.find("peers", where, asked.base_of(common, "peers"))
    refuse_one_part_twice(parts, common.config.task.shards, file)
    keys = choose(asked.key_options, name, common.config.name, file, roster, addresses)
    _refuse_taken(name, _local(listening))
    resolved = resolve(with_roster_entry(asked.layers(), name, dict(entry.set)))
    folder = asked.out / common.config.name
    spec = planned_peer(asked, resolved, folder, roster, roster.place(name), _addresses_of(roster))
    spec = replace(spec, listen=_local(listening), advertise=_local(advertised), shard=parts[name])
    spec = replace(spec, keys=keys, insecure=keys is None and on_another_machine(addresses) is not None)
    return spec, _on_one_machine(roster, entry.address)


def _without_roster(
    asked: Asked, common: Resolved, name: str, listen: str | None, advertise: str | None, shard: str | None
) -> tuple[WorkerSpec, int]:
    """The peer, and how many of them share this machine."""
    seeds = () if "peers" not in common.origins else tuple(parse_seeds(common.config.peers))
    if asked.key_options.join is not None and not seeds:
        join = read_join(asked.key_options.join, common.config.name)
        seeds = () if join.host == name else (join.address,)
    if shard is None:
        raise UsageError("without a roster, say which part of the data this peer has: --shard K/N, for example 1/3")
    index, count = parse_shard(shard)
    if listen is None:
        port = free_ports([name], LOOPBACK, {port for a in seeds for port in (a.port, a.port + 1)})[name]
        listen = str(Address(LOOPBACK, port))
    listening, advertised = _places(listen, advertise, None)
    if listening == NOWHERE and not seeds:
        raise UsageError("a peer that listens nowhere must dial somebody: give --peers HOST:PORT")
    if advertised.host in ("0.0.0.0", "::"):
        raise UsageError(f"others cannot reach {advertised}: say where they can, with --advertise HOST:PORT")
    addresses = [listening, advertised, *seeds]
    keys = choose(asked.key_options, name, common.config.name, None, None, addresses)
    _refuse_taken(name, _local(listening))
    here = count if all(is_loopback(a.host) for a in (advertised, *seeds) if a.host) else 1
    spec = _peer(asked, common, asked.out / common.config.name / name, index, count, (index, count))
    spec = replace(spec, listen=_local(listening), advertise=_local(advertised), seeds=tuple(map(_local, seeds)))
    return replace(spec, keys=keys, insecure=keys is None and on_another_machine(addresses) is not None), here


def _places(listen: str | None, advertise: str | None, known: Address | None) -> tuple[Address, Address]:
    """Where to listen, and where others reach this peer; NOWHERE twice for "none"."""
    if listen == "none":
        if advertise:
            raise UsageError(f"--listen none means that nobody can reach this peer; leave out --advertise {advertise}")
        return NOWHERE, NOWHERE
    advertised = parse_address(advertise) if advertise else known
    listening = parse_address(listen) if listen else advertised
    assert listening is not None
    return listening, advertised if advertised is not None else listening


def _refuse_taken(name: str, address: Address) -> None:
    """Early, because building the task may take long."""
    refuse_unusable({name: address}, "listen elsewhere: --listen HOST:PORT (two ports, this and the next)")


def _on_one_machine(roster: Roster, address: Address) -> int:
    """The number of peers that share the machine at this address, as far as addresses tell. A peer without an address
    counts as here if all others are."""
    hosts = [entry.address.host for entry in roster.peer]
    if all(is_loopback(host) for host in hosts if host):
        return len(hosts)
    return hosts.count(address.host) if address != NOWHERE else 1


def threads_here(peers: int, starting: int | None = None) -> Threads:
    """CPU threads of each of `peers` on this machine, of which `starting` start now (unset: all)."""
    return choose_threads(peers, starting if starting is not None else peers, Cpus.read(), os.environ)


def _refuse_no_meeting(common: Resolved) -> None:
    """Workers that are started one by one must be told where a collective meets; `run` and `compare` choose a place."""
    collective = common.config.strategy_class().delivery is Delivery.COLLECTIVE
    if collective and not (common.config.strategy.model_extra or {}).get("rendezvous"):
        raise ConfigError(
            f"is needed by {common.config.strategy.name} when workers are started one by one",
            key="strategy.rendezvous",
            accepted="tcp://HOST:PORT, the first peer's host and a free port, alike on all",
        )


def with_roster_entry(layers: Sequence[Layer], name: str, values: dict[str, object]) -> list[Layer]:
    """The layers with those of this peer's roster entry above the run file and below environment and command line."""
    file, *above = layers
    return [file, Layer(Origin(Source.ROSTER_ENTRY, name), values), *above]


def new_run_folder(out: Path, name: str) -> Path:
    """`out/name`, or `out/name-2`, `-3`, ... when it is taken; made here, so that two runs never share one."""
    for number in range(1, 100_000):
        folder = out / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
        except OSError as error:
            raise ConfigError(f"cannot be made: {error.strerror}", file=folder) from None
    raise ConfigError("has too many runs of one name", file=out, key="name", value=name)


def parse_shard(text: str) -> tuple[int, int]:
    """`K/N`, counted from 1 -> (index from 0, N).

    Raises:
        ConfigError: for anything else.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ConfigError("is no shard", key="--shard", value=text, accepted="K/N with 1 <= K <= N, for example 1/3")
    return int(match[1]) - 1, int(match[2])


def parse_seeds(where: str) -> list[Address]:
    """`host:port,host:port` -> addresses of peers to ask."""
    return [parse_address(part) for part in where.split(",") if part.strip()]


def _local(address: Address) -> Address:
    """The IPv4 address for `localhost`, the same for all peers."""
    return Address(LOOPBACK, address.port) if address.host == "localhost" else address
