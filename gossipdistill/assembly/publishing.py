"""Whether the publications of a peer can travel at all: this is known, and an error is given, before the first step."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from gossipdistill.config.spec import WorkerSpec
from gossipdistill.errors import NeedsError
from gossipdistill.ids import Boot, PeerName
from gossipdistill.learning.snapshot import layout_of
from gossipdistill.limits import DEFAULT_LIMITS, Limits
from gossipdistill.messages import ArrayLayout, Content, Envelope, Payload, State
from gossipdistill.strategies import Extent, Publication, Strategy
from gossipdistill.tasks import Task
from gossipdistill.wire.codec import encode
from gossipdistill.wire.fields import TEXT_CHARACTERS_MAX

_SMALLER = ("half", "bfloat16", "int8")
"""A refusal proposes these encodings of weights and predictions, the most faithful first."""
_HEADER_SPARE_BYTES = 16 * 1024
"""A header has this space (bytes) for what is beside the layout: names, numbers, and piggybacked confirmations."""
_NAMES_SHOWN = 60


def refuse_unsendable(
    spec: WorkerSpec, strategy: Strategy, task: Task, model: nn.Module, limits: Limits = DEFAULT_LIMITS
) -> None:
    """Refuse a run whose payloads no peer would accept.

    Raises:
        NeedsError: naming both sizes, and what would help.
    """
    if len(spec.names) == 1 or spec.pooled:
        return
    train = spec.config.train
    batch = train.batch_size * train.accumulate
    rows = len(task.transfer) if task.transfer is not None else 0
    extent = Extent(model, rows, task.class_count or 0, (batch, *task.train[0].shape[1:]))
    for publication in strategy.publications(extent):
        problem = problem_of(publication, limits)
        if problem:
            raise NeedsError(f"strategy {strategy.name} cannot exchange what it has to: {problem}")


def problem_of(publication: Publication, limits: Limits = DEFAULT_LIMITS) -> str:
    """Why no peer would accept this publication, and what would help; empty if every peer would."""
    layout = layout_of(publication.arrays, publication.encoding)
    size = _size(layout)
    if size > limits.payload_bytes_max:
        entries = sum(math.prod(array.shape) for array in layout)
        return (
            f"{entries:,} numbers in encoding {publication.encoding} are {_megabytes(size)}, and one payload has at "
            f"most {_megabytes(limits.payload_bytes_max)}; {_help(publication, limits)}"
        )
    if len(layout) > limits.arrays_max:
        return (
            f"it has {len(layout):,} arrays, and one payload has at most {limits.arrays_max:,}; "
            "use a model with fewer parameters and buffers, or one that keeps them in larger arrays"
        )
    for array in layout:
        if len(array.shape) > limits.dimensions_max:
            return (
                f"{_shown(array.name)} has {len(array.shape)} dimensions, {list(array.shape)}, and an array in a "
                f"payload has at most {limits.dimensions_max}; reshape it"
            )
        if math.prod(array.shape) > 8 * limits.payload_bytes_max:
            return f"{_shown(array.name)} has {math.prod(array.shape):,} entries, more than any payload can hold"
        if len(array.name) > TEXT_CHARACTERS_MAX:
            return (
                f"the name {_shown(array.name)} has {len(array.name):,} characters, and a name in a payload has at "
                f"most {TEXT_CHARACTERS_MAX:,}; nest the modules less deeply, or give them shorter names"
            )
        if not array.name.isprintable():
            return f"the name {_shown(array.name)} cannot be printed; rename the module or parameter"
    header = _header_bytes(layout)
    if header + _HEADER_SPARE_BYTES > limits.header_bytes_max:
        return (
            f"the names and shapes of its {len(layout):,} arrays are {header / 1000:,.0f} kB, and a header has at most "
            f"{(limits.header_bytes_max - _HEADER_SPARE_BYTES) / 1000:,.0f} kB; use shorter names, or fewer arrays"
        )
    return ""


def _size(layout: Sequence[ArrayLayout]) -> int:
    return sum(array.nbytes for array in layout)


def _help(publication: Publication, limits: Limits) -> str:
    """The encodings that would fit; if none does, another remedy."""
    sizes = {label: _size(layout_of(publication.arrays, label)) for label in _SMALLER}
    fitting = [f"{label} ({size / 1e6:,.1f} MB)" for label, size in sizes.items() if size <= limits.payload_bytes_max]
    if fitting:
        return f"set exchange.encoding to {' or '.join(fitting)}, or use a smaller model"
    least = min(sizes.values())
    return (
        f"even int8 needs {_megabytes(least)}: use a smaller model, or a strategy that exchanges predictions "
        "(codistill_predictions; with fewer transfer examples or strategy.coordinated_rows if it is that already)"
    )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB ({size / (1 << 20):,.1f} MiB)"


def _shown(name: str) -> str:
    shown = repr(name)
    return shown if len(shown) <= _NAMES_SHOWN else f"{shown[:_NAMES_SHOWN]}..."


def _header_bytes(layout: Sequence[ArrayLayout]) -> int:
    """The bytes of the header of a message with this layout, on the wire."""
    state = State(1, Content("", Payload(tuple(layout), b""), 1, 1))
    return len(encode(Envelope(PeerName("a"), Boot(1), "", 0, state))[0])
