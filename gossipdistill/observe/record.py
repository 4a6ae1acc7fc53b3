"""The codec of the JSON files of a run: a class for each kind of object, all read and written by the same rules.

Files are not trusted, and may be damaged. Only keys that are shown are checked. There may be unknown keys, and keys
that earlier releases did not write may be missing. A record is written as it was read or made: the same keys in the
same order, none added. Numbers are finite. Texts may hold any characters, and are made printable where they are shown.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from gossipdistill.errors import ConfigError
from gossipdistill.files import Shape, UnusableError, check_shape, read_object
from gossipdistill.printable import printable_all

T = TypeVar("T")


def _as_it_was(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    check(value)
    return value


def _unchecked(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    try:
        return check(value)
    except ValidationError:
        return value


Count = Annotated[int, Field(ge=0)]
Number = Annotated[float, WrapValidator(_as_it_was)]
"""A finite number; an integer stays an integer."""
Written = Annotated[T, WrapValidator(_unchecked)]
"""A value that this package writes with this type; a value of another type is read without an error."""


class Known(BaseModel):
    """A JSON object with some known keys."""

    model_config = ConfigDict(
        strict=True, extra="allow", allow_inf_nan=False, frozen=True, populate_by_name=True, protected_namespaces=()
    )


class Record(Known):
    """A JSON object that can also be written, with the keys that it was read or made with."""

    _keys: tuple[str, ...] = PrivateAttr(())
    """The keys that were given; known keys are under the names of their fields."""

    @model_validator(mode="wrap")
    @classmethod
    def _keep_order(cls, value: Any, check: ValidatorFunctionWrapHandler) -> Self:
        made: Self = check(value)
        if isinstance(value, dict):
            names = {str(field.validation_alias): name for name, field in cls.model_fields.items()}
            made._keys = tuple(names.get(str(key), str(key)) for key in value)
        return made

    def _held(self) -> dict[str, Any]:
        everything = self.__dict__ | (self.__pydantic_extra__ or {})
        return {key: everything[key] for key in self._keys}

    def plain(self) -> dict[str, Any]:
        """The JSON object."""
        fields = type(self).model_fields
        names = {key: str(fields[key].validation_alias or key) if key in fields else key for key in self._keys}
        return {names[key]: plain(value) for key, value in self._held().items()}

    def but(self, **changes: object) -> Self:
        """A copy with other values of these keys; new keys come last."""
        return type(self).model_validate(self._held() | changes)

    def without(self, key: str) -> Self:
        """A copy without this key."""
        return type(self).model_validate({name: value for name, value in self._held().items() if name != key})

    def printable(self) -> Self:
        """A copy in which all texts are printable."""
        return type(self).model_validate(printable_all(self.plain()))


def plain(value: Any) -> Any:
    """The value as plain JSON, with each record as an object."""
    if isinstance(value, Record):
        return value.plain()
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return value


def read_record(path: Path, shape: type[Shape]) -> Shape:
    """Read the JSON object of this shape in a file of a run.

    Raises:
        ConfigError: with the file, the key and the problem.
    """
    try:
        return check_shape(shape, read_object(path))
    except UnusableError as reason:
        raise ConfigError(f"is damaged: {reason}", file=path) from None
