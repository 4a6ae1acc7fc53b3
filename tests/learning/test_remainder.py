"""What a numerator holds beyond its model: 4 bytes a parameter where it is rounding alone, else 8."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gossipdistill.ids import PeerName, Version
from gossipdistill.learning.learner import Learner
from gossipdistill.learning.mass import Mass, begin, settle, split
from gossipdistill.learning.remainder import Remainder
from gossipdistill.messages import Arrival, Content, Payload

ALL = slice(None)
SIZE = 40_000


def learner(dtype: torch.dtype = torch.float32) -> Learner:
    model = nn.ParameterList([nn.Parameter(torch.randn(SIZE, generator=torch.Generator().manual_seed(0)).to(dtype))])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return Learner("ada", 0, ("ada", "bo", "cy", "dee"), model, optimizer, torch.device("cpu"), 0)


def came(payload: Payload, weight: float) -> Arrival:
    return Arrival(PeerName("bo"), Version(1, 1), Content("push_sum", payload, 0, 0, weight=weight), 0.0)


def share(ada: Learner, mass: Mass, parts: int, encoding: str = "raw") -> tuple[Payload, float]:
    taken = split(mass, ada, parts, encoding)
    assert taken is not None
    return taken


def test_what_is_written_is_kept_to_24_bits_or_to_48() -> None:
    q, values = Remainder(5, torch.device("cpu")), torch.tensor([1.0 + 2.0**-40, -(2.0**-30), 3.0, 0.0, 1e-12]).double()
    values[0] = 1.0 + 2.0**-40
    q.write(ALL, values)
    assert torch.equal(q.read(ALL), values.float().double())
    q.widen()
    q.write(ALL, values)
    assert torch.allclose(q.read(ALL), values, rtol=2.0**-48, atol=0.0)
    q.narrow()
    assert torch.equal(q.read(ALL), values.float().double())


@pytest.mark.parametrize(
    ("dtype", "encoding", "parts", "wide"),
    [
        (torch.float32, "raw", 1, False),
        (torch.float64, "raw", 1, False),
        (torch.float32, "raw", 3, True),
        (torch.float32, "half", 1, True),
        (torch.bfloat16, "raw", 1, True),
    ],
    ids=["one neighbour", "doubles", "a weight below a half", "a lossy encoding", "coarse parameters"],
)
def test_it_takes_eight_bytes_only_where_it_holds_more_than_rounding(
    dtype: torch.dtype, encoding: str, parts: int, wide: bool
) -> None:
    ada = learner(dtype)
    mass = begin(ada)
    before = mass.whole(ada)
    payload, weight = share(ada, mass, parts, encoding)
    assert mass.q.wide is wide
    settle(mass, ada, [came(payload, weight)] * parts)
    assert mass.q.wide is (dtype is torch.bfloat16)  # the model is x / w again
    assert mass.weight == pytest.approx(1.0)
    assert float((mass.whole(ada) - before).abs().max()) <= 1e-13 * float(before.abs().max())
