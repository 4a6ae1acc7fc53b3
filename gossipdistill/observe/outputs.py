"""The outputs of the peers for the validation set, and the accuracy of their ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load

from gossipdistill.files import UnusableError, read_bytes

OUTPUTS_FILE = "validation.safetensors"
OUTPUTS_BYTES_MAX = 4 * 1024**3


def read_outputs(path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """(outputs [V, ...], labels [V, ...]) of a `validation.safetensors`.

    Raises:
        UnusableError: when the file is missing or has other content.
    """
    content = read_bytes(path, OUTPUTS_BYTES_MAX)
    try:
        held = load(content)
        return held["outputs"].astype(np.float64), held["labels"]
    except KeyError as error:
        raise UnusableError(f"holds no {error.args[0]!r}") from None
    except Exception as error:  # any error of the library's parser: the file is invalid
        raise UnusableError(f"is no safetensors file ({type(error).__name__}: {error})") from None


def ensemble_accuracy(folder: Path, names: Sequence[str]) -> tuple[float | None, dict[str, str]]:
    """The accuracy of the mean of the peers' class probabilities [V, C], None if it is undefined; and the problem with
    each unusable file, by peer's name."""
    total: npt.NDArray[Any] | None = None
    labels: npt.NDArray[Any] | None = None
    problems: dict[str, str] = {}
    meaningful = True
    for name in names:
        try:
            logits, mine = read_outputs(folder / name / OUTPUTS_FILE)
        except UnusableError as reason:
            problems |= {} if reason.missing else {name: f"{OUTPUTS_FILE} {reason}; the ensemble is left out"}
            meaningful = False
            continue
        if logits.ndim != 2 or mine.ndim != 1 or mine.dtype.kind not in "iu" or not np.isfinite(logits).all():
            meaningful = False
            continue
        if len(mine) != len(logits) or (total is not None and logits.shape != total.shape) or not logits.size:
            problems[name] = f"{OUTPUTS_FILE} holds outputs {list(logits.shape)} for labels {list(mine.shape)}"
            meaningful = False
            continue
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = shifted / shifted.sum(axis=1, keepdims=True)
        total = probabilities if total is None else total + probabilities
        labels = mine
    if total is None or labels is None or not meaningful:
        return None, problems
    return round(float((total.argmax(axis=1) == labels).mean()), 6), problems
