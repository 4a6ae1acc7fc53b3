"""The table and the plot of the membership attacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from experiments.common import command
from experiments.common.spread import mean_and_error

Runs = list[dict[str, Any]]
ATTACKS = ("loss", "calibrated")
SEEDS_MIN = 3


def write(runs: Runs, folder: Path) -> None:
    """table.md and membership.png."""
    settings = sorted({(run["task"], run["regime"]) for run in runs}, key=lambda one: (one[0], one[1] != "usual"))
    text = "\n".join(line for setting in settings for line in _table(of(runs, *setting), *setting))
    command.write(folder / "table.md", text)
    _plot(runs, settings, folder / "membership.png")


def of(runs: Runs, task: str, regime: str) -> dict[str, Runs]:
    """What is sent -> its runs, in the order of the seeds, where there are enough of them."""
    mine = sorted((run for run in runs if (run["task"], run["regime"]) == (task, regime)), key=lambda run: run["seed"])
    names = sorted(dict.fromkeys(run["sent"] for run in mine), key=_place)
    found = {name: [run for run in mine if run["sent"] == name] for name in names}
    return {name: own for name, own in found.items() if len(own) >= SEEDS_MIN}


def _place(name: str) -> tuple[bool, bool, str]:
    """Nothing, weights, predictions on other inputs, predictions on its own; the whole before its parts."""
    return ("inputs" in name, "with its examples" in name, "" if ": whole" in name or ":" not in name else name)


def _table(found: dict[str, Runs], task: str, regime: str) -> list[str]:
    seeds = len(next(iter(found.values())))
    lines = [
        f"**{task}, {regime}** ({seeds} seeds, standard errors; of a coin AUC is 0.5, and 1 % are found):",
        "",
        "| sent | accuracy % | AUC, loss | found at 1 %, loss | AUC, calibrated | found at 1 %, calibrated "
        "| AUC, loss, had its weights been sent |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, runs in found.items():
        cells = [name, "{:.1f} ({:.1f})".format(*mean_and_error([run["accuracy"] for run in runs]))]
        for attack in ATTACKS:
            if attack in runs[0]:
                auc, found_at = ([run[attack][place] for run in runs] for place in (0, 1))
                cells.append("{:.3f} ({:.3f})".format(*mean_and_error(auc)))
                cells.append("{:.1f} % ({:.1f})".format(*mean_and_error([100 * share for share in found_at])))
            else:
                cells += ["-", "-"]
        known = [run["weights"][0] for run in runs if "weights" in run]
        cells.append("{:.3f} ({:.3f})".format(*mean_and_error(known)) if known else "-")
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def _plot(runs: Runs, settings: list[tuple[str, str]], path: Path) -> None:
    """The better of the two attacks by AUC, one panel for each task."""
    tasks = list(dict.fromkeys(task for task, _ in settings))
    every = [name for setting in settings for name in of(runs, *setting)]
    names = sorted((name for name in dict.fromkeys(every) if name != "nothing"), key=_place)
    figure, panels = plt.subplots(
        1, len(tasks), figsize=(12, 0.42 * len(names) + 1.6), sharey=True, layout="constrained"
    )
    for panel, task in zip(panels, tasks, strict=True):
        regimes = [regime for one, regime in settings if one == task]
        for number, regime in enumerate(regimes):
            found = of(runs, task, regime)
            for place, name in enumerate(names):
                if name in found:
                    mean, error = max(mean_and_error([run[attack][0] for run in found[name]]) for attack in ATTACKS)
                    where = place + 0.19 * (2 * number - 1)
                    label = regime if place == 0 else None
                    panel.barh(where, mean - 0.5, 0.36, left=0.5, xerr=error, color=f"C{number}", label=label)
        panel.axvline(0.5, color="black", linewidth=0.8)
        panel.set_title(task)
        panel.set_xlabel("AUC of the better attack (0.5: a coin)")
        panel.set_yticks(range(len(names)), names)
        panel.set_xlim(0.48, 1.0)
        panel.grid(axis="x", alpha=0.3)
        panel.set_axisbelow(True)
    panels[0].invert_yaxis()
    panels[0].legend(loc="lower right")
    figure.savefig(path, dpi=110)
    plt.close(figure)
