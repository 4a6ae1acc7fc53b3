"""`SGD_C`: stochastic gradient descent that remembers its largest gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import torch
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from gossipdistill.optimizers.memory import Aggregation, Keep, options, recall_and_remember


@final
class SGD_C(Optimizer):  # noqa: N801 - the authors' name
    """Of parameters x with gradient g, and a = the gradient aggregated with the memory (`memory.py`):

        d = a + weight_decay x;   v <- momentum v + d (the first v is d);   x <- x - lr v

    McRae et al. 2021 (2106.10708). With `topc` = 0 it is torch's SGD. With `aggregation` = "sum", the
    authors' default, the step is about twice as long as SGD's: they advise SGD's lr or a tenth of it.

    Args:
        params: as torch's optimizers take them; every option below can be set per group.
        lr: learning rate.
        momentum: of v; 0 is none.
        weight_decay: added to the gradient, times the parameter.
        topc: how many gradients are remembered; each costs a model's memory.
        decay: factor of all priorities after each step.
        kappa: factor of what is remembered.
        aggregation: "sum", "mean" or "mid".
        keep: "largest", or "newest" for a first-in-first-out buffer, the control.
        whole_model: compare norms over all parameters, not of each parameter by itself.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        topc: int = 10,
        decay: float = 0.7,
        kappa: float = 1.0,
        aggregation: Aggregation = "sum",
        keep: Keep = "largest",
        whole_model: bool = True,
    ) -> None:
        if lr < 0.0 or momentum < 0.0 or weight_decay < 0.0:
            raise ValueError(f"lr = {lr}, momentum = {momentum}, weight_decay = {weight_decay}: none below 0")
        memory = options(topc, decay, kappa, aggregation, keep, whole_model)
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay} | memory)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; `closure` may compute the loss anew, with gradients, and is asked once."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        aggregated = recall_and_remember(self.param_groups, self.state)
        for group in self.param_groups:
            for p in group["params"]:
                if p not in aggregated:
                    continue
                d = aggregated[p]
                if group["weight_decay"]:
                    d = d.add(p, alpha=group["weight_decay"])
                if group["momentum"]:
                    state = self.state[p]
                    if "momentum_buffer" in state:
                        state["momentum_buffer"].mul_(group["momentum"]).add_(d)
                    else:
                        state["momentum_buffer"] = d.clone()
                    d = state["momentum_buffer"]
                p.add_(d, alpha=-group["lr"])
        return loss
