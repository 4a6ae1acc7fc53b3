"""Options of a task: the parameters of its factory after `shard`, and the values that a run gives them.

A text in `Annotated[int, "what it does"]` documents an option; pydantic's `Field(ge=1, description=...)` does as well.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import NoneType, SimpleNamespace, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from gossipdistill.errors import ConfigError, nearest
from gossipdistill.toml import decimal_comma

DEALING_KEYS = ("name", "shards", "examples_per_peer", "skew", "classes_per_peer")
"""These keys under `[task]` are not the task's own: the `Shard` is made of them where the configuration is read."""

REQUIRED = inspect.Parameter.empty
"""An option without a default has this one."""


class Option(NamedTuple):
    """One option of a task, `task.<its name>`."""

    annotation: str
    """The type that the option accepts, as Python spells it."""
    default: object
    """It is `REQUIRED` where there is none."""
    doc: str


def options_of(factory: Callable[..., object]) -> dict[str, Option]:
    """The options of a task's factory, in the order of its parameters."""
    options = {}
    for key, parameter in _parameters(factory).items():
        if parameter.kind is not parameter.VAR_KEYWORD:
            annotation = _annotation(factory, parameter)
            options[key] = Option(spell(annotation), parameter.default, _documentation(annotation))
    return options


def annotations_of(factory: Callable[..., object]) -> dict[str, Any]:
    """The annotations of the same options, as objects."""
    named = {key: one for key, one in _parameters(factory).items() if one.kind is not one.VAR_KEYWORD}
    return {key: _annotation(factory, parameter) for key, parameter in named.items()}


def check_options(factory: Callable[..., object], options: Mapping[str, object]) -> dict[str, object]:
    """The options with values of the annotated types; ConfigError for unknown, missing and ill-typed ones."""
    parameters = _parameters(factory)
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    named = {key: parameter for key, parameter in parameters.items() if parameter.kind is not parameter.VAR_KEYWORD}
    checked: dict[str, object] = {}
    for key, value in options.items():
        if key in named:
            checked[key] = _checked(f"task.{key}", _annotation(factory, named[key]), value)
        elif takes_any:
            checked[key] = value
        else:
            raise ConfigError(
                f"this task has no such option; {nearest(key, [*named, *DEALING_KEYS])}",
                key=f"task.{key}",
                value=value,
                accepted=", ".join(named) or "none",
            )
    for key, parameter in named.items():
        if parameter.default is REQUIRED and key not in checked:
            kind = spell(_annotation(factory, parameter))
            raise ConfigError("has no default and must be set", key=f"task.{key}", accepted=kind)
    return checked


def spell(annotation: object) -> str:
    """An annotation as Python spells it: `int`, `tuple[int, ...] | None`, `'a' | 'b'`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return spell(arguments[0])
    if origin in (Union, UnionType):
        return " | ".join(spell(argument) for argument in arguments)
    if origin is Literal:
        return " | ".join(repr(argument) for argument in arguments)
    if annotation in (None, NoneType):
        return "None"
    if annotation is Any:
        return "any value"
    return annotation.__name__ if isinstance(annotation, type) and not arguments else str(annotation)


def _parameters(factory: Callable[..., object]) -> dict[str, inspect.Parameter]:
    try:
        parameters = list(inspect.signature(factory).parameters.values())
    except (TypeError, ValueError):  # what C defines may have none
        parameters = []
    if not parameters or parameters[0].kind not in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    ):
        name = getattr(factory, "__name__", str(factory))
        raise ConfigError(f"{name}() must take the shard as its first parameter", key="task.name")
    return {parameter.name: parameter for parameter in parameters[1:] if parameter.kind is not parameter.VAR_POSITIONAL}


def _annotation(factory: Callable[..., object], parameter: inspect.Parameter) -> Any:
    """The annotation as an object; Any where there is none, or where only a type checker can resolve it."""
    if parameter.annotation is parameter.empty:
        return Any
    if not isinstance(parameter.annotation, str):
        return parameter.annotation
    # One at a time: get_type_hints(factory) gives up on all of them because of one that cannot be resolved.
    alone = SimpleNamespace(__annotations__={"option": parameter.annotation})
    names = getattr(inspect.unwrap(factory), "__globals__", {})
    try:
        return get_type_hints(alone, globalns=names, include_extras=True)["option"]
    except (NameError, SyntaxError, TypeError, AttributeError):
        return Any


def _documentation(annotation: object) -> str:
    for extra in getattr(annotation, "__metadata__", ()):
        text = extra if isinstance(extra, str) else getattr(extra, "description", None)
        if isinstance(text, str):
            return text
    return ""


def _checked(key: str, annotation: Any, value: object) -> object:
    strict = True
    if _takes(annotation, tuple):
        if isinstance(value, str) and not _takes(annotation, str):
            # `--set task.hidden=512,512` reaches us as text.
            value, strict = tuple(piece.strip() for piece in value.split(",") if piece.strip()), False
        elif isinstance(value, list):
            value = _as_tuple(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            value = (value,)
    try:
        return TypeAdapter(annotation).validate_python(value, strict=strict)
    except ValidationError as error:
        told = error.errors(include_url=False, include_context=False, include_input=False)[0]["msg"]
        problem = told.replace("Input should be", "should be") + decimal_comma(value)
        raise ConfigError(problem, key=key, value=value, accepted=spell(annotation)) from None
    except PydanticUserError:
        return value  # pydantic knows no such type: the factory has to check the value itself


def _takes(annotation: object, kind: type) -> bool:
    """Whether `kind` is the annotation, or one of its alternatives."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _takes(get_args(annotation)[0], kind)
    if origin in (Union, UnionType):
        return any(_takes(argument, kind) for argument in get_args(annotation))
    return annotation is kind or origin is kind


def _as_tuple(value: object) -> object:
    return tuple(_as_tuple(item) for item in value) if isinstance(value, list) else value
