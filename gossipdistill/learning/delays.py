"""Shorter steps while what neighbours send is older than usual.

The shared rule of the asynchronous strategies that mix weights. Assran, Aytekin, Feyzmahdavian, Johansson and Rabbat
2020 (2006.13838, a survey): with delays of at most tau a constant step must shrink like 1 / (L (1 + tau)). A step that
follows the delay as it is, instead of its bound, was proposed since: Koloskova, Stich and Jaggi 2022 (2206.08307) and
Mishchenko, Bach, Even and Woodworth 2022 (2206.07638) shorten a step in proportion to its delay where that is above
the average one, and keep it otherwise; Wu et al. 2022 (2202.08550) measure delays while they happen. Here:

    eta_k = eta min(1, 2 (1 + tau_avg) / (1 + tau_k))

tau_k is the number of my own steps since anything new of any neighbour came, and tau_avg its mean over all steps so
far: a steady rhythm, in which tau runs from 0 to T - 1 and is (T - 1) / 2 in the mean, changes no step, slow or quick.
One neighbour that is slow or dead shortens no step, as long as others send; nor does the silence of all beyond the
horizon, which is isolated training. No other peer's counter or clock is used.

The step is that of the owner's optimiser, of any kind; learning/step_scale.py scales it by eta_k / eta.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

REGULAR = 2.0
"""Delays of up to this many times the mean one are part of a rhythm."""


@dataclass(slots=True)
class Delays:
    """What one peer knows of its delays."""

    exchanges: int = 0
    heard_step: int = 0
    heard_s: float = 0.0
    looks: int = 0
    total: int = 0

    def factor(self, exchanges: int, step: int, now_s: float, horizon_s: float, horizon_steps: int) -> float:
        """eta_k / eta of own step `step`, after this number of `exchanges`; a horizon of 0 is none."""
        if exchanges > self.exchanges:
            self.exchanges, self.heard_step, self.heard_s = exchanges, step, now_s
        if not self.exchanges:
            return 1.0
        delay = step - self.heard_step
        if 0 < horizon_s <= now_s - self.heard_s or 0 < horizon_steps <= delay:
            return 1.0
        self.looks += 1
        self.total += delay
        return min(1.0, REGULAR * (1.0 + self.total / self.looks) / (1.0 + delay))

    def remember(self) -> dict[str, float]:
        """The part that a checkpoint keeps: the usual delay. The time of the last arrival is state of links, and is not
        kept."""
        return {"delay_looks": self.looks, "delay_total": self.total} if self.looks else {}

    def recall(self, memory: Mapping[str, object]) -> None:
        """The inverse; nothing where nothing was kept."""
        looks, total = memory.get("delay_looks", 0), memory.get("delay_total", 0)
        if isinstance(looks, int | float) and isinstance(total, int | float):
            self.looks, self.total = int(looks), int(total)
