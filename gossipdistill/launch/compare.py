"""Several strategies on the same data and budget: one run each, one after another, and one table."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gossipdistill.errors import ConfigError, nearest
from gossipdistill.launch.local import LocalRun, Watch
from gossipdistill.launch.plan import Asked, new_run_folder, plan_local
from gossipdistill.launch.run_config import Layer, resolve
from gossipdistill.launch.spec import WorkerSpec
from gossipdistill.roster import load_roster
from gossipdistill.strategies import STRATEGIES, strategy_of

POOLED = "pooled"
"""The reference row: one worker on the union of the shards, with n times the batch."""

_MODEL_KEYS = ("task.model", "task.hidden")

Announce = Callable[[str], Watch]
"""Called with the title of each run; returns who watches it."""


@dataclass
class Comparison:
    """Runs `strategies` x `seeds`. `summary` is the object that is written to `compare.json`."""

    asked: Asked
    strategies: Sequence[str]
    seeds: Sequence[int]
    announce: Announce
    summary: dict[str, Any] = field(default_factory=dict)

    def run(self) -> int:
        """All runs; returns the largest exit code, or that of the first run that was interrupted."""
        for name in self.strategies:
            if name != POOLED:
                check_name(name)
        common = resolve(self.asked.layers())
        folder = new_run_folder(self.asked.out, f"{common.config.name}-compare")
        rows: list[dict[str, Any]] = []
        worst = 0
        for seed in self.seeds:
            for name in self.strategies:
                code, row = self._one(name, seed, folder)
                rows.append(row)
                worst = max(worst, code)
                if code > 127:
                    break
            else:
                continue
            break
        self.summary = {
            "schema": 1,
            "name": folder.name,
            "task": common.config.task.name,
            "budget": {"steps": common.config.steps, "seconds": common.config.seconds},
            "step_time_s": common.config.train.step_time_s,
            "config": common.as_json(),
            "peers": rows[0]["peers"] if rows else 0,
            "seeds": list(self.seeds),
            "runs": rows,
            "exit_code": worst,
        }
        (folder / "compare.json").write_text(json.dumps(self.summary, indent=1) + "\n")
        return worst

    def _one(self, name: str, seed: int, folder: Path) -> tuple[int, dict[str, Any]]:
        strategy = "isolated" if name == POOLED else name
        values: dict[str, object] = {
            "strategy.name": strategy,
            "seed": seed,
            "name": f"{name.replace('_', '-')}-s{seed}",
        }
        alike = strategy_of(strategy).needs.alike_models or name == POOLED
        asked = replace(self.asked, out=folder, strategy=None)
        if name == "all_reduce":
            # The file lies in the run's own folder, so it is new for each run.
            values["strategy.rendezvous"] = (folder / f"rendezvous-s{seed}").resolve().as_uri()
        extra = [Layer("compare", values)]
        if alike:
            extra.insert(0, Layer("compare: one architecture", self._first_model(extra)))
        specs = plan_local(_without_strategy_options(asked, strategy), extra, _MODEL_KEYS if alike else ())
        if name == POOLED:
            specs = [_pooled(specs)]
        run_folder = specs[0].folder.parent
        run = LocalRun(specs, run_folder, self.announce(f"{name}, seed {seed}"))
        code = run.run()
        return code, self._row(name, seed, run.summary, specs, alike)

    def _first_model(self, extra: Sequence[Layer]) -> dict[str, object]:
        """The model of the first peer, for strategies that need one architecture."""
        common = resolve([*self.asked.layers(), *extra])
        roster = load_roster(common.config.peers, self.asked.base_of(common, "peers"))
        return {key: value for key, value in roster.peer[0].set.items() if key in _MODEL_KEYS}

    def _row(
        self, name: str, seed: int, summary: dict[str, Any], specs: Sequence[WorkerSpec], alike: bool
    ) -> dict[str, Any]:
        peers = summary["peers"]
        finished = [peer for peer in peers if peer["status"] == "finished"]
        models = [str(spec.config.task_options().get("model", "")) for spec in specs]
        sent = [peer["bytes_sent"] for peer in finished if peer["bytes_sent"] is not None]
        cpu = [peer["cpu_s_per_step"] for peer in finished if peer["cpu_s_per_step"] is not None]
        return {
            "strategy": name,
            "seed": seed,
            "run": summary["name"],
            "exit_code": summary["exit_code"],
            "peers": len(peers),
            "finished": len(finished),
            "models": models,
            "alike": alike,
            "val_accuracy": summary["val_accuracy"],
            "val_loss": _mean([peer["val_loss"] for peer in finished if peer["val_loss"] is not None]),
            "bytes_sent_per_peer": _mean(sent),
            "bytes_are_computed": any(peer.get("bytes_are_computed") for peer in finished),
            "cpu_s_per_step": _mean(cpu),
            "steps": _mean([peer["steps"] for peer in finished]),
            "wall_s": summary["wall_s"],
        }


def check_name(name: str) -> None:
    """Refuse a name that `compare --strategies` does not know."""
    known = [*STRATEGIES, POOLED]
    if name not in known:
        raise ConfigError(f"unknown strategy; {nearest(name, known)}", key="--strategies", value=name)


def _without_strategy_options(asked: Asked, strategy: str) -> Asked:
    """Options such as strategy.weight are meant for the strategies that have them; the others are spared."""
    known = {f"strategy.{option}" for option in strategy_of(strategy).options_type.model_fields}
    kept = tuple(
        setting
        for setting in asked.settings
        if not setting.startswith("strategy.") or setting.partition("=")[0].strip() in known
    )
    return replace(asked, settings=kept)


def _pooled(specs: Sequence[WorkerSpec]) -> WorkerSpec:
    first = specs[0]
    return replace(first, names=(first.name,), addresses=(first.listen,), pooled=True, slowdown=1.0, threads=None)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
