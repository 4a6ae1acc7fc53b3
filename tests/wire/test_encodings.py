"""Array encodings: the error that each one states is the error that it makes, and wrong sizes are refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from gossipdistill.wire.encodings import ENCODINGS, EncodingError, Floats, encoding_of
from gossipdistill.wire.encodings.bfloat16 import BFLOAT16_MAX
from gossipdistill.wire.encodings.half import HALF_MAX
from gossipdistill.wire.encodings.int8 import BLOCK
from gossipdistill.wire.encodings.raw import CARRIERS

LABELS = ["raw", "half", "bfloat16", "int8", "top_k:3", "top_k:1", "top_k"]
DENSE = ["raw", "half", "bfloat16", "int8"]
FLOAT32_MAX = float(np.finfo(np.float32).max)

shapes = arrays_of.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=70)
rows = arrays_of.array_shapes(min_dims=1, max_dims=2, min_side=1, max_side=40)


def tables(floats: st.SearchStrategy[float], shape: st.SearchStrategy[tuple[int, ...]]) -> st.SearchStrategy[Floats]:
    return arrays_of.arrays(np.float32, shape, elements=floats)


def floats(bound: float | None = None) -> st.SearchStrategy[float]:
    edges = {"min_value": -bound, "max_value": bound} if bound is not None else {}
    return st.floats(width=32, allow_nan=False, allow_infinity=False, **edges)  # type: ignore[arg-type]


def back(label: str, array: Floats) -> Floats:
    encoding = encoding_of(label)
    data = encoding.encode(array)
    assert len(data) == encoding.nbytes(array.shape)
    out = bytearray(len(data))
    encoding.encode_into(array, memoryview(out))
    assert bytes(out) == data
    decoded = encoding.decode(memoryview(data), array.shape)
    assert decoded.shape == array.shape
    assert decoded.dtype == np.float32
    assert decoded.flags.writeable
    return decoded


@pytest.mark.parametrize("label", LABELS)
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_does_not_fit_is_counted_and_nothing_finite_becomes_infinite(label: str, data: st.DataObject) -> None:
    array = data.draw(tables(floats(), rows if label.startswith("top_k") else shapes))
    array = np.abs(array) if label.startswith("top_k") else array
    decoded, found = back(label, array), encoding_of(label).out_of_range(array)
    assert np.isfinite(decoded).all()
    assert found.entries == array.size
    beyond = np.abs(array) > (HALF_MAX if label.startswith(("half", "top_k")) else np.inf)
    assert found.clipped == np.count_nonzero(beyond)
    assert found.clipped_max == np.abs(array[beyond]).max(initial=0.0)
    if label in ("raw", "half", "bfloat16"):
        lost = (decoded == 0) & (array != 0)
        assert found.zeroed == np.count_nonzero(lost)
        assert found.zeroed_max == np.abs(array[lost]).max(initial=0.0)


def test_a_block_of_int8_that_one_entry_outgrows_is_counted_and_a_usual_one_is_not() -> None:
    array = np.random.default_rng(0).standard_normal((10, BLOCK)).astype(np.float32)
    assert np.count_nonzero(back("int8", array) == 0) > 0
    assert encoding_of("int8").out_of_range(array).zeroed == 0
    array[3, 5], array[7] = 1e6, 0.0
    found = encoding_of("int8").out_of_range(array)
    assert found.zeroed == BLOCK - 1 == np.count_nonzero(back("int8", array)[3] == 0)
    assert found.zeroed_max == np.abs(np.delete(array[3], 5)).max()
    assert encoding_of("int8").out_of_range(np.full((2, BLOCK), np.nan, dtype=np.float32)).zeroed == 0


@settings(max_examples=60, deadline=None)
@given(arrays_of.arrays(np.uint32, shapes))
def test_raw_is_exact_bit_for_bit_whatever_the_bits(bits: np.ndarray) -> None:  # type: ignore[type-arg]
    decoded = back("raw", bits.view(np.float32))
    assert np.array_equal(decoded.view(np.uint32), bits)


@pytest.mark.parametrize("dtype", CARRIERS)
@settings(max_examples=8, deadline=None)
@given(st.data())
def test_raw_carries_every_type_bit_for_bit(dtype: str, data: st.DataObject) -> None:
    encoding, carrier = encoding_of("raw", dtype), np.dtype(CARRIERS[dtype])
    count = data.draw(st.integers(0, 9))
    bits = data.draw(st.binary(min_size=count * carrier.itemsize, max_size=count * carrier.itemsize))
    array = np.frombuffer(bits, dtype=carrier)
    assert encoding.encode(array) == bits
    assert encoding.nbytes((count,)) == len(bits)
    decoded = encoding.decode(memoryview(bits), (count,))
    assert (decoded.dtype, decoded.tobytes()) == (carrier, bits)


@pytest.mark.parametrize(("label", "dtype"), [("raw", "float31"), ("half", "int64"), ("top_k:2", "float64")])
def test_a_type_that_an_encoding_does_not_hold_is_named(label: str, dtype: str) -> None:
    with pytest.raises(EncodingError, match=dtype):
        encoding_of(label, dtype)


def bound_of(label: str, x: Floats) -> np.ndarray:  # type: ignore[type-arg]
    """What the docstring of each encoding states, entry by entry, in float64."""
    size = np.abs(x.astype(np.float64))
    if label == "half":
        return np.maximum(size * 2.0**-11, 2.0**-25)
    if label == "bfloat16":
        return np.maximum(size * 2.0**-8, 2.0**-134)
    if label == "int8":
        flat = size.reshape(-1)
        largest = [flat[start : start + BLOCK].max() for start in range(0, flat.size, BLOCK)]
        return np.maximum(np.repeat(largest, BLOCK)[: flat.size] / 253.9, 1.5e-36).reshape(x.shape)
    return np.zeros_like(size)


def assert_within_bound(label: str, x: Floats) -> None:
    error = np.abs(back(label, x).astype(np.float64) - x.astype(np.float64))
    assert (error <= bound_of(label, x)).all()


RANDOM = np.random.default_rng(7)
ADVERSARIAL = {
    "zeros": np.zeros((3, 70)),
    "minus zero": np.full((2, 3), -0.0),
    "single": np.array([1 / 3]),
    "single largest": np.array([FLOAT32_MAX]),
    "constant": np.full((5, 64), 0.1),
    "constant huge": np.full((2, 65), -FLOAT32_MAX),
    "smallest": np.full((2, 65), 2.0**-149),
    "subnormals": RANDOM.uniform(-(2.0**-126), 2.0**-126, (3, 100)),
    "just normal": np.full((70,), 2.0**-126),
    "below what a scale can be": RANDOM.uniform(-1, 1, (3, 64)) * 127 * 2.0**-126,
    "one huge among small": np.where(np.arange(128) == 5, FLOAT32_MAX, 2.0**-149),
    "every power of two": 2.0 ** np.arange(-149, 128),
    "just off the powers of two": np.nextafter((2.0 ** np.arange(-126, 128)).astype(np.float32), np.float32(0)),
    "ties of half": (1 + np.arange(64) * 2.0**-11),
    "ties of bfloat16": (1 + np.arange(64) * 2.0**-8) * np.where(np.arange(64) % 2, 1, -1),
    "ties of int8": np.append(np.arange(-63.5, 63.5), 127.0),
    "largest of bfloat16 and beyond": np.array(
        [BFLOAT16_MAX, np.nextafter(np.float32(BFLOAT16_MAX), np.float32("inf"))]
    ),
    "wide": RANDOM.choice([-1, 1], 640) * 2.0 ** RANDOM.uniform(-149, 127.9, 640),
}


@pytest.mark.parametrize("case", ADVERSARIAL)
@pytest.mark.parametrize("label", DENSE)
def test_an_adversary_finds_no_larger_error(label: str, case: str) -> None:
    x = ADVERSARIAL[case].astype(np.float32)
    assert_within_bound(label, np.clip(x, -HALF_MAX, HALF_MAX) if label == "half" else x)
    assert np.isfinite(back(label, x)).all()


@pytest.mark.parametrize("label", ["half", "bfloat16", "int8"])
def test_chance_finds_no_larger_error(label: str) -> None:
    @settings(max_examples=80, deadline=None)
    @given(tables(floats(HALF_MAX if label == "half" else None), shapes))
    def check(x: Floats) -> None:
        assert_within_bound(label, x)

    check()


@pytest.mark.parametrize("case", ADVERSARIAL)
@pytest.mark.parametrize("k", [1, 3, 200])
def test_top_k_stays_finite_and_within_its_bound_for_an_adversary(case: str, k: int) -> None:
    x = np.abs(np.atleast_2d(ADVERSARIAL[case])).astype(np.float32)
    decoded = back(f"top_k:{k}", x).astype(np.float64)
    assert np.isfinite(decoded).all()
    columns = x.shape[-1]
    for row, came in zip(x.astype(np.float64), decoded, strict=True):
        if row.sum() > HALF_MAX:
            continue  # clipped: no row of probabilities
        kept = np.argsort(-row, kind="stable")[:k]
        residual = row.sum() - row[kept].sum()
        slack = 2.0**-11 * row.sum() + 2.0**-24 * columns
        assert np.abs(came - row).sum() <= 2 * residual + slack
        assert (
            np.abs(came - row).max()
            <= max(row.min(), residual / max(columns - k, 1), np.sort(row)[::-1][k:].max(initial=0)) + slack
        )
        assert abs(came.sum() - row.sum()) <= slack


VALUES = [[1.0, -2.5, 0.1], [100.0, -1e-8, 70000.0]]
ROWS = [[0.5, 0.125, 0.25, 0.125], [0.1, 0.2, 0.3, 0.4]]
GOLDEN = {
    "raw": (VALUES, "0000803f000020c0cdcccc3d0000c84277cc2bb200b88847"),
    "half": (VALUES, "003c00c1662e40560080ff7b"),
    "bfloat16": (VALUES, "803f20c0cd3dc8422cb28947"),
    "int8": (VALUES, "97cb094400000000007f"),
    "top_k:2": (ROWS, "00380034cd34663600000200020003000034cd34"),
    "top_k": (ROWS, "0038003000340030662e6632cd3466360000010002000300000001000200030000000008"),
}


@pytest.mark.parametrize("label", GOLDEN)
def test_golden_arrays_stay_as_they_are_byte_for_byte(label: str) -> None:
    values, expected = GOLDEN[label]
    x = np.array(values, dtype=np.float32)
    encoding = encoding_of(label)
    assert encoding.encode(x).hex() == expected
    decoded = encoding.decode(memoryview(bytes.fromhex(expected)), x.shape)
    assert encoding.encode(decoded).hex() == expected or label.startswith("top_k")


def test_every_encoding_has_golden_bytes() -> None:
    assert {label.partition(":")[0] for label in GOLDEN} == set(ENCODINGS)


def test_what_can_be_written_to_is_used_in_place_and_what_cannot_is_copied() -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    raw = encoding_of("raw")
    ours = np.frombuffer(raw.encode(x), dtype=np.uint8).copy()
    assert np.shares_memory(raw.decode(ours.data, (2, 3)), ours)
    assert not np.shares_memory(raw.decode(ours.data.toreadonly(), (2, 3)), ours)
    shifted = np.empty(25, dtype=np.uint8)[1:]
    shifted[:] = ours
    decoded = raw.decode(shifted.data, (2, 3))
    assert not np.shares_memory(decoded, shifted)
    assert np.array_equal(decoded, x)
    for label in "half", "bfloat16", "int8":
        data = np.frombuffer(encoding_of(label).encode(x), dtype=np.uint8).copy()
        assert not np.shares_memory(encoding_of(label).decode(data.data, (2, 3)), data)


def test_half_clips_what_it_cannot_hold() -> None:
    x = np.array([65504, 65519, 65520, 1e30, -1e30], dtype=np.float32)
    assert back("half", x).tolist() == [HALF_MAX, HALF_MAX, HALF_MAX, HALF_MAX, -HALF_MAX]


@settings(max_examples=80, deadline=None)
@given(tables(st.floats(0, 1, width=32), rows), st.integers(1, 45))
def test_top_k_keeps_the_largest_and_the_sum_of_each_row(x: Floats, k: int) -> None:
    assume(x.sum(axis=-1).max() > 0)
    decoded = back(f"top_k:{k}", x).astype(np.float64)
    columns = x.shape[-1]
    for row, kept in zip(x.astype(np.float64).reshape(-1, columns), decoded.reshape(-1, columns), strict=True):
        order = np.sort(row)[::-1]
        residual = order[k:].sum()
        half_error = float(np.maximum(order[:k] * 2.0**-11, 2.0**-25).sum()) + 2.0**-11 * residual + 2.0**-24
        assert abs(kept.sum() - row.sum()) <= half_error + 1e-6
        assert np.abs(kept - row).sum() <= 2 * residual + 2 * half_error + 1e-6
        ties = row == row.max()  # of equal entries any may be the one that is kept
        assert kept[ties].max() >= row.max() * (1 - 2.0**-10) - 2.0**-24


def test_top_k_beyond_two_byte_indices() -> None:
    x = np.zeros((2, 70_000), dtype=np.float32)
    x[0, 69_999], x[1, 65_536] = 0.75, 1.0
    x[0, 1] = 0.25
    decoded = back("top_k:2", x)
    assert decoded[0, 69_999] == 0.75
    assert decoded[0, 1] == 0.25
    assert decoded[1, 65_536] == 1.0
    assert decoded.sum() == 2.0


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("columns", [2, 3, 100])
def test_a_value_that_is_not_finite_stays_for_the_receiver_to_refuse(label: str, odd: float, columns: int) -> None:
    x = np.full((4, columns), 0.25, dtype=np.float32)
    x[2, columns // 2] = odd
    assert not np.isfinite(back(label, x)[2]).all()
    assert np.isfinite(back(label, x)[0]).all() or label == "int8"


@pytest.mark.parametrize("label", LABELS)
def test_empty_arrays_travel(label: str) -> None:
    for shape in (0, 5), (3, 0, 5), (0, 1):
        assert back(label, np.zeros(shape, dtype=np.float32)).size == 0


@pytest.mark.parametrize("label", DENSE)
def test_a_scalar_travels(label: str) -> None:
    assert back(label, np.array(0.5, dtype=np.float32)) == pytest.approx(0.5, rel=1e-2)


@pytest.mark.parametrize("label", LABELS)
def test_a_view_that_is_not_contiguous_travels(label: str) -> None:
    x = np.arange(48, dtype=np.float32).reshape(6, 8)[::2, ::-2] / 64
    assert back(label, x) == pytest.approx(back(label, np.ascontiguousarray(x)))


@pytest.mark.parametrize("label", LABELS)
def test_another_size_than_the_shape_needs_is_refused(label: str) -> None:
    encoding = encoding_of(label)
    right = encoding.nbytes((3, 5))
    for size in {0, 1, right - 1, right + 1, 2 * right} - {right}:
        with pytest.raises(EncodingError, match="bytes for shape"):
            encoding.decode(memoryview(bytes(size)), (3, 5))


@pytest.mark.parametrize("label", LABELS)
def test_any_bytes_of_the_right_size_decode_or_are_refused(label: str) -> None:
    encoding = encoding_of(label)
    size = encoding.nbytes((3, 5))

    @settings(max_examples=60, deadline=None)
    @given(st.binary(min_size=size, max_size=size))
    def check(data: bytes) -> None:
        try:
            assert encoding.decode(memoryview(data), (3, 5)).shape == (3, 5)
        except EncodingError:
            assert label.startswith("top_k")

    check()


def test_an_index_beyond_the_row_is_refused() -> None:
    encoding = encoding_of("top_k:1")
    data = bytearray(encoding.encode(np.array([[0.5, 0.5]], dtype=np.float32)))
    data[2] = 2
    with pytest.raises(EncodingError, match="index 2 of 2 columns"):
        encoding.decode(memoryview(data), (1, 2))


@pytest.mark.parametrize(
    "label", ["", "RAW", "raw:1", "zip", "top_k:0", "top_k:-1", "top_k:1234567", "raw\n", "x" * 99]
)
def test_a_label_that_names_no_encoding_is_refused(label: str) -> None:
    with pytest.raises(EncodingError):
        encoding_of(label)


def test_top_k_has_no_rows_in_a_scalar() -> None:
    with pytest.raises(EncodingError, match="no rows"):
        encoding_of("top_k").encode(np.array(1.0, dtype=np.float32))


def test_the_table_holds_each_encoding_under_its_name() -> None:
    assert {name: encoding.name for name, encoding in ENCODINGS.items()} == {n: n for n in ENCODINGS}
    assert set(ENCODINGS) == {"raw", "half", "bfloat16", "int8", "top_k"}
