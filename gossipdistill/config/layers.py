"""One set of dotted keys, from five layers, resolved once.

    command line  >  environment  >  roster entry (this peer only)  >  run file  >  default

Every value remembers the layer it came from, for `config.json` and for error messages.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gossipdistill.bundled import read_text, read_toml
from gossipdistill.config.origins import Origin, Source
from gossipdistill.config.presets import FIRST_LIGHT
from gossipdistill.config.schema import RunConfig
from gossipdistill.config.tables import Dotted, flatten, nest
from gossipdistill.errors import ConfigError, UsageError
from gossipdistill.files import UnusableError
from gossipdistill.toml import parse_toml


@dataclass(frozen=True)
class Layer:
    """Values by dotted key and where they come from; `file` is for error messages about them."""

    origin: Origin
    values: Dotted
    file: Path | None = None

    @property
    def where(self) -> Path | str:
        """For an error message: the file, or words for what is none."""
        return self.file or str(self.origin)

    def without(self, keys: Collection[str]) -> Layer:
        """The same layer without these keys."""
        return replace(self, values={key: value for key, value in self.values.items() if key not in keys})


@dataclass(frozen=True)
class Resolved:
    """A checked configuration and the origin of every key that is not at its default."""

    config: RunConfig
    origins: dict[str, Origin] = field(default_factory=dict)
    base: Path | None = None
    """Paths in the run file are relative to this folder."""

    def changed(self, values: Dotted, origin: Origin) -> Resolved:
        """The same configuration with a few keys that the program sets; they are not checked again."""
        flat = flatten(self.config.model_dump(mode="json", exclude_unset=True)) | dict(values)
        return Resolved(RunConfig.model_validate(nest(flat)), self.origins | dict.fromkeys(values, origin), self.base)

    def as_json(self) -> dict[str, Any]:
        """For `config.json`: each key with its value and its origin."""
        flat = flatten(self.config.model_dump(mode="json"))
        return {
            key: {"value": value, "from": str(self.origins.get(key, "default"))} for key, value in sorted(flat.items())
        }


def file_layer(path: Path | None) -> Layer:
    """The run file; the ready-made run `first-light` when there is none."""
    if path is None:
        return Layer(Origin(Source.FIRST_LIGHT), FIRST_LIGHT)
    values = flatten(read_toml(path))
    if not values and not read_text(path).strip():
        raise ConfigError("is empty; `gossipdistill new FOLDER` writes one to begin with", file=path)
    return Layer(Origin(Source.RUN_FILE, str(path)), values, path)


def environment_layers(environ: Mapping[str, str] = os.environ) -> list[Layer]:
    """GOSSIPDISTILL_SET, `key=value key=value`, and above it GOSSIPDISTILL_PEERS."""
    try:
        settings = shlex.split(environ.get("GOSSIPDISTILL_SET", ""))
        layers = [Layer(Origin(Source.ENVIRONMENT, "GOSSIPDISTILL_SET"), parse_settings(settings))]
    except (ValueError, UsageError) as error:
        raise ConfigError(
            f"cannot be read: {error}",
            key="GOSSIPDISTILL_SET",
            value=environ["GOSSIPDISTILL_SET"],
            accepted="key=value key=value",
        ) from None
    if environ.get("GOSSIPDISTILL_PEERS"):
        values = {"peers": environ["GOSSIPDISTILL_PEERS"]}
        layers.append(Layer(Origin(Source.ENVIRONMENT, "GOSSIPDISTILL_PEERS"), values))
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
