"""`Adam_C`: Adam that remembers its largest gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import torch
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from gossipdistill.optimizers.memory import Aggregation, Keep, options, recall_and_remember


@final
class Adam_C(Optimizer):  # noqa: N801 - the authors' name
    """Of parameters x with gradient g, and a = the gradient aggregated with the memory (`memory.py`):

        d = a + weight_decay x
        m <- b1 m + (1 - b1) d;   v <- b2 v + (1 - b2) d^2;   x <- x - lr m' / (sqrt(v') + eps)

    with m' = m / (1 - b1^k) and v' = v / (1 - b2^k) at step k from 1. McRae et al. 2021 (2106.10708), on Kingma and Ba
    2015 (1412.6980), algorithm 1. With `topc` = 0 it is torch's Adam.

    Adam divides by the size of d, so that a constant factor of a cancels, up to `eps` and `weight_decay`: "sum" is
    twice "mid", and both step alike, about as far as Adam. What does not cancel is the mixture. With kappa = 1, "sum"
    and "mid" give today's gradient as much weight as the mean of the memory; "mean" gives it that of one of |C| + 1,
    and may step the other way. So "mean" is another method, and needs its own learning rate. In the authors' code
    "mean" is the default of Adam_C, and "sum" that of SGD_C; here it is "sum" for both.

    Args:
        params: as torch's optimizers take them; every option below can be set per group.
        lr: learning rate.
        betas: (b1, b2).
        eps: added to the root.
        weight_decay: times the parameter, added to a (not decoupled, not remembered); beside "sum" it weighs half as
            much as beside "mid".
        topc: how many gradients are remembered; each costs a model's memory.
        decay: factor of all priorities after each step.
        kappa: factor of what is remembered.
        aggregation: "sum", "mean" or "mid". "sum" and "mid" differ little; "mean" is as above.
        keep: "largest", or "newest" for a first-in-first-out buffer, the control.
        whole_model: compare norms over all parameters, not of each parameter by itself.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        topc: int = 10,
        decay: float = 0.7,
        kappa: float = 1.0,
        aggregation: Aggregation = "sum",
        keep: Keep = "largest",
        whole_model: bool = True,
    ) -> None:
        if lr < 0.0 or eps < 0.0 or weight_decay < 0.0:
            raise ValueError(f"lr = {lr}, eps = {eps}, weight_decay = {weight_decay}: none below 0")
        if not all(0.0 <= beta < 1.0 for beta in betas):
            raise ValueError(f"betas = {betas}: each from 0 to less than 1")
        memory = options(topc, decay, kappa, aggregation, keep, whole_model)
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay} | memory)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; `closure` may compute the loss anew, with gradients, and is asked once."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        aggregated = recall_and_remember(self.param_groups, self.state)
        for group in self.param_groups:
            b1, b2 = group["betas"]
            for p in group["params"]:
                if p not in aggregated:
                    continue
                d = aggregated[p]
                if group["weight_decay"]:
                    d = d.add(p, alpha=group["weight_decay"])
                state = self.state[p]
                if "exp_avg" not in state:
                    state["steps"], state["exp_avg"], state["exp_avg_sq"] = 0, torch.zeros_like(p), torch.zeros_like(p)
                state["steps"] += 1
                mean, square = state["exp_avg"], state["exp_avg_sq"]
                mean.lerp_(d, 1 - b1)
                square.mul_(b2).addcmul_(d, d, value=1 - b2)
                root = (square.sqrt() / (1 - b2 ** state["steps"]) ** 0.5).add_(group["eps"])
                p.addcdiv_(mean, root, value=-group["lr"] / (1 - b1 ** state["steps"]))
        return loss
