"""Bugs that are planted on purpose: a checker or a fuzzer that finds none of them may look at nothing."""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any


@dataclass(frozen=True)
class Bug:
    """`old` is replaced by `new` in the one function of the module `kind`, or method of the class, that has it."""

    name: str
    kind: type | ModuleType
    old: str
    new: str

    @property
    def place(self) -> str:
        """Module or class and function, without the name of the package."""
        return f"{self.kind.__name__.removeprefix('gossipdistill.')}.{self.sound().__name__}"

    @contextmanager
    def planted(self) -> Iterator[None]:
        """The package with this bug in it, for those too who have imported the function by its name."""
        sound, made = self.sound(), dict[str, Any]()
        source = "from __future__ import annotations\n" + _source(sound).replace(self.old, self.new)
        exec(source, vars(self._module), made)
        broken = made[sound.__name__]
        code, defaults = sound.__code__, sound.__defaults__
        sound.__code__, sound.__defaults__ = broken.__code__, broken.__defaults__
        try:
            yield
        finally:
            sound.__code__, sound.__defaults__ = code, defaults

    @property
    def _module(self) -> ModuleType:
        return self.kind if isinstance(self.kind, ModuleType) else sys.modules[self.kind.__module__]

    def sound(self) -> FunctionType:
        """The function as it is written.

        Raises:
            ValueError: `old` stands in no place of `kind`, or in several.
        """
        functions = [one for one in vars(self.kind).values() if isinstance(one, FunctionType)]
        written = [one for one in functions if one.__code__.co_filename == self._module.__file__]
        having = [one for one in written if self.old in _source(one)]
        times = sum(_source(one).count(self.old) for one in having)
        if times != 1:
            raise ValueError(f"{self.name}: {self.old!r} stands {times} times in {self.kind.__name__}")
        return having[0]


def _source(function: FunctionType) -> str:
    return textwrap.dedent(inspect.getsource(function))
