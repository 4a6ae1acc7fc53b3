"""Whether a model can be trained and shared as a run asks. This is found before the first step, and an error names the
part that cannot.

any strategy        an array without memory (`meta`), a lazy module that a forward pass does not give a shape
weights travel      an array that is sparse, quantised, ...: what `SharedArrays` calls unfit
all_reduce          an array that gloo cannot broadcast
sparse gradients    an optimizer that takes none
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from gossipdistill.errors import NeedsError
from gossipdistill.learning.cloning import NotClonedError, check_cloneable
from gossipdistill.learning.evaluation import evaluating, generators_kept, modes_of, set_modes
from gossipdistill.learning.shared_arrays import SharedArrays
from gossipdistill.user_code import users_code

_BROADCAST = frozenset(
    (
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.complex128,
        torch.complex64,
        torch.complex32,
        torch.int64,
        torch.int32,
        torch.int8,
        torch.uint8,
        torch.bool,
    )
)
"""`torch.distributed` sends these types over gloo."""
_EXTRA_STATE = "_extra_state"
"""The name under which torch keeps what `get_extra_state` gives ends in this."""
ROWS_LOOKED_AT = 256
_SIZE_MAX = 20.0
"""Inputs with a larger root mean square are not scaled; that of standardised inputs is about 1."""
ROWS_TRIED = 2
"""This number of examples is run through a model, and an optimizer is tried on this number of rows of a parameter."""


def refuse_untrainable(model: nn.Module) -> None:
    """Refuse a model of which nothing can be trained, or an array cannot; before it is moved to its device.

    Raises:
        NeedsError: naming the array.
    """
    for name, tensor in _all(model):
        if tensor.is_meta:
            raise NeedsError(
                f"the model's {name} has no memory (device meta), so it can neither be trained nor saved; "
                "give it values in Task.model, for example with model.to_empty(device='cpu') and an initialisation"
            )
        if not nn.parameter.is_lazy(tensor) and tensor.is_inference():
            raise NeedsError(
                f"the model's {name} was made in torch.inference_mode, so it can never be changed; make it outside, or "
                "under torch.no_grad"
            )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise NeedsError("no parameter of the model asks for a gradient (requires_grad), so nothing can be trained")


def materialise(model: nn.Module, inputs: Tensor) -> None:
    """Give lazy modules their shapes and first values, by one forward pass of `inputs` [rows, ...]. All
    other models are left alone.

    The values are drawn from the generator that the model's others were drawn from, in the same order on all peers.

    Raises:
        NeedsError: naming an array that has no shape even then.
    """
    if not _lazy(model):
        return
    modes = modes_of(model)
    model.eval()
    try:
        with torch.no_grad():
            model(inputs)
    finally:
        set_modes(model, modes)
    left = _lazy(model)
    if left:
        raise NeedsError(
            f"the model's {left[0]} belongs to a lazy module and has no shape even after a forward pass, which does "
            "not use it; give it its sizes, or leave it out"
        )


def unscaled(inputs: Tensor) -> str:
    """A warning where inputs [rows, ...] are floating-point numbers of a size for which usual rates are far too large,
    as grey levels from 0 to 255 are; empty where they are not."""
    if not inputs.is_floating_point() or not inputs.numel():
        return ""
    some = inputs[:ROWS_LOOKED_AT].float()
    size = float(some.square().mean().sqrt())
    if not _SIZE_MAX < size < float("inf"):
        return ""
    return (
        f"the inputs are large numbers (root mean square {size:.2g}): most models train better, and some only, with "
        "inputs scaled to about 1"
    )


def refuse_unfit(model: nn.Module, strategy: str, shares: bool, reduces: bool) -> None:
    """Refuse a model whose arrays the strategy cannot handle.

    Args:
        shares: whether the weights travel to neighbours.
        reduces: whether gradients are reduced, and buffers broadcast, by torch.distributed.

    Raises:
        NeedsError: naming the array.
    """
    if shares:
        _refuse_uncloneable(model, strategy)
    problems = SharedArrays.of(model).unfit if shares else {}
    if reduces:
        problems = {name: why for name, tensor in _all(model) if (why := _not_broadcast(tensor))}
    for name, why in problems.items():
        own = dict(model.named_parameters(remove_duplicate=False))
        keep = "" if name in own or reduces else "register the buffer with persistent=False to leave it out, or "
        raise NeedsError(
            f"strategy {strategy} {'reduces' if reduces else 'shares'} the arrays of a model, and this cannot be done "
            f"with {name}: {why}; {keep}use a strategy that needs no weights, such as codistill_predictions"
        )


def _refuse_uncloneable(model: nn.Module, strategy: str) -> None:
    try:
        check_cloneable(model)
    except NotClonedError as error:
        raise NeedsError(
            f"strategy {strategy} keeps copies of a model for the weights of others, and this one cannot be copied: "
            f"{error}; see its __deepcopy__, or use codistill_predictions"
        ) from None


def extra_state(model: nn.Module) -> tuple[str, ...]:
    """Names of the entries of `state_dict` that are no parameters or buffers but what a module adds to them, tensors or
    not: each peer keeps its own, in memory and in its checkpoints."""
    return tuple(
        name
        for name, value in model.state_dict().items()
        if not isinstance(value, Tensor) or name.rpartition(".")[2] == _EXTRA_STATE
    )


def sparse_gradients(
    model: nn.Module, criterion: Callable[[Any, Tensor], Tensor], x: Tensor, y: Tensor
) -> tuple[str, ...]:
    """Names of the parameters that get a sparse gradient from inputs [rows, ...] and labels; empty where
    none does, or where the gradient cannot be made. Leaves no trace."""
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    with generators_kept(), evaluating(model), torch.enable_grad():
        try:
            with users_code("Task.model"):  # it may also want to end the process
                loss = criterion(model(x), y)
            gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
        except Exception:
            return ()  # the first step will say what is wrong
    return tuple(name for name, gradient in zip(named, gradients, strict=True) if _is_sparse(gradient))


def refuse_sparse_gradients(model: nn.Module, optimizer: torch.optim.Optimizer, names: Iterable[str]) -> None:
    """Refuse an optimizer that takes no sparse gradients, if some of these parameters have one. Another optimizer of
    its class makes two steps on a few rows of them.

    Raises:
        NeedsError: naming the parameter.
    """
    parameters = dict(model.named_parameters())
    groups = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
    for name in names:
        group = groups.get(id(parameters[name]))
        problem = _tried(optimizer, group, parameters[name]) if group is not None else None
        if problem:
            kind = type(optimizer).__name__
            raise NeedsError(
                f"the gradient of {name} is sparse, and the optimizer {kind} refuses it: {problem}; "
                "use train.optimizer = sgd with train.weight_decay = 0, or make the embedding with sparse=False"
            )


def _tried(optimizer: torch.optim.Optimizer, group: dict[str, Any], parameter: Tensor) -> str | None:
    """The failure of two steps with a sparse gradient; None where they succeed, or cannot be tried."""
    few = nn.Parameter(parameter.detach()[:ROWS_TRIED].clone())
    takes = inspect.signature(type(optimizer).__init__).parameters
    options = {key: value for key, value in group.items() if key in takes and key != "params"}
    try:
        twin = type(optimizer)([few], **options)
    except Exception:
        return None
    try:
        for _ in range(2):
            few.grad = torch.sparse_coo_tensor(
                torch.zeros(1, 1, dtype=torch.long), few.detach()[:1], few.shape, check_invariants=True
            )
            twin.step()
    except Exception as error:
        return " ".join(str(error).split())[:160]
    return None


def _all(model: nn.Module) -> list[tuple[str, Tensor]]:
    return [*model.named_parameters(), *model.named_buffers()]


def _lazy(model: nn.Module) -> list[str]:
    return [name for name, tensor in _all(model) if nn.parameter.is_lazy(tensor)]


def _is_sparse(gradient: Tensor | None) -> bool:
    return gradient is not None and gradient.layout is not torch.strided


def _not_broadcast(tensor: Tensor) -> str:
    """Why gloo cannot broadcast it; empty if it can."""
    word = str(tensor.dtype).removeprefix("torch.")
    if is_traceable_wrapper_subclass(tensor):
        return f"it is a {type(tensor).__name__}, which holds its entries in other tensors"
    if tensor.is_quantized or tensor.dtype not in _BROADCAST:
        return f"it is {word}, which gloo does not send"
    if tensor.layout is not torch.strided:
        return f"its layout is {str(tensor.layout).removeprefix('torch.')}, which gloo does not send"
    if any(stride == 0 and length > 1 for stride, length in zip(tensor.stride(), tensor.shape, strict=True)):
        return "entries of it share memory (expand), which a broadcast writes to"
    return ""
