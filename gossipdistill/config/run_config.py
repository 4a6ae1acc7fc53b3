"""One set of dotted keys, from five layers, resolved once.

    command line  >  environment  >  roster entry (this peer only)  >  run file  >  default

Every value remembers the layer it came from, for `config.json` and for error messages.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gossipdistill.errors import ConfigError, UsageError, nearest
from gossipdistill.files import UnusableError
from gossipdistill.ids import PEER_NAME_RULE, is_peer_name
from gossipdistill.learning.gradients import GradientRules
from gossipdistill.messages import Mode
from gossipdistill.optimizers import check_optimizer
from gossipdistill.shelf import read_text, read_toml
from gossipdistill.strategies import Exchange, Strategy, strategy_of
from gossipdistill.toml import decimal_comma, parse_toml
from gossipdistill.wire.encodings import ENCODINGS, EncodingError, encoding_of

Dotted = Mapping[str, object]


class TaskKeys(BaseModel):
    """`[task]`: which task, and how its examples are dealt. The task's own options stand beside these."""

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    name: str = "digits"
    """The task: a ready-made name (`gossipdistill task list`), or `module:function` of your own."""
    shards: Literal["disjoint", "same", "label_skew"] = "disjoint"
    """How the labelled examples are dealt. disjoint: each peer has random examples of its own. same: all have the same
    ones. label_skew: each has examples of its own that are mostly of a few main classes."""
    examples_per_peer: int | None = Field(default=None, ge=1)
    """The number of labelled examples that each peer trains on. Unset: a task of your own divides all its examples
    among the peers, and a ready-made one says its number (`gossipdistill task show NAME`)."""
    skew: float = Field(default=0.94, ge=0, le=1)
    """The share of a peer's examples that is of its main classes, with shards = label_skew."""
    classes_per_peer: int = Field(default=3, ge=1)
    """The number of main classes of each peer, with shards = label_skew."""


class TrainKeys(BaseModel):
    """`[train]`: the local optimiser and its pace."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    optimizer: str = "sgd"
    """The optimizer: sgd, adam, adamw, sgd_c or adam_c, or `module:Class` of your own, a torch.optim.Optimizer."""
    optimizer_options: dict[str, Any] = Field(default_factory=dict)
    """Further keyword arguments of the optimizer's class, as in `train.optimizer_options.topc = 5`."""
    lr: float = Field(default=0.05, gt=0)
    """The learning rate at the start of the run."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """The momentum of sgd and sgd_c; for adam, adamw and adam_c it is beta1."""
    weight_decay: float = Field(default=0.0, ge=0)
    """The weight decay of the optimizer."""
    lr_schedule: Literal["constant", "cosine", "drops"] = "cosine"
    """How the learning rate changes. cosine: it falls from lr to zero as the run nears its limit, in steps or seconds.
    drops: it falls tenfold at each share of lr_drops. constant: it stays."""
    lr_drops: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.4, 0.84, 0.98)
    """The shares of the run at which the learning rate falls tenfold, with lr_schedule = drops. The default is epochs
    18, 38 and 44 of 45 (Sodhani et al. 2020)."""
    batch_size: int = Field(default=32, ge=1)
    """The number of labelled examples in one batch of a peer."""
    accumulate: int = Field(default=1, ge=1)
    """The number of batches that make one step; the mean of their gradients is the gradient of the step."""
    clip_norm: Annotated[float, Field(gt=0)] | Literal["auto", "off"] | None = None
    """The largest Euclidean norm of a gradient over all parameters; a longer one is shortened. auto: the norm that a
    tenth of the peer's own last 100 gradients do not exceed, and at most 1 for a mean cross-entropy of class logits.
    off: no bound. Unset: as the strategy says."""
    autocast: Literal["off", "bfloat16"] = "off"
    """The number type of forward passes: bfloat16 runs them under torch.autocast. Weights, and what travels, keep their
    type."""
    threads: int | None = Field(default=None, ge=1)
    """The number of CPU threads that a peer computes with. Unset: OMP_NUM_THREADS or MKL_NUM_THREADS of the
    environment, else the free CPUs of the machine divided among its peers, at least one each; 1 in a simulation."""
    step_time_s: float = Field(default=0.0, ge=0)
    """The least time of a step: a shorter one is padded by waiting. 0 is full speed; in a simulation it is
    sim.step_time_s."""
    checkpoint_every_s: float = Field(default=10.0, ge=0)
    """The time between two checkpoints; the first ones come after 1, 2, 4, 8 ... seconds. 0: a checkpoint is written
    only at the end, and when SIGUSR1 asks for one."""
    checkpoints_kept: int = Field(default=3, ge=1)
    """The number of newest checkpoints that are kept; the one with the lowest training loss is kept as well."""

    def rate_drops(self) -> tuple[float, ...]:
        """Where the learning rate falls tenfold, as shares of the run."""
        return self.lr_drops if self.lr_schedule == "drops" else ()


class StrategyKeys(BaseModel):
    """`[strategy]`: which one; its own options stand beside the name (`gossipdistill strategy show NAME`)."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    name: str = "codistill_predictions"
    """The strategy: what is exchanged, and what is made of it (`gossipdistill strategy list`)."""


class ExchangeKeys(BaseModel):
    """`[exchange]`: how often, how large and how long."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    mode: Literal["auto", "push", "pull"] = "auto"
    """How payloads travel. push: the sender sends at once. pull: it announces, and the reader asks when it has time.
    auto: payloads up to push_bytes_max are pushed, larger ones are pulled."""
    every_steps: int | None = Field(default=None, ge=1)
    """The number of a peer's own steps between two exchanges. Unset: as the strategy says."""
    per_second_max: float | None = Field(default=None, ge=0)
    """The most exchanges of a peer in a second; the tighter of this and every_steps holds. 0 is no cap. Unset: as the
    strategy says."""
    encoding: str | None = None
    """How arrays are encoded on the wire: raw, half, bfloat16, int8, or top_k:K, which keeps the K largest
    probabilities of a row. Unset: as the strategy says."""
    stale_after_s: float | None = Field(default=None, ge=0)
    """The age at which the weight of what a peer has received has fallen to zero. 0 is never. Unset: it follows the
    pace. It is 5 times the usual interval between two arrivals from that sender, or between two exchanges of the
    receiver where that is longer, and at least 30 s."""
    stale_after_steps: int = Field(default=0, ge=0)
    """The same as stale_after_s, counted in the receiver's own steps. 0 is never."""
    refuse_unusual: bool = False
    """Whether weights of an unusual norm are refused, and not only counted: more than four times the receiver's own
    norm, or less than a quarter."""
    push_bytes_max: int = Field(default=64 * 1024, ge=0)
    """The size above which a payload is announced and pulled, with mode = auto."""
    fetch: bool = True
    """Whether a peer that joins late begins with a neighbour's model, where models are averaged; a model that is worse
    on the peer's own examples is not taken."""
    fetch_within_s: float = Field(default=60.0, ge=0)
    """The most time for fetching a model; afterwards a newcomer begins with what it has."""
    fetch_if_older_s: float = Field(default=60.0, ge=0)
    """The age of its own checkpoint above which a restarted peer fetches a model, as a newcomer does."""
    donor_bytes_per_s: float = Field(default=50e6, ge=0)
    """The most bytes per second that a peer gives to all newcomers together. 0 is no limit."""

    @property
    def given_bytes_per_s(self) -> float | None:
        """The most that a peer gives to newcomers; None: nothing."""
        return self.donor_bytes_per_s if self.fetch else None


class SimKeys(BaseModel):
    """`[sim]`: the network and the machines of `gossipdistill simulate`; real runs pass them over."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    latency_s: float = Field(default=0.005, ge=0)
    """The latency of each link, one way."""
    jitter_s: float = Field(default=0.001, ge=0)
    """The mean of an exponential delay on top of the latency, drawn anew for each message."""
    megabytes_per_s: float = Field(default=0.0, ge=0)
    """The bandwidth of each link. 0 is no limit."""
    egress_megabytes_per_s: float = Field(default=0.0, ge=0)
    """The bandwidth of each peer's outgoing side, which its links share. 0 is no limit."""
    loss: float = Field(default=0.0, ge=0, lt=1)
    """The probability that a message is lost, on every link and all the time; a fault plan says more."""
    step_time_s: float = Field(default=0.1, gt=0)
    """The virtual time of a step, where train.step_time_s is 0."""
    step_jitter: float = Field(default=0.1, ge=0)
    """The standard deviation of the logarithm of a step's time."""
    straggler_share: float = Field(default=0.0, ge=0, le=1)
    """The share of the peers that are slower all the time; the seed chooses which."""
    straggler_factor: float = Field(default=10.0, ge=1)
    """How many times longer a step of those peers takes."""
    clocks_apart_s: float = Field(default=1000.0, ge=0)
    """The most by which the clocks of two peers differ."""


class RunConfig(BaseModel):
    """Everything that a run file may say."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    name: str = "run"
    """The name of the run and of its folder; all peers of a run have the same."""
    peers: str = "4"
    """Who takes part: a count of peers on this machine, a ready-made roster, a roster file, or `host:port,...`."""
    topology: str = "complete"
    """Who sends to whom: a ready-made topology (`gossipdistill topology list`), or a file."""
    steps: int | None = Field(default=None, ge=1)
    """The number of its own steps after which a peer ends. With seconds too, the earlier end counts; one of the two is
    needed."""
    seconds: float | None = Field(default=None, gt=0)
    """The time after which a peer ends; in a simulation, virtual time."""
    seed: int = Field(default=0, ge=0, le=2**63 - 1)
    """The seed of initial weights, shards and the order of examples."""
    linger_s: float = Field(default=30.0, ge=0)
    """The most time that a peer which is done serves the others; it ends earlier when all are done."""
    task: TaskKeys = TaskKeys()
    train: TrainKeys = TrainKeys()
    strategy: StrategyKeys = StrategyKeys()
    exchange: ExchangeKeys = ExchangeKeys()
    sim: SimKeys = SimKeys()

    def task_options(self) -> dict[str, Any]:
        """The task's own keys."""
        return dict(self.task.model_extra or {})

    def strategy_class(self) -> type[Strategy]:
        """The strategy, or a ConfigError with the nearest names."""
        return strategy_of(self.strategy.name)

    def gradient_rules(self) -> GradientRules:
        """How the gradient of a step is made."""
        train = self.train
        bound = self.strategy_class().clip_norm if train.clip_norm is None else train.clip_norm
        autocast = None if train.autocast == "off" else torch.bfloat16
        return GradientRules(train.accumulate, None if bound == "off" else bound, autocast)

    def make_strategy(self) -> Strategy:
        """The strategy with its options checked."""
        kind = self.strategy_class()
        given = dict(self.strategy.model_extra or {})
        options = _checked(kind.options_type, given, "strategy", {}, list(kind.options_type.model_fields))
        exchange = Exchange(
            every_steps=self.exchange.every_steps or kind.every_steps,
            per_second_max=kind.per_second_max
            if self.exchange.per_second_max is None
            else self.exchange.per_second_max,
            encoding=self.exchange.encoding or kind.encoding,
            mode=None if self.exchange.mode == "auto" else Mode(self.exchange.mode),
            push_bytes_max=self.exchange.push_bytes_max,
            stale_after_s=self.exchange.stale_after_s,
            stale_after_steps=self.exchange.stale_after_steps,
        )
        return kind(options, exchange)


FIRST_LIGHT_ORIGIN = "first-light"
FIRST_LIGHT: dict[str, Any] = {
    "name": "first-light",
    "seconds": 15.0,
    "task.name": "digits",
    "task.shards": "label_skew",
    "task.examples_per_peer": 100,
    "train.step_time_s": 0.02,
}
"""The run that is meant when no run file is given. `gossipdistill new` writes it out, commented."""


@dataclass(frozen=True)
class Layer:
    """Values by dotted key and where they come from; `file` is for error messages about them."""

    origin: str
    values: Dotted
    file: Path | None = None

    def without(self, keys: Collection[str]) -> Layer:
        """The same, these keys left out."""
        return replace(self, values={key: value for key, value in self.values.items() if key not in keys})


@dataclass(frozen=True)
class Resolved:
    """A checked configuration and the origin of every key that is not at its default."""

    config: RunConfig
    origins: dict[str, str] = field(default_factory=dict)
    base: Path | None = None
    """Folder that relative paths of the run file are relative to."""

    def changed(self, values: Dotted, origin: str) -> Resolved:
        """The same with a few keys set anew by ourselves; they are not checked again."""
        flat = flatten(self.config.model_dump(mode="json", exclude_unset=True)) | dict(values)
        return Resolved(RunConfig.model_validate(nest(flat)), self.origins | dict.fromkeys(values, origin), self.base)

    def as_json(self) -> dict[str, Any]:
        """For `config.json`: each key with its value and its origin."""
        flat = flatten(self.config.model_dump(mode="json"))
        return {key: {"value": value, "from": self.origins.get(key, "default")} for key, value in sorted(flat.items())}


def file_layer(path: Path | None) -> Layer:
    """The run file; the ready-made run `first-light` when there is none."""
    if path is None:
        return Layer(FIRST_LIGHT_ORIGIN, FIRST_LIGHT)
    values = flatten(read_toml(path))
    if not values and not read_text(path).strip():
        raise ConfigError("is empty; `gossipdistill new FOLDER` writes one to begin with", file=path)
    return Layer(f"run file {path}", values, path)


def environment_layers(environ: Mapping[str, str] = os.environ) -> list[Layer]:
    """GOSSIPDISTILL_SET, `key=value key=value`, and above it GOSSIPDISTILL_PEERS."""
    try:
        settings = shlex.split(environ.get("GOSSIPDISTILL_SET", ""))
        layers = [Layer("environment GOSSIPDISTILL_SET", parse_settings(settings))]
    except (ValueError, UsageError) as error:
        raise ConfigError(
            f"cannot be read: {error}", key="GOSSIPDISTILL_SET", value=environ["GOSSIPDISTILL_SET"],
            accepted="key=value key=value",
        ) from None  # fmt: skip
    if environ.get("GOSSIPDISTILL_PEERS"):
        layers.append(Layer("environment GOSSIPDISTILL_PEERS", {"peers": environ["GOSSIPDISTILL_PEERS"]}))
    return layers


def parse_settings(settings: Iterable[str]) -> dict[str, object]:
    """`key=value` texts; a value is read as TOML where it is that, else as text.

    Raises:
        UsageError: for a text without `=`.
    """
    values: dict[str, object] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set {setting!r}: expected key=value, for example --set train.lr=0.1")
        try:
            value = parse_toml(f"value = {text}")["value"]
        except UnusableError:
            value = text
        values |= flatten({key.strip(): value})
    return values


def resolve(layers: Iterable[Layer], base: Path | None = None) -> Resolved:
    """Put layers, weakest first, on top of the defaults and check the result.

    Raises:
        ConfigError: naming the file, the key, the value and what would be accepted.
    """
    values: dict[str, object] = {}
    source: dict[str, Layer] = {}
    layers = list(layers)
    for layer in layers:
        for key, value in layer.values.items():
            if not isinstance(value, Mapping):
                key = SECTION_NAMES.get(key, key)
            values[key], source[key] = value, layer
    try:
        config = _checked(RunConfig, nest(values), "", source, known_keys(values))
        _check_names(config, source)
        config.make_strategy()
    except ConfigError as error:
        raise _placed(error, source.get(error.key or ""), layers) from None
    return Resolved(config, {key: layer.origin for key, layer in source.items()}, base)


def _placed(error: ConfigError, layer: Layer | None, layers: Sequence[Layer]) -> ConfigError:
    """The same, with the layer that the key comes from; of a missing key, the run file, where it could stand."""
    layer = layer or next((layer for layer in layers if layer.file), None)
    if error.file is not None or layer is None:
        return error
    file = layer.file or layer.origin
    return ConfigError(error.problem, file=file, key=error.key, value=error.value, accepted=error.accepted)


SECTION_NAMES = {"task": "task.name", "strategy": "strategy.name"}
"""`task = "digits"` can only mean the name."""


def known_keys(values: Dotted | None = None) -> list[str]:
    """All dotted keys of a run, with the options of the strategy that `values` names."""
    keys = []
    for name, entry in RunConfig.model_fields.items():
        kind = entry.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            keys += [f"{name}.{inner}" for inner in kind.model_fields]
        else:
            keys.append(name)
    name = str((values or {}).get("strategy.name", StrategyKeys().name))
    with contextlib.suppress(ConfigError):  # an unknown strategy is reported by whoever needs it
        keys += [f"strategy.{option}" for option in strategy_of(name).options_type.model_fields]
    return keys


def flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"task": {"name": "digits"}} -> {"task.name": "digits"}."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def nest(values: Dotted) -> dict[str, Any]:
    """The inverse of `flatten`. A key that is both a value and a section is refused."""
    table: dict[str, Any] = {}
    for key, value in values.items():
        *path, last = key.split(".")
        inner = table
        for part in path:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                raise ConfigError("is a single value, it has no keys of its own", key=".".join(path), value=inner)
        inner[last] = value
    return table


def _check_names(config: RunConfig, source: Mapping[str, Layer]) -> None:
    def refuse(problem: str, key: str, value: object, accepted: str | None = None) -> ConfigError:
        layer = source.get(key)
        file = layer.file or layer.origin if layer else None
        return ConfigError(problem, file=file, key=key, value=value, accepted=accepted)

    if not is_peer_name(config.name):
        raise refuse("is no name for a run folder", "name", config.name, PEER_NAME_RULE)
    if config.steps is None and config.seconds is None:
        raise refuse("is needed, or seconds, so that the run ends", "steps", None, "steps = 1000 or seconds = 60")
    try:
        check_optimizer(config.train.optimizer, config.train.optimizer_options)
    except ConfigError as error:
        raise refuse(error.problem, error.key or "", error.value, error.accepted) from None
    encoding = config.exchange.encoding
    if encoding is not None:
        try:
            encoding_of(encoding)
        except EncodingError as error:
            accepted = ", ".join(ENCODINGS) + ", top_k:K"
            raise refuse(str(error), "exchange.encoding", encoding, accepted) from None
        if encoding.startswith("top_k") and not config.strategy_class().needs.transfer_set:
            dense = [name for name in ENCODINGS if name != "top_k"]
            problem = f"keeps the largest probabilities of a row, and {config.strategy.name} sends none"
            raise refuse(problem, "exchange.encoding", encoding, ", ".join(dense))


def _checked(
    kind: type[Any], table: Mapping[str, Any], section: str, source: Mapping[str, Layer], known: list[str]
) -> Any:
    """`table` as a `kind`, or a ConfigError about the first key at fault."""
    try:
        return kind.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
    key = ".".join(str(part) for part in (*([section] if section else []), *first["loc"]))
    layer = source.get(key) or next((layer for name, layer in source.items() if name.startswith(f"{key}.")), None)
    file = (layer.file or layer.origin) if layer else None
    if first["type"] == "extra_forbidden":
        if isinstance(first["input"], Mapping) and first["input"]:
            inner, first["input"] = next(iter(flatten(first["input"]).items()))
            key = f"{key}.{inner}"
        names = [f"{section}.{name}" if section else name for name in known]
        raise ConfigError(f"unknown key; {nearest(key, names)}", file=file, key=key, value=first["input"])
    problem = first["msg"][:1].lower() + first["msg"][1:].replace("Input", "it", 1)
    problem = problem.replace("input should", "should") + decimal_comma(first["input"])
    raise ConfigError(problem, file=file, key=key, value=first["input"])
