"""What does loss cost? A run without loss, but with as few exchanges as loss leaves.

    python -m experiments.mass.thinned [--report]

At 20 % loss and steps of 0.05 s a peer gets 1.30 exchanges a step instead of 1.99, since to resend a parcel takes
longer than a step. Here nothing is lost, and each exchange is left out with probability 1/2, which leaves 1.31.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from experiments.common import command
from experiments.common.spread import mean_and_error
from experiments.mass import noise
from gossipdistill.learning.cadence import Cadence

RESULTS = Path(__file__).parent / "results"
STEP_TIME_S, KEPT = noise.STEP_TIMES_S[0], 0.5
SEEDS = 3


def error(seed: int) -> dict[str, float]:
    """As `noise.error` without loss; of the exchanges that are due a share `KEPT` takes place."""
    chance = np.random.default_rng(seed)

    @dataclass(slots=True)
    class Sparse(Cadence):
        def due(self, step: int, now: float) -> bool:
            return Cadence.due(self, step, now) and bool(chance.random() < KEPT)

    with mock.patch.object(noise, "Cadence", Sparse):
        return noise.error(STEP_TIME_S, 0.0, seed)


def main() -> None:
    """All seeds; the ratio is to the runs without loss in noise.json."""
    asked, path = command.begin(command.parser(__doc__)), RESULTS / "thinned.json"
    rows = json.loads(path.read_text())["runs"] if asked.report else [error(seed) for seed in range(SEEDS)]
    (calm,) = (
        one["calm"] for one in json.loads((RESULTS / "noise.json").read_text()) if one["step_time_s"] == STEP_TIME_S
    )
    command.write(path, json.dumps(figures(rows, calm), indent=1) + "\n")


def figures(rows: list[dict[str, float]], calm: list[float]) -> dict[str, Any]:
    """The runs, and what they come to beside the `calm` ones."""
    ratios = [row["error"] / other for row, other in zip(rows, calm, strict=True)]
    ratio, standard_error = mean_and_error(ratios)
    return {
        "step_time_s": STEP_TIME_S,
        "kept": KEPT,
        "runs": rows,
        "ratio": ratio,
        "ratio_standard_error": standard_error,
        "exchanges_per_step": float(np.mean([row["exchanges_per_step"] for row in rows])),
    }


if __name__ == "__main__":
    main()
