"""Tensors as one vector in blocks."""

from __future__ import annotations

import pytest
import torch

from gossipdistill.learning.blocks import Flat, blocks_of, largest_of, peak

SHAPES = {"a": (3, 5), "b": (), "c": (40,), "d": (0, 3), "e": (2, 2, 7)}


@pytest.mark.parametrize("length", [1, 4, 7, 16, 1000])
def test_what_is_read_block_by_block_is_the_vector_and_can_be_written(length: int) -> None:
    tensors = {name: torch.randn(shape) for name, shape in SHAPES.items()}
    tensors["e"] = torch.randn(7, 2, 2).permute(1, 2, 0)  # not contiguous
    before = torch.cat([tensor.reshape(-1) for tensor in tensors.values()]).double()
    blocks = blocks_of(tensors, length)
    assert [block.at.start for block in blocks] == list(range(0, len(before), length))
    flat = Flat(tensors, torch.device("cpu"))
    assert torch.equal(torch.cat([flat.read(block) for block in blocks]), before)
    for block in blocks:
        flat.write(block, 2.0 * before[block.at])
    flat.close()
    assert torch.equal(torch.cat([tensor.reshape(-1) for tensor in tensors.values()]).double(), 2.0 * before)


def test_what_is_read_is_a_copy_also_in_float64() -> None:
    tensor = torch.ones(3, dtype=torch.float64)
    (block,) = blocks_of({"a": tensor})
    Flat({"a": tensor}, torch.device("cpu")).read(block).zero_()
    assert torch.equal(tensor, torch.ones(3, dtype=torch.float64))


def test_no_tensors_are_no_blocks() -> None:
    assert blocks_of({}) == blocks_of({"a": torch.empty(0)}) == ()
    assert largest_of([]) == float("inf")
    assert peak(torch.empty(0)) == 0.0


def test_the_largest_number_is_that_of_the_narrowest_type() -> None:
    assert largest_of([torch.ones(1), torch.ones(1, dtype=torch.float16)]) == 65504.0
    assert peak(torch.tensor([1.0, -3.0])) == 3.0
    assert peak(torch.tensor([-2.0, float("-inf")])) == float("inf")
    assert peak(torch.tensor([1.0, float("nan"), 2.0])) != peak(torch.tensor([1.0]))
