"""`python -m experiments.mass.thinned`: without loss, but with as few exchanges as loss leaves. What does loss cost?

At 20 % loss and steps of 0.05 s a peer gets 1.30 exchanges a step instead of 1.99, since to resend a parcel takes
longer than a step. Here nothing is lost, and each exchange is left out with probability 1/2, which leaves 1.31.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np

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
    rows = [error(seed) for seed in range(SEEDS)]
    (calm,) = (
        one["calm"] for one in json.loads((RESULTS / "noise.json").read_text()) if one["step_time_s"] == STEP_TIME_S
    )
    write(rows, calm)


def write(rows: list[dict[str, float]], calm: list[float]) -> None:
    """thinned.json."""
    ratios = np.array([row["error"] for row in rows]) / np.array(calm)
    found = {
        "step_time_s": STEP_TIME_S, "kept": KEPT, "runs": rows, "ratio": float(ratios.mean()),
        "ratio_standard_error": float(ratios.std(ddof=1) / len(ratios) ** 0.5),
        "exchanges_per_step": float(np.mean([row["exchanges_per_step"] for row in rows])),
    }  # fmt: skip
    text = json.dumps(found, indent=1) + "\n"
    (RESULTS / "thinned.json").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
