"""Was this example among those that a peer trained on? Attacks on what it sends, and how good they are.

Notation: candidates [n] with labels y, p [n, C] what is known of the victim's predictions for them.

- *loss*: the lower -log p_y, the more likely a member (Yeom et al. 2018, 1709.01604, section 3.2).
- *calibrated*: how far the logit log p_y / (1 - p_y) is above its mean over shadow models that were trained by the
  attacker and never saw the candidate: the offline attack of Carlini et al. 2022 (2112.03570, section V) with one
  variance for all candidates, with few shadow models.

Both need the label, and data like the victim's for the shadow models: an attacker who has much.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax

PROBABILITY_MIN = 1e-7
Scores = npt.NDArray[np.float64]


def loss_score(p: Tensor, y: Tensor) -> Tensor:
    """log p_y [n]: higher for members."""
    return _of_label(p, y).log()


def logit(p: Tensor, y: Tensor) -> Tensor:
    """log p_y / (1 - p_y) [n]."""
    of_label = _of_label(p, y)
    return of_label.log() - (1.0 - of_label).clamp_min(PROBABILITY_MIN).log()


def calibrated_score(p: Tensor, y: Tensor, shadows: list[Tensor], saw: list[Tensor]) -> Tensor:
    """The logit less its mean over the shadows [n, C] that did not train on the candidate; `saw` [n] says who did."""
    logits = torch.stack([logit(shadow, y) for shadow in shadows])
    out = (~torch.stack(saw)).double()
    return logit(p, y) - (logits * out).sum(dim=0) / out.sum(dim=0)


def area(members: Scores, others: Scores) -> float:
    """Area under the ROC curve: how often a member's score is above another's; ties count half."""
    falling_false, rising_true = roc(members, others)
    return float(np.trapezoid(rising_true, falling_false))


def true_positives_at(rate: float, members: Scores, others: Scores) -> float:
    """The share of members that is found where a share `rate` of the others is accused; between two thresholds one
    tosses a coin."""
    false, true = roc(members, others)
    last = np.searchsorted(false, rate, side="right") - 1
    if last + 1 == len(false):
        return float(true[-1])
    share = (rate - false[last]) / (false[last + 1] - false[last])
    return float(true[last] + share * (true[last + 1] - true[last]))


def roc(members: Scores, others: Scores) -> tuple[Scores, Scores]:
    """(share of the others, share of the members) with a score of at least t, for each t from the largest on."""
    thresholds = np.unique(np.concatenate([members, others]))[::-1]
    shares = [1.0 - np.searchsorted(np.sort(part), thresholds, side="left") / len(part) for part in (others, members)]
    return np.concatenate([[0.0], shares[0]]), np.concatenate([[0.0], shares[1]])


def student_of(make: Callable[[], nn.Module], inputs: Tensor, told: Tensor, seed: int, steps: int = 300) -> nn.Module:
    """A model that says about `inputs` [N, ...] what the victim told [N, C]: a way to ask about other inputs."""
    torch.manual_seed(seed)
    model = make()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        rows = torch.randint(len(inputs), (128,), generator=generator)
        optimizer.zero_grad()
        cross_entropy(model(inputs[rows]), told[rows]).backward()
        optimizer.step()
    return model


def predictions(model: nn.Module, inputs: Tensor) -> Tensor:
    """softmax [n, C] in evaluation mode."""
    model.eval()
    with torch.no_grad():
        return log_softmax(model(inputs), dim=1).exp()


def _of_label(p: Tensor, y: Tensor) -> Tensor:
    return p.double().gather(1, y[:, None])[:, 0].clamp(PROBABILITY_MIN, 1.0)
