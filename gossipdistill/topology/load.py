"""From a name or a file to a schedule: TOML with a `kind`, or Python with `out_neighbours(peer, exchange, peers)`."""

from __future__ import annotations

import inspect
import itertools
import traceback
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel, ConfigDict, create_model

from gossipdistill import bundled
from gossipdistill.errors import ConfigError, UserCodeError, nearest
from gossipdistill.printable import shown
from gossipdistill.topology.generators import KINDS
from gossipdistill.topology.schedule import Computed, Schedule
from gossipdistill.user_code import text_of

TRIAL_CALLS_MAX = 512
"""At most this many calls of a user's `out_neighbours`, each made twice, test a file when it is loaded."""
REMEMBERED_CALLS_MAX = 65_536
"""At most this many answers of a user's `out_neighbours` are kept."""


def load_topology(where: str, peers: Sequence[str], *, base: Path | None = None) -> Schedule:
    """The schedule that `where` means for these peers (names in roster order).

    `where` is a ready-made name, or a path to a .toml or .py file relative to `base` (default: the current folder).
    """
    file = bundled.find("topologies", where, base)
    if file.suffix == ".toml":
        return _from_toml(file, peers)
    if file.suffix == ".py":
        return _from_python(file, peers)
    raise ConfigError("is not a topology file", file=file, accepted="a .toml or a .py file")


def list_topologies() -> list[tuple[str, str]]:
    """Name and one-line description of each ready-made topology."""
    return [(name, bundled.summary(file)) for name, file in bundled.listing("topologies")]


def kind_options(kind: str) -> type[BaseModel]:
    """The keys that a topology file of this kind may have beside `kind`, from the signature of its generator."""
    parameters = inspect.signature(KINDS[kind], eval_str=True).parameters.values()
    fields: dict[str, Any] = {
        parameter.name: (parameter.annotation, ... if parameter.default is parameter.empty else parameter.default)
        for parameter in parameters
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    return create_model(f"{kind}_options", __config__=ConfigDict(extra="forbid", strict=True), **fields)


def _from_toml(file: Path, peers: Sequence[str]) -> Schedule:
    options = bundled.read_toml(file)
    kind = options.pop("kind", None)
    if kind is None:
        raise ConfigError("is missing", file=file, key="kind", accepted=", ".join(KINDS))
    if not isinstance(kind, str) or kind not in KINDS:
        raise ConfigError(f"unknown kind; {nearest(str(kind), KINDS)}", file=file, key="kind", value=kind)
    given = bundled.validated(kind_options(kind), options, file=file)
    try:
        return KINDS[kind](tuple(peers), **dict(given))
    except ConfigError as error:  # a generator knows the key, but not the file
        raise ConfigError(error.problem, file=file, key=error.key, value=error.value, accepted=error.accepted) from None


def _from_python(file: Path, peers: Sequence[str]) -> Schedule:
    module = _executed(file)
    function = getattr(module, "out_neighbours", None)
    if not callable(function):
        raise ConfigError("defines no function out_neighbours(peer, exchange, peers)", file=file)
    period = getattr(module, "period", None)
    if period is not None and (type(period) is not int or period < 1):
        raise ConfigError("must be a whole number of exchanges", file=file, key="period", value=period, accepted=">= 1")
    ask = _checked(function, tuple(peers), file)
    schedule = Computed(
        kind="python", peers=tuple(peers), rule=lru_cache(REMEMBERED_CALLS_MAX)(ask), repeats_after=period
    )
    for exchange, peer in itertools.islice(itertools.product(range(schedule.period), peers), TRIAL_CALLS_MAX):
        if schedule.out_neighbours(peer, exchange) != ask(peer, exchange):
            raise ConfigError(
                f"out_neighbours({peer!r}, {exchange}, peers) answers differently when asked twice: peers would not "
                "agree on the links; draw with random.Random(exchange), for instance",
                file=file,
            )
    return schedule


def _executed(file: Path) -> ModuleType:
    # Compiled here rather than imported, so that no byte code is written beside a ready-made or a user's file.
    module = ModuleType(f"gossipdistill_topology_{file.stem}")
    module.__file__ = str(file)
    try:
        exec(compile(bundled.read_text(file), str(file), "exec", dont_inherit=True), module.__dict__)
    except SyntaxError as error:
        raise ConfigError(f"line {error.lineno}: {error.msg}", file=file) from None
    except (Exception, SystemExit) as error:
        line = _told(error, file)
        raise UserCodeError("the topology", line, file=file, problem=line) from error
    return module


def _checked(
    function: Callable[[str, int, tuple[str, ...]], Iterable[str]], peers: tuple[str, ...], file: Path
) -> Callable[[str, int], tuple[str, ...]]:
    """The user's function with its answer checked and put in roster order (the order of a set is not reproducible)."""
    places = {name: place for place, name in enumerate(peers)}

    def ask(peer: str, exchange: int) -> tuple[str, ...]:
        call = f"out_neighbours({peer!r}, {exchange}, peers)"
        try:
            answer = function(peer, exchange, peers)
            # An infinite answer is cut off after twice the size of the roster.
            names = None if isinstance(answer, str) else list(itertools.islice(answer, 2 * len(peers) + 1))
        except (Exception, SystemExit) as error:
            line = _told(error, file)
            raise UserCodeError(call, line, file=file, problem=f"{call}: {line}") from error
        if names is None:
            problem = f"{call} answers the text {shown(answer)}; it must answer a list of peer names"
            raise ConfigError(problem, file=file)
        for name in names:
            if not isinstance(name, str) or name not in places:
                near = nearest(name if isinstance(name, str) else "", peers)
                raise ConfigError(f"{call} names {shown(name)}, which is not in the roster; {near}", file=file)
        if peer in names:
            raise ConfigError(f"{call} names the peer itself", file=file)
        if len(set(names)) < len(names):
            raise ConfigError(f"{call} names a peer twice: {shown(names)}", file=file)
        return tuple(sorted(names, key=places.__getitem__))

    return ask


def _told(error: BaseException, file: Path) -> str:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    at = f" (line {lines[-1]})" if lines else ""
    return f"{text_of(error)}{at}"
