"""The small models of the ready-made image tasks. None has BatchNorm, whose running averages would be a second kind
of state for weight averaging to mix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import nn

from gossipdistill.errors import ConfigError, nearest


def mlp(inputs: int, classes: int, hidden: Sequence[int] = (64, 64)) -> nn.Sequential:
    """Fully connected layers with ReLU: images [rows, ...] of `inputs` pixels to logits [rows, classes].

    `mlp(64, 10)` has 8,970 parameters, `mlp(784, 10, (128, 128))` has 118,282.
    """
    return nn.Sequential(nn.Flatten(), *_connected((inputs, *hidden, classes)))


def cnn(
    side: int, classes: int, hidden: Sequence[int] = (), channels: tuple[int, int] = (16, 48), planes: int = 1
) -> nn.Sequential:
    """Two convolutions with ReLU, each halving the side, then fully connected layers with ReLU:
    images [rows, planes, side, side] to logits [rows, classes].

    From 16 pixels a side on, the first convolution halves by stepping over every second pixel instead of pooling:
    2.3 ms instead of 5 ms per training step of 32 rows of 28 x 28 (one thread).

    `cnn(8, 10)` has 9,050 parameters, `cnn(28, 10, (128,), (8, 16))` has 103,018.
    """
    first, second = channels
    strided = side >= 16
    halved: nn.Module = nn.Identity() if strided else nn.MaxPool2d(2)
    return nn.Sequential(
        nn.Conv2d(planes, first, kernel_size=3, stride=2 if strided else 1, padding=1),
        nn.ReLU(),
        halved,
        nn.Conv2d(first, second, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        *_connected((second * (side // 4) ** 2, *hidden, classes)),
    )


def _connected(widths: Sequence[int]) -> list[nn.Module]:
    """Linear layers from width to width, with ReLU between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return layers[:-1]


def _small_mlp(side: int, classes: int, hidden: Sequence[int] | None, planes: int) -> nn.Module:
    own = (64, 64) if side < 16 else (128, 128)
    return mlp(planes * side * side, classes, own if hidden is None else hidden)


def _small_cnn(side: int, classes: int, hidden: Sequence[int] | None, planes: int) -> nn.Module:
    own, channels = ((), (16, 48)) if side < 16 else ((128,), (8, 16) if planes == 1 else (32, 48))
    return cnn(side, classes, own if hidden is None else hidden, channels, planes)


MODELS: dict[str, Callable[[int, int, Sequence[int] | None, int], nn.Module]] = {"mlp": _small_mlp, "cnn": _small_cnn}
"""This maps a name to a builder from (pixels a side, classes, hidden widths or None for the model's own, planes of
colour)."""


def image_model(
    name: str, side: int, classes: int, hidden: Sequence[int] | None = None, planes: int = 1
) -> Callable[[], nn.Module]:
    """A function that builds the model `name` for images [rows, planes, side, side], as a task needs it.

    Args:
        name: a key of `MODELS`.
        side: pixels a side.
        classes: number of classes.
        hidden: widths of the hidden fully connected layers (those after the convolutions, in a CNN); None takes the
            model's own.
        planes: 1 of grey, 3 of colours.
    """
    if name not in MODELS:
        raise ConfigError(
            f"no such model; {nearest(name, MODELS)}", key="task.model", value=name, accepted=", ".join(MODELS)
        )
    if hidden is not None and min(hidden, default=1) < 1:
        raise ConfigError("a layer needs a width of at least 1", key="task.hidden", value=tuple(hidden))
    build = MODELS[name]
    return lambda: build(side, classes, hidden, planes)
