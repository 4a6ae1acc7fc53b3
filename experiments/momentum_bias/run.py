"""The bias of momentum on unlike data: python -m experiments.momentum_bias.run [--report]"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from experiments.common import command
from experiments.common.cells import Cell, Key, fill, known
from experiments.momentum_bias.recursions import FORMS, Gradient, Rows
from gossipdistill.topology import load_topology, metropolis

HERE = Path(__file__).parent
PEERS, DIM, ROWS, GAMMA, STEPS = 8, 10, 50, 1e-3, 20_000
BETAS = (0.0, 0.5, 0.9, 0.95)


def least_squares(seed: int) -> tuple[Gradient, Rows]:
    """Gradients of 0.5 |A_i x - b_i|^2 / ROWS for every peer, each with its own solution, and the optimum [DIM]."""
    chance = np.random.default_rng(seed)
    a = chance.standard_normal((PEERS, ROWS, DIM))
    own = chance.standard_normal((PEERS, DIM))
    b = np.einsum("ird,id->ir", a, own) + 0.1 * chance.standard_normal((PEERS, ROWS))
    square = np.einsum("ird,ire->ide", a, a) / ROWS
    target = np.einsum("ird,ir->id", a, b) / ROWS
    return lambda x: np.einsum("ide,ie->id", square, x) - target, np.linalg.solve(square.sum(0), target.sum(0))


def bias(form: str, beta: float, seed: int) -> float:
    """Squared distance to the optimum, mean over peers, relative to that of the optimum from 0, after STEPS steps."""
    gradient, best = least_squares(seed)
    mixing = metropolis(load_topology("ring", tuple(f"p{place}" for place in range(PEERS))), 0)
    x, m = np.zeros((PEERS, DIM)), np.zeros((PEERS, DIM))
    for _ in range(STEPS):
        x, m = FORMS[form](x, m, mixing, gradient, GAMMA, beta)
    return float(((x - best) ** 2).sum(axis=1).mean() / (best**2).sum())


def run(key: Key) -> Cell:
    """The figure of a cell."""
    return {"bias": bias(key["form"], key["momentum"], 0)}


def main() -> None:
    """Write results/table.md."""
    asked, kept = command.begin(command.parser(__doc__, jobs=True)), HERE / "results" / "cells.jsonl"
    if not asked.report:
        fill(kept, ({"form": form, "momentum": beta} for beta in BETAS for form in FORMS), run, asked.jobs)
    found = {(cell["key"]["form"], cell["key"]["momentum"]): cell["bias"] for cell in known(kept)}
    plain = found["adapt_then_combine", 0.0]
    lines = [
        command.line(["momentum", *FORMS, *(f"{form} / SGD" for form in FORMS)]),
        "|" + " --- |" * (1 + 2 * len(FORMS)),
    ]
    for beta in BETAS:
        row = [found[form, beta] for form in FORMS]
        lines.append(command.line([f"{beta}", *(f"{v:.3g}" for v in row), *(f"{v / plain:.3g}" for v in row)]))
    command.write(HERE / "results" / "table.md", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
