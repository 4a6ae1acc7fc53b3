"""Decentralised SGD with momentum in its textbook forms, in float64: the yardstick of tests and of the table.

Symbols of Yuan et al. 2021 (2104.11981), section 3: x [n, d] models, m [n, d] momenta, W [n, n] symmetric and doubly
stochastic, gamma the learning rate, beta the momentum, g(x) [n, d] the gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]
Gradient = Callable[[Rows], Rows]
Step = Callable[[Rows, Rows, Rows, Gradient, float, float], tuple[Rows, Rows]]


def adapt_then_combine(x: Rows, m: Rows, w: Rows, g: Gradient, gamma: float, beta: float) -> tuple[Rows, Rows]:
    """m <- beta m + g;  x <- W (x - gamma m)."""
    m = beta * m + g(x)
    return w @ (x - gamma * m), m


def adapt_while_combining(x: Rows, m: Rows, w: Rows, g: Gradient, gamma: float, beta: float) -> tuple[Rows, Rows]:
    """m <- beta m + g;  x <- W x - gamma m."""
    m = beta * m + g(x)
    return w @ x - gamma * m, m


def decentlam(x: Rows, m: Rows, w: Rows, g: Gradient, gamma: float, beta: float) -> tuple[Rows, Rows]:
    """g~ = (x - W (x - gamma g)) / gamma;  m <- beta m + g~;  x <- x - gamma m."""
    m = beta * m + (x - w @ (x - gamma * g(x))) / gamma
    return x - gamma * m, m


FORMS: Mapping[str, Step] = {
    "adapt_then_combine": adapt_then_combine,
    "adapt_while_combining": adapt_while_combining,
    "decentlam": decentlam,
}
