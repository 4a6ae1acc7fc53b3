"""A structural clone of a user's model: a second model of the same values, which shares nothing that training changes.

Not `copy.deepcopy`: that refuses every tensor with a history, and modules keep such tensors between calls (activations,
the weight of the old `weight_norm`). Not the task's factory: it draws random numbers. The rules, by kind of object:

    parameters, buffers, tensors    copied. Tensors that share memory do so in the clone. A tensor with a history is
                                    detached; gradients and hooks of tensors are left out
    modules, containers, objects    copied, each once, by their own `__deepcopy__` or `__reduce_ex__`
    functions and bound methods     those that refer to the model, or that collect into a container, act on the clone;
                                    all others are shared
    random generators               copied with their state
    what cannot be copied           shared: locks, files, loggers, running generators
"""

from __future__ import annotations

import contextlib
import copy
import copyreg
import functools
import sys
import types
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gossipdistill.learning.evaluation import generators_kept

M = TypeVar("M", bound=nn.Module)

_ATOMS = (
    type(None),
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    range,
    slice,
    type,
    property,
    types.ModuleType,
    types.CodeType,
    types.GeneratorType,
    types.CoroutineType,
    torch.dtype,
    torch.device,
    torch.Size,
    torch.layout,
    torch.memory_format,
)
_RECURSION = 20_000
"""Python's own limit of 1000 calls ends at about 80 modules inside one another."""
_COLLECTORS = (list, dict, set, deque)
"""A function that refers to one of these collects into it: a clone must not collect into the original's."""


class NotClonedError(Exception):
    """A model cannot be cloned; the text gives the reason."""


def clone_model(model: M) -> M:
    """A model with the values of `model` and nothing of its own in common with it. No random number is drawn.

    Parameters keep `requires_grad`, modules their mode. Takes the memory of one model.

    Raises:
        NotClonedError: naming an array that the clone would have in common with the model.
    """
    cloned: M = _cloned(model, _Cloner(model))
    asked = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    for name, parameter in cloned.named_parameters():
        if parameter.requires_grad != asked.get(name, parameter.requires_grad):
            parameter.requires_grad_(asked[name])  # scripted modules lose it
    return cloned


def check_cloneable(model: nn.Module) -> None:
    """Clone everything but the values of arrays: it takes next to no memory.

    Raises:
        NotClonedError: as `clone_model`.
    """
    _cloned(model, _Cloner(model, with_values=False))


def _cloned(model: nn.Module, cloner: _Cloner) -> Any:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, _RECURSION))
    try:
        with generators_kept(), torch.no_grad():
            cloned: nn.Module = cloner.copy(model)
    except RecursionError:
        raise NotClonedError("its modules are nested too deep to be copied") from None
    finally:
        sys.setrecursionlimit(limit)
    held = {_memory_of(tensor) for _, tensor in _arrays(model)} - {None}
    for name, tensor in _arrays(cloned):
        if _memory_of(tensor) in held:
            raise NotClonedError(f"its {name} stays the memory of the original when the module is copied")
    return cloned


def frozen_clone(model: M) -> M:
    """A clone without trainable parameters, to hold another peer's weights. Its modules keep their modes, in which
    those weights were sent."""
    cloned = clone_model(model)
    for parameter in cloned.parameters():
        if parameter.requires_grad:
            parameter.requires_grad_(False)
    return cloned


class _Cloner:
    """One run. `memo` is as `copy.deepcopy` has it: id of the original -> its copy."""

    def __init__(self, model: nn.Module, with_values: bool = True) -> None:
        self.memo: dict[int, Any] = {}
        self._with_values = with_values
        self._alive: list[Any] = []
        self._model = model
        tensors = [*model.parameters(), *model.buffers()]
        self._inside = {id(one) for one in (*model.modules(), *tensors)}
        self._storages = {storage for storage in map(_storage_of, tensors) if storage is not None}

    def copy(self, value: Any) -> Any:
        """The copy of any object; the same for the same object."""
        if isinstance(value, _ATOMS):
            return value
        if id(value) in self.memo:
            return self.memo[id(value)]
        made = self._made(value)
        self.memo[id(value)] = made
        self._alive.append(value)  # else another object may get its id
        return made

    def _made(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._tensor(value)
        if isinstance(value, torch.Generator):
            return _generator(value)
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, types.MethodType):
            return types.MethodType(value.__func__, self.copy(value.__self__))
        if isinstance(value, types.BuiltinMethodType):
            owner = value.__self__
            return getattr(self.copy(owner), value.__name__) if isinstance(owner, _COLLECTORS) else value
        if isinstance(value, weakref.ref):
            return self._weak(value)
        if type(value) is dict:
            return self._filled(value, {}, lambda new, pair: new.__setitem__(*map(self.copy, pair)), value.items())
        if type(value) is list:
            return self._filled(value, [], lambda new, one: new.append(self.copy(one)), value)
        if type(value) is tuple:
            made = tuple(self.copy(one) for one in value)
            return self.memo.get(id(value), made)
        return self._object(value)

    def _filled(self, value: Any, new: Any, put: Callable[[Any, Any], object], entries: Iterable[Any]) -> Any:
        self.memo[id(value)] = new  # before its entries: one of them may refer to it
        for entry in list(entries):
            put(new, entry)
        return new

    # --- tensors --------------------------------------------------------------------------------------------------

    def _tensor(self, tensor: Tensor) -> Tensor:
        if nn.parameter.is_lazy(tensor):
            return copy.deepcopy(tensor, self.memo)
        if not self._with_values and type(tensor) in (Tensor, nn.Parameter) and tensor.layout is torch.strided:
            bare = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
            return nn.Parameter(bare, False) if isinstance(tensor, nn.Parameter) else bare
        plain = tensor.detach()  # without history and without gradient
        kept = tensor.is_leaf or _storage_of(tensor) in self._storages
        # The storage is copied whole and once, so that views stay views; an activation's is not the model's.
        new: Tensor = copy.deepcopy(plain, self.memo) if kept else plain.clone()
        if isinstance(tensor, nn.Parameter):
            made = new.as_subclass(type(tensor)) if type(tensor) is not nn.Parameter else nn.Parameter(new, False)
            new = made.requires_grad_(tensor.requires_grad)
        elif tensor.is_leaf and tensor.requires_grad:
            new.requires_grad_()
        notes = getattr(tensor, "__dict__", None)
        if notes:
            self.memo[id(tensor)] = new
            new.__dict__.update(self.copy(notes))
        return new

    # --- functions ------------------------------------------------------------------------------------------------

    def _function(self, function: types.FunctionType) -> types.FunctionType:
        if not self._refers(function, set()):
            return function
        cells = tuple(self._cell(cell) for cell in function.__closure__ or ())
        new = types.FunctionType(function.__code__, function.__globals__, function.__name__, None, cells)
        self.memo[id(function)] = new
        new.__defaults__ = self.copy(function.__defaults__)
        new.__kwdefaults__ = self.copy(function.__kwdefaults__)
        new.__qualname__, new.__doc__, new.__module__ = function.__qualname__, function.__doc__, function.__module__
        new.__annotations__ = function.__annotations__
        new.__dict__.update(self.copy(function.__dict__))
        return new

    def _cell(self, cell: types.CellType) -> types.CellType:
        if id(cell) not in self.memo:
            new = self.memo[id(cell)] = types.CellType()
            self._alive.append(cell)
            with contextlib.suppress(ValueError):  # an empty one
                content = cell.cell_contents
                new.cell_contents = self.copy(content) if self._refers(content, set()) else content
        made: types.CellType = self.memo[id(cell)]
        return made

    def _refers(self, value: Any, seen: set[int]) -> bool:
        """Whether a function, or what it refers to, is of the model or collects."""
        if id(value) in self._inside or isinstance(value, (*_COLLECTORS, torch.Generator)):
            return True
        if id(value) in seen or isinstance(value, _ATOMS):
            return False
        seen.add(id(value))
        found: list[Any] = []
        if isinstance(value, types.MethodType | types.BuiltinMethodType):
            found = [value.__self__]
        elif isinstance(value, functools.partial):
            found = [value.func, *value.args, *value.keywords.values()]
        elif isinstance(value, tuple):
            found = [*value]
        elif isinstance(value, types.FunctionType):
            found = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
            for cell in value.__closure__ or ():
                with contextlib.suppress(ValueError):
                    found.append(cell.cell_contents)
            found += [value.__wrapped__] if hasattr(value, "__wrapped__") else []
        return any(self._refers(one, seen) for one in found)

    def _weak(self, reference: weakref.ref[Any]) -> weakref.ref[Any]:
        target = reference()
        if target is None or (id(target) not in self._inside and id(target) not in self.memo):
            return reference
        return weakref.ref(self.copy(target))

    # --- objects --------------------------------------------------------------------------------------------------

    def _object(self, value: Any) -> Any:
        """Any other object: by its own ways of being copied; a module by its attributes if those fail; else shared."""
        if type(value).__module__.startswith("torch._dynamo") and not isinstance(value, nn.Module):
            return value  # compiled code, which is given the module that it runs
        parametrised = isinstance(value, nn.Module) and parametrize.is_parametrized(value)
        try:
            if parametrised:  # torch's way would refuse tensors with a history
                return self._by_attributes(value)
            if hasattr(type(value), "__deepcopy__"):
                self._prepare(value)
                return value.__deepcopy__(self.memo)
            return self._by_reduction(value)
        except RecursionError:
            raise
        except Exception:
            self.memo.pop(id(value), None)  # it may be half made
            if not isinstance(value, nn.Module):
                return value
            return self._by_attributes(value)

    def _prepare(self, value: Any) -> None:
        """Copy the tensors of an object that copies itself, which it would do with `copy.deepcopy`."""
        for part in value.modules() if isinstance(value, nn.Module) else (value,):
            for attribute in list(getattr(part, "__dict__", {}).values()):
                self._prepare_entry(attribute)

    def _prepare_entry(self, value: Any) -> None:
        if isinstance(value, Tensor | torch.Generator):
            self.copy(value)
        elif isinstance(value, list | tuple | set | deque):
            for entry in value:
                self._prepare_entry(entry)
        elif isinstance(value, dict):
            for entry in value.values():
                self._prepare_entry(entry)

    def _by_attributes(self, value: Any) -> Any:
        new: Any = object.__new__(type(value))  # its own `__new__` may want arguments
        self.memo[id(value)] = new
        new.__dict__.update({name: self.copy(one) for name, one in vars(value).items()})
        self._slots(value, new)
        return new

    def _slots(self, value: Any, new: Any) -> None:
        for slot in copyreg._slotnames(type(value)):  # type: ignore[attr-defined]
            if hasattr(value, slot) and not hasattr(new, slot):
                setattr(new, slot, self.copy(getattr(value, slot)))

    def _by_reduction(self, value: Any) -> Any:
        reducer = copyreg.dispatch_table.get(type(value))
        reduced = reducer(value) if reducer is not None else value.__reduce_ex__(4)
        if isinstance(reduced, str):
            return value
        make, arguments, state, entries, pairs = (*reduced, *(None,) * (5 - len(reduced)))[:5]
        new = self.memo[id(value)] = make(*(self.copy(one) for one in arguments))
        if state is not None:
            state = self.copy(state)
            if hasattr(new, "__setstate__"):
                new.__setstate__(state)
            else:
                plain, slots = state if isinstance(state, tuple) and len(state) == 2 else (state, None)
                new.__dict__.update(plain or {})
                for slot, one in (slots or {}).items():
                    setattr(new, slot, one)
        if isinstance(value, nn.Module):
            self._slots(value, new)  # which torch leaves out of a module's state
        for one in entries or ():
            new.append(self.copy(one))
        for key, one in pairs or ():
            new[self.copy(key)] = self.copy(one)
        return new


def _arrays(model: nn.Module) -> list[tuple[str, Tensor]]:
    return [*model.named_parameters(), *model.named_buffers()]


def _memory_of(tensor: Tensor) -> int | None:
    """The address of its entries; None where it has none."""
    if nn.parameter.is_lazy(tensor) or tensor.is_meta or tensor.layout is not torch.strided:
        return None
    return tensor.untyped_storage().data_ptr() or None


def _storage_of(tensor: Tensor) -> int | None:
    """The identity of a tensor's memory; None for tensors without memory of their own (sparse, not yet made)."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError, ValueError):
        return None


def _generator(generator: torch.Generator) -> torch.Generator:
    new = torch.Generator(device=generator.device)
    new.set_state(generator.get_state())
    return new
