"""What an encoding cannot hold of my own arrays is counted, and told once for each of them by name."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from gossipdistill.events import EventKind
from gossipdistill.learning.averaging import mix_in
from gossipdistill.learning.ledger import Ledger
from gossipdistill.learning.snapshot import model_arrays, pack, shapes_of, unpack

LOSSY = ("half", "bfloat16", "int8", "top_k:2")


def told(ledger: Ledger) -> list[str]:
    assert [event.reason for event in ledger.news if event.kind is EventKind.WARNING] == ledger.warnings
    return ledger.warnings


def test_half_says_what_it_clips_and_what_becomes_nothing_once_for_each_array() -> None:
    ledger = Ledger()
    arrays = {
        "head.weight": torch.tensor([[1.0, 7e4, -1.2e5], [0.0, 3.0, 65504.0]]),
        "head.bias": torch.tensor([1.0, 1e-9, -2e-8, 0.0]),
        "fits": torch.tensor([1.0, -65504.0, 6e-8]),
    }
    for _ in range(3):
        pack(arrays, "half", ledger)
    assert ledger.out_of_range == {"head.weight": 6, "head.bias": 6}
    assert told(ledger) == [
        "head.weight, encoded as half: of 6 entries 2 larger than it holds, sent as 65504 (the largest: 1.2e+05)",
        "head.bias, encoded as half: of 4 entries 2 too small, sent as 0 (the largest of them: 2e-08)",
    ]
    pack({"both": torch.tensor([1e5, 1e-10])}, "half", ledger)
    assert told(ledger)[-1] == (
        "both, encoded as half: of 2 entries 1 larger than it holds, sent as 65504 (the largest: 1e+05)"
        " and 1 too small, sent as 0 (the largest of them: 1e-10)"
    )


def test_raw_and_what_fits_say_nothing() -> None:
    ledger = Ledger()
    pack({"w": torch.tensor([1e30, 1e-30])}, "raw", ledger)
    pack({"w": torch.randn(1000)}, "half", ledger)
    pack({"w": torch.tensor([1e30, 1e-30])}, "bfloat16", ledger)
    pack({"w": torch.randn(1000)}, "int8", ledger)
    pack({"p": torch.softmax(10 * torch.randn(50, 10), dim=1)}, "half", ledger, tiny=False)
    assert not ledger.out_of_range
    assert not told(ledger)


def test_many_arrays_are_not_told_one_by_one() -> None:
    ledger = Ledger()
    pack({f"layer{n}": torch.full((4,), 1e6) for n in range(50)}, "half", ledger)
    assert len(ledger.out_of_range) == 50
    assert len(told(ledger)) == 9
    assert ledger.warnings[-1] == "more arrays have such entries: see out_of_range in result.json"


@pytest.mark.parametrize("encoding", LOSSY)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_nothing_finite_becomes_infinite(encoding: str, dtype: torch.dtype) -> None:
    ledger = Ledger()
    large = min(torch.finfo(dtype).max, 1e300)
    arrays = {"w": torch.tensor([[1.0, large, 0.5], [large / 2, 2.0, 3.0]], dtype=dtype)}
    found = unpack(pack(arrays, encoding, ledger), shapes_of(arrays))["w"]  # refuses what is not finite
    assert bool(found.isfinite().all())
    assert bool(ledger.out_of_range) == (dtype is torch.float64 or encoding in ("half", "top_k:2", "int8"))
    if dtype is torch.float64:
        assert any("1e+300" in text for text in told(ledger))


@pytest.mark.parametrize("encoding", LOSSY)
def test_what_is_not_finite_stays_so(encoding: str) -> None:
    for odd in (math.nan, math.inf):
        arrays = {"w": torch.tensor([[1.0, odd, 0.5, 0.1]], dtype=torch.float64)}
        body = pack(arrays, encoding, Ledger())
        with pytest.raises(Exception, match="NaN or infinity"):
            unpack(body, shapes_of(arrays))


def test_a_model_beyond_the_range_is_mixed_as_it_was_sent_and_its_sender_says_so() -> None:
    ledger, theirs, mine = Ledger(), nn.Linear(2, 1), nn.Linear(2, 1)
    with torch.no_grad():
        theirs.weight.copy_(torch.tensor([[1e5, 1.0]]))
        mine.weight.zero_()
    arrays = model_arrays(theirs)
    mix_in(mine, [(0.5, unpack(pack(arrays, "half", ledger), shapes_of(arrays)))])
    assert mine.weight.tolist() == [[32752.0, 0.5]]
    assert ledger.out_of_range == {"weight": 1}
