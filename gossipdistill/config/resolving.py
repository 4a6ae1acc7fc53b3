"""Layers on top of the defaults: one checked configuration."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel

from gossipdistill.config.checking import checked
from gossipdistill.config.layers import Layer, Resolved
from gossipdistill.config.schema import RunConfig, StrategyKeys
from gossipdistill.config.tables import Dotted, nest
from gossipdistill.errors import ConfigError
from gossipdistill.ids import PEER_NAME_RULE, is_peer_name
from gossipdistill.optimizers import check_optimizer
from gossipdistill.strategies import strategy_of
from gossipdistill.wire.encodings import ENCODINGS, EncodingError, encoding_of


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
    origins = {key: layer.where for key, layer in source.items()}
    try:
        config = checked(RunConfig, nest(values), "", origins, known_keys(values))
        _check_names(config, origins)
        config.make_strategy()
    except ConfigError as error:
        raise _placed(error, source.get(error.key or ""), layers) from None
    return Resolved(config, {key: layer.origin for key, layer in source.items()}, base)


def _placed(error: ConfigError, layer: Layer | None, layers: Sequence[Layer]) -> ConfigError:
    """The same, with the layer that the key comes from; of a missing key, the run file, where it could stand."""
    layer = layer or next((layer for layer in layers if layer.file), None)
    if error.file is not None or layer is None:
        return error
    return ConfigError(error.problem, file=layer.where, key=error.key, value=error.value, accepted=error.accepted)


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
    with contextlib.suppress(ConfigError):  # an unknown strategy is reported where it is needed
        keys += [f"strategy.{option}" for option in strategy_of(name).options_type.model_fields]
    return keys


def _check_names(config: RunConfig, source: Mapping[str, Path | str]) -> None:
    def refuse(problem: str, key: str, value: object, accepted: str | None = None) -> ConfigError:
        return ConfigError(problem, file=source.get(key), key=key, value=value, accepted=accepted)

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
