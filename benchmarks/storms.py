"""Ten thousand storms: how many, how often each kind of fault fired, and that no checker found anything.

    python -m benchmarks.storms --storms 10000 --jobs 2 --first-seed 0

Each storm's outcome is appended to a scratch file as soon as it is known, so that an interrupted run goes on where it
was; the summary is written to benchmarks/results/storms.md and storms.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterable
from multiprocessing import Pool
from pathlib import Path
from typing import Any

from benchmarks.kit.command import RESULTS
from benchmarks.kit.machine import circumstances, heading
from gossipdistill.sim.scenario import blow, replay_command, storm_of

SCRATCH = Path(".storms.jsonl")


def one(seed: int) -> dict[str, Any]:
    """One storm's outcome, as it is kept."""
    storm, began_s = storm_of(seed), time.process_time()
    try:
        outcome = blow(storm)
        violations, events, virtual_s = [str(v) for v in outcome.violations], outcome.events, outcome.virtual_s
        fired = dict(sorted(outcome.fired.items()))
    except Exception as error:  # to be reported with its seed, like any violation
        violations, events, virtual_s, fired = [f"an exception: {error!r}"], 0, 0.0, {}
    return {
        "seed": seed,
        "peers": storm.peers,
        "learner": storm.learner,
        "liar": bool(storm.byzantine),
        "closed": storm.closed,
        "kinds": sorted({str(fault["kind"]) for fault in storm.faults}),
        "events": events,
        "virtual_s": virtual_s,
        "cpu_s": round(time.process_time() - began_s, 3),
        "fired": fired,
        "violations": violations,
    }


def known(first: int, count: int) -> dict[int, dict[str, Any]]:
    """What an earlier run has left of these seeds."""
    if not SCRATCH.exists():
        return {}
    rows = (json.loads(line) for line in SCRATCH.read_text().splitlines() if line.endswith("}"))
    return {row["seed"]: row for row in rows if first <= row["seed"] < first + count}


def summary(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Counts over all storms."""
    rows = sorted(rows, key=lambda row: row["seed"])
    fired: Counter[str] = Counter()
    storms_with: Counter[str] = Counter()
    for row in rows:
        fired.update(row["fired"])
        storms_with.update(row["kinds"])
    peers = [row["peers"] for row in rows]
    return {
        "storms": len(rows),
        "first_seed": rows[0]["seed"],
        "failed": [row["seed"] for row in rows if row["violations"]],
        "peers": {"least": min(peers), "median": statistics.median(peers), "most": max(peers)},
        "above_64_peers": sum(count > 64 for count in peers),
        "learners": dict(sorted(Counter(row["learner"] for row in rows).items())),
        "with_a_liar": sum(row["liar"] for row in rows),
        "without_a_roster": sum(not row["closed"] for row in rows),
        "events": sum(row["events"] for row in rows),
        "virtual_hours": round(sum(row["virtual_s"] for row in rows) / 3600, 1),
        "cpu_s": round(sum(row["cpu_s"] for row in rows), 1),
        "storms_with": dict(storms_with.most_common()),
        "fired": dict(fired.most_common()),
    }


def written(found: dict[str, Any], about: dict[str, Any]) -> str:
    """The report."""
    lines = ["# Storms", "", *heading(about), ""]
    lines.append(
        f"{found['storms']} storms from seed {found['first_seed']} on, {found['peers']['least']} to "
        f"{found['peers']['most']} peers (median {found['peers']['median']:g}, {found['above_64_peers']} with "
        f"more than 64), {found['with_a_liar']} with a lying member, {found['without_a_roster']} without a roster: "
        f"{found['events']:,} events in {found['virtual_hours']:g} virtual hours, {found['cpu_s']:,.0f} CPU seconds. "
        f"**{len(found['failed'])} violations.**"
    )
    lines += [f"- seed {seed}: `{replay_command(seed)}`" for seed in found["failed"][:20]]
    lines += ["", "| fault | storms that have it | times it fired |", "| --- | ---: | ---: |"]
    for kind in sorted(set(found["fired"]) | set(found["storms_with"])):
        lines.append(f"| {kind} | {found['storms_with'].get(kind, '')} | {found['fired'].get(kind, 0):,} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Blow them; exit code 1 when a checker finds something."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storms", type=int, default=10_000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--fresh", action="store_true", help="forget what an earlier run has left")
    asked = parser.parse_args()
    about = circumstances("benchmarks.storms")
    if asked.fresh:
        SCRATCH.unlink(missing_ok=True)
    rows = known(asked.first_seed, asked.storms)
    missing = [seed for seed in range(asked.first_seed, asked.first_seed + asked.storms) if seed not in rows]
    missing.sort(key=lambda seed: -storm_of(seed).peers)  # the largest find most, and leave no job alone at the end
    with Pool(asked.jobs) as pool, SCRATCH.open("a") as scratch:
        for row in pool.imap_unordered(one, missing):
            rows[row["seed"]] = row
            scratch.write(json.dumps(row) + "\n")
            scratch.flush()
            if row["violations"]:
                print(f"seed {row['seed']}: {row['violations'][0]}\n  {replay_command(row['seed'])}", flush=True)
            if len(rows) % 100 == 0:
                print(f"{len(rows)} of {asked.storms}", flush=True)
    found = summary(rows.values())
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "storms.json").write_text(json.dumps(about | found, indent=1) + "\n")
    (RESULTS / "storms.md").write_text(written(found, about))
    print(written(found, about))
    return 1 if found["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
