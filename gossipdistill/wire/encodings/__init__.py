"""The table of array encodings. Adding one is a file of the shape of base.py and a line here.

On the wire an encoding is named by its `label`, its name and, for `top_k`, its k: `top_k:8`.
"""

from __future__ import annotations

import re

from gossipdistill.wire.encodings.base import Encoding, EncodingError, Floats, OutOfRange
from gossipdistill.wire.encodings.bfloat16 import BFloat16
from gossipdistill.wire.encodings.half import Half
from gossipdistill.wire.encodings.int8 import Int8
from gossipdistill.wire.encodings.raw import Raw
from gossipdistill.wire.encodings.top_k import TopK

ENCODINGS: dict[str, type[Encoding]] = {encoding.name: encoding for encoding in (Raw, Half, BFloat16, Int8, TopK)}

_LABEL = re.compile(r"([a-z0-9_]{1,16})(?::([0-9]{1,6}))?")


def encoding_of(label: str, dtype: str = "float32") -> Encoding:
    """The encoding that a label names, for entries of this type. Only `raw` holds others than float32.

    Raises:
        EncodingError: for a label that names none, or a type that it does not hold.
    """
    if label == Raw.name:
        return Raw(dtype)
    if dtype != "float32":
        raise EncodingError(f"{label[:40]!r} holds float32, not {dtype[:40]!r}")
    match = _LABEL.fullmatch(label)
    name, parameter = (match[1], match[2]) if match else ("", None)
    if name == TopK.name:
        k = int(parameter) if parameter is not None else 8
        if k < 1:
            raise EncodingError("top_k needs k >= 1")
        return TopK(k)
    if name not in ENCODINGS or parameter is not None:
        raise EncodingError(f"unknown encoding {label[:40]!r}")
    return ENCODINGS[name]()


__all__ = [
    "ENCODINGS",
    "BFloat16",
    "Encoding",
    "EncodingError",
    "Floats",
    "Half",
    "Int8",
    "OutOfRange",
    "Raw",
    "TopK",
    "encoding_of",
]
