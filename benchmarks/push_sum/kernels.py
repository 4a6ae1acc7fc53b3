"""What a step does to whole models: operations on large tensors, and large arrays that are not torch's."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.push_sum.steps import Lone
from gossipdistill.learning.flat import flat_parameters


class _Large(TorchDispatchMode):
    """Counts operations of which an input or a result has at least `entries` entries, by name and shapes. Views touch
    no entry, and are left out."""

    def __init__(self, entries: int) -> None:
        super().__init__()
        self.entries, self.seen = entries, Counter[str]()

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.is_view:
            return result
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
        if any(tensor.numel() >= self.entries for tensor in tensors):
            shapes = " ".join(f"{tuple(tensor.shape)}:{str(tensor.dtype).removeprefix('torch.')}" for tensor in tensors)
            self.seen[f"{func} {shapes}"] += 1
        return result


@dataclass(frozen=True, slots=True)
class Profile:
    """Of some steps: operations on tensors of at least half a model's entries, and the most bytes that Python and numpy
    held at a time beyond what they held before."""

    large: Counter[str] = field(default_factory=Counter)
    python_bytes: int = 0

    def beyond(self, other: Profile) -> Counter[str]:
        """What this one does more often."""
        return self.large - other.large


def profile_of(lone: Lone, steps: int) -> Profile:
    """Of so many steps, none of which exchanges anything."""
    parameters = len(flat_parameters(lone.worker.learner.model))

    def several() -> None:
        for _ in range(steps):
            lone.step()

    with _Large(parameters // 2) as mode:
        several()
    return Profile(mode.seen, _python_peak_bytes(several))


def _python_peak_bytes(what: Callable[[], None]) -> int:
    tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        what()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return peak - before
