"""What of a prediction leaves a peer: exactly what was asked, and always a probability distribution."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import softmax

from gossipdistill.errors import ConfigError
from gossipdistill.learning.disclosure import check_disclosure, disclosed

logits = st.integers(2, 7).flatmap(
    lambda classes: st.lists(
        st.lists(st.floats(-60.0, 60.0, width=32), min_size=classes, max_size=classes), min_size=1, max_size=4
    )
)


def rows(values: list[list[float]]) -> Tensor:
    return softmax(torch.tensor(values), dim=1)


@settings(deadline=None, max_examples=150)
@given(values=logits, share=st.floats(0.0, 0.99), k=st.integers(1, 6))
def test_a_row_stays_a_distribution_within_its_bounds(values: list[list[float]], share: float, k: int) -> None:
    p = rows(values)
    classes = p.shape[1]
    c, top_k = share / classes, min(k, classes - 1)
    told = disclosed(p, top_k, c)
    assert told.dtype == torch.float32
    assert torch.allclose(told.sum(dim=1), torch.ones(len(p)), atol=1e-5)
    assert float(told.min()) >= c - 1e-6
    assert float(told.max()) <= 1.0 - (classes - 1) * c + 1e-6
    # No more than k values stand out, and the likeliest class is among them.
    for row, original in zip(told, p, strict=True):
        assert len(set(row.tolist())) <= top_k + 1
        assert float(row[original.argmax()]) >= float(row.max()) - 1e-6


@settings(deadline=None, max_examples=100)
@given(values=logits, share=st.floats(0.01, 0.99))
def test_the_clip_is_the_nearest_row_that_is_nowhere_below_it(values: list[list[float]], share: float) -> None:
    """By bisection for the one t of a row, without sorting."""
    p = rows(values).double()
    c = share / p.shape[1]
    low, high = -torch.ones(len(p), 1).double(), torch.ones(len(p), 1).double()
    for _ in range(80):
        middle = (low + high) / 2
        much = (c + (p - c - middle).clamp_min(0.0)).sum(dim=1, keepdim=True) > 1.0
        low, high = torch.where(much, middle, low), torch.where(much, high, middle)
    expected = c + (p - c - low).clamp_min(0.0)
    assert torch.allclose(disclosed(p.float(), None, c).double(), expected, atol=2e-6)


def test_by_hand() -> None:
    p = torch.tensor([[0.7, 0.2, 0.06, 0.04], [0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0]])
    assert torch.equal(disclosed(p, None, 0.0), p)
    top = disclosed(p, 2, 0.0)
    assert torch.allclose(top, torch.tensor([[0.7, 0.2, 0.05, 0.05], [0.25] * 4, [1.0, 0.0, 0.0, 0.0]]))
    # What the last two of the first row lack, 0.1, is taken from the others in equal parts.
    clipped = disclosed(p, None, 0.1)
    assert torch.allclose(clipped, torch.tensor([[0.65, 0.15, 0.1, 0.1], [0.25] * 4, [0.7, 0.1, 0.1, 0.1]]))
    assert torch.allclose(disclosed(p, 1, 0.1)[0], torch.tensor([0.65, 0.35 / 3, 0.35 / 3, 0.35 / 3]))


def test_what_is_nowhere_below_the_clip_stays() -> None:
    p = torch.tensor([[0.5, 0.3, 0.2]])
    assert torch.allclose(disclosed(p, None, 0.2), p, atol=1e-7)


@pytest.mark.parametrize(
    ("top_k", "clip", "key"), [(2, 0.0, "reveal_top_k"), (3, 0.0, "reveal_top_k"), (1, 1 / 3, "reveal_clip")]
)
def test_what_hides_nothing_or_leaves_nothing_is_refused(top_k: int, clip: float, key: str) -> None:
    with pytest.raises(ConfigError, match=f"strategy.{key} = .* accepted: "):
        check_disclosure(3, top_k, clip)
    check_disclosure(3, 1, 0.33)
    check_disclosure(2, None, 0.49)


def test_of_two_classes_the_likeliest_is_everything() -> None:
    with pytest.raises(ConfigError, match="accepted: unset, and strategy"):
        check_disclosure(2, 1, 0.0)
