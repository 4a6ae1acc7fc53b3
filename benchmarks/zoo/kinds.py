"""The kinds of model in the zoo, and where one is refused.

A kind is a model of inputs [rows, 4] that gives logits [rows, 3]. `task` makes a task of it, so that it can be run by
hand as well:

    gossipdistill run --task benchmarks.zoo.kinds:task --set task.kind=tied --strategy gossip_averaging
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from benchmarks.zoo.models import (
    Attending,
    Averaged,
    Carrying,
    ComplexNet,
    Counting,
    Embedding,
    Expanded,
    Hooked,
    InType,
    Keeping,
    Listed,
    LowRank,
    Make,
    Masked,
    Mixed,
    Net,
    Noted,
    Observed,
    Overlapping,
    QuantisedLayer,
    Random,
    RealAndImaginary,
    Recurrent,
    Renaming,
    Scaled,
    Shared,
    Tied,
    Views,
    convolution,
    frozen_parts,
    normed,
    pruned,
    quantised,
    scripted,
    with_batch_norm,
)
from gossipdistill import Task
from gossipdistill.tasks import accuracy

EVERYWHERE, WEIGHTS, REDUCED, ADVERSARIAL = "everywhere", "where weights travel", "all_reduce", "concurrent_adversarial"


@dataclass(frozen=True)
class Kind:
    """One kind. `inputs` are real, whole, complex or double; `refused` says where (one of the four words above) and by
    which words; `resumes` is False where it keeps something that no `state_dict` holds, and so no checkpoint."""

    make: Make
    inputs: str = "real"
    refused: Mapping[str, str] = field(default_factory=dict)
    resumes: bool = True


_NOT_SENT = {REDUCED: "odd: "}
_NOT_SHARED = {WEIGHTS: "odd: ", **_NOT_SENT}
_EMBEDDED = {ADVERSARIAL: "floating-point"}

KINDS: dict[str, Kind] = {
    "plain": Kind(Net),
    "tied": Kind(lambda: Tied(2)),
    "tied three times": Kind(lambda: Tied(3)),
    "tied and transposed": Kind(lambda: Tied(2, transposed=True)),
    "shared module": Kind(Shared),
    "views and shared buffers": Kind(Views),
    "expanded": Kind(Expanded, refused={REDUCED: "scale: "}),
    "overlapping parameters": Kind(Overlapping, refused={WEIGHTS: "right: it shares a part"}),
    "complex parameters": Kind(ComplexNet),
    "complex inputs": Kind(RealAndImaginary, "complex", {ADVERSARIAL: "floating-point"}),
    "float64": Kind(lambda: InType(torch.float64)),
    "float64 inputs": Kind(lambda: Net().double(), "double"),
    "bfloat16": Kind(lambda: InType(torch.bfloat16)),
    "float16": Kind(lambda: InType(torch.float16)),
    "mixed types": Kind(Mixed),
    "float8 buffer": Kind(lambda: Net(torch.ones(3).to(torch.float8_e4m3fn)), refused=_NOT_SENT),
    "uint16 buffer": Kind(lambda: Net(torch.tensor([65_535, 1], dtype=torch.uint16)), refused=_NOT_SENT),
    "large counters": Kind(Counting),
    "bool buffer": Kind(lambda: Net(torch.tensor([True, False, True]))),
    "mask of -inf": Kind(lambda: Masked(-math.inf, True)),
    "mask of -inf, not saved": Kind(lambda: Masked(-math.inf, False)),
    "constant NaN": Kind(lambda: Masked(math.nan, True)),
    "observer": Kind(Observed),
    "parameter that is NaN": Kind(lambda: Net(nn.Parameter(torch.tensor([1.0, math.nan]))), refused={WEIGHTS: "odd: "}),
    "batch norm": Kind(lambda: with_batch_norm(False)),
    "frozen batch norm": Kind(lambda: with_batch_norm(True)),
    "old weight_norm": Kind(normed(nn.utils.weight_norm)),
    "weight_norm": Kind(normed(nn.utils.parametrizations.weight_norm)),
    "old spectral_norm": Kind(normed(nn.utils.spectral_norm)),
    "spectral_norm": Kind(normed(nn.utils.parametrizations.spectral_norm)),
    "orthogonal": Kind(normed(nn.utils.parametrizations.orthogonal)),
    "renames its entries": Kind(Renaming),
    "pruned": Kind(pruned),
    "running average of a part": Kind(Averaged),
    "lists, dropout, checkpointing": Kind(Listed),
    "merges for evaluation": Kind(LowRank),
    "quantised layer": Kind(QuantisedLayer),
    "keeps activations": Kind(Keeping),
    "carries a hidden state": Kind(Carrying, resumes=False),
    "hooks": Kind(Hooked),
    "lazy": Kind(lambda: nn.Sequential(nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.Tanh(), nn.LazyLinear(3))),
    "lazy and unused": Kind(lambda: Net(nn.LazyLinear(2)), refused={EVERYWHERE: "odd.weight belongs to a lazy module"}),
    "channels_last": Kind(convolution),
    "sparse gradients": Kind(lambda: Embedding(True), "whole", _EMBEDDED),
    "embedding": Kind(lambda: Embedding(False), "whole", _EMBEDDED),
    "LSTM": Kind(Recurrent),
    "attention": Kind(Attending),
    "extra state": Kind(Noted),
    "generator": Kind(Random, resumes=False),
    "scalar, empty, transposed": Kind(Scaled),
    "unused parameter": Kind(lambda: Net(nn.Parameter(torch.ones(3)))),
    "frozen parameters": Kind(frozen_parts),
    "whole-number parameter": Kind(lambda: Net(nn.Parameter(torch.arange(3), requires_grad=False))),
    "sparse buffer": Kind(lambda: Net(torch.eye(3).to_sparse()), refused=_NOT_SHARED),
    "sparse buffer, not saved": Kind(lambda: Net(torch.eye(3).to_sparse(), persistent=False), refused=_NOT_SENT),
    "sparse parameter": Kind(
        lambda: Net(nn.Parameter(torch.eye(3).to_sparse(), requires_grad=False)), refused=_NOT_SHARED
    ),
    "quantised buffer": Kind(lambda: Net(quantised()), refused=_NOT_SHARED),
    "quantised parameter": Kind(lambda: Net(nn.Parameter(quantised(), requires_grad=False)), refused=_NOT_SHARED),
    "buffer without memory": Kind(
        lambda: Net(torch.empty(3, device="meta")), refused={EVERYWHERE: "odd has no memory"}
    ),
    "scripted": Kind(scripted),
}


def task(shard: Any, kind: str = "plain") -> Task:
    """Three blobs, of which each peer has all; the model is of the zoo."""
    one = KINDS[kind]
    generator = torch.Generator().manual_seed(1)
    y = torch.arange(96) % 3
    x = 2 * torch.randn(3, 4, generator=generator)[y] + torch.randn(96, 4, generator=generator)
    if one.inputs == "whole":
        x = (x.abs() * 4).long().clamp(max=4) + 5 * y[:, None]
    elif one.inputs == "complex":
        x = x + 0.5j * x.flip(1)
    elif one.inputs == "double":
        x = x.double()
    mine = shard.deal(y[:48])
    return Task(
        model=one.make,
        train=(x[:48][mine], y[:48][mine]),
        validation=(x[48:72], y[48:72]),
        transfer=x[72:],
        loss=nn.functional.cross_entropy,
        metrics={"accuracy": accuracy},
    )
