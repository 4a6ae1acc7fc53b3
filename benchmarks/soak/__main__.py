"""Does anything wear out? Six workers, and one after another is killed at random moments and started again.

python -m benchmarks.soak [--kills 500] [--seconds 3600] [--seed 0] [--undisturbed 3] [--name soak] [--out FOLDER]
python -m benchmarks.soak --short            60 kills in ten minutes, at most two of six down at a time
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.kit import command
from benchmarks.kit.launcher import end_tidily_on_signals
from benchmarks.kit.machine import circumstances, heading
from benchmarks.kit.verdict import Verdict
from benchmarks.kit.witness import MIB, Contents, left_behind, slope
from benchmarks.soak.cycles import PEERS, STEP_TIME_S, Seen, soak, undisturbed

WEIGHT_SHARE_MIN, WEIGHT_SHARE_MAX, WEIGHT_MIN = 1 / 3, 3.0, 1e-3
"""Of the living: their push-sum weights add up to this times their number; and the least that one may hold."""
RESIDENT_MIB_PER_HOUR_MAX = 1.0
JUDGED_FROM_S, JUDGED_FROM_SHARE = 240.0, 1 / 6
"""Memory and files are looked at from here on, the later of both."""
LONG_S = 2700.0
"""Shorter stretches have a bound on the growth itself: over ten minutes one page more than usual is some MiB/h."""
GROWTH_MIB_MAX = 1.0
ACCURACY_MARGIN = 0.005
"""Half a point, or three standard deviations of the undisturbed runs where that is more."""
OTHER_BYTES_MARGIN = 1.05
LOG_BYTES_PER_KILL_MAX = 16 * 1024
SHORT_DOWN_MAX = 2
"""Where most are dead, most of the weight is on its way to them."""


class Accuracies(NamedTuple):
    """Means over the peers: of the run with kills, and of each undisturbed one."""

    killed: float
    undisturbed: list[float]

    @property
    def apart(self) -> float:
        """Killed minus undisturbed."""
        return self.killed - statistics.fmean(self.undisturbed)

    @property
    def margin(self) -> float:
        """What counts as noise."""
        return max(ACCURACY_MARGIN, 3 * statistics.stdev(self.undisturbed) if len(self.undisturbed) > 1 else 0.0)


def accuracy(results: dict[str, dict[str, Any]]) -> float:
    """Mean over the peers of the validation accuracy; NaN if one has none."""
    found = [result.get("val_accuracy") for result in results.values()]
    return statistics.fmean([float("nan") if value is None else value for value in found] or [float("nan")])


def judged_from_s(seconds: float) -> float:
    """When the warm-up is over."""
    return max(JUDGED_FROM_S, JUDGED_FROM_SHARE * seconds)


def verdicts(seen: Seen, found: Accuracies | None, orphans: Sequence[str]) -> list[Verdict]:
    """What is to hold, and whether it does."""
    judged = [*_resumed(seen), *_weights(seen), *_resources(seen)]
    if found is not None:
        text = f"{100 * found.apart:+.2f} points; noise {100 * found.margin:.2f}"
        name = f"accuracy as in {len(found.undisturbed)} runs without kills, same seed and steps"
        judged.append(Verdict(name, text, abs(found.apart) <= found.margin))
    judged.append(Verdict("processes left behind: none", "; ".join(orphans) or "none", not orphans))
    return judged


def _resumed(seen: Seen) -> list[Verdict]:
    back = [cycle for cycle in seen.cycles if cycle.resumed is not None]
    wrong = [cycle for cycle in back if cycle.resumed != (cycle.on_disk or 0)]
    bare = sum(cycle.on_disk is None for cycle in back)
    again = sum(cycle.starting for cycle in seen.cycles)
    refused = seen.told.get("checkpoint_refused", 0)
    text = f"{len(back) - len(wrong)} of {len(back)} ({again} kills met one that was still starting; {bare} had none)"
    first = seen.unplanned[0].splitlines()[0] if seen.unplanned else ""
    finished = sum(result.get("status") == "finished" for result in seen.results.values())
    return [
        Verdict("whoever starts again resumes from the newest checkpoint on its disk", text, not wrong),
        Verdict("checkpoints refused as torn: none", str(refused), not refused),
        Verdict(
            "each kill is followed by a start that becomes ready, or is killed itself",
            f"{len(seen.cycles)} kills, {len(back)} ready, {again} killed while starting",
            len(back) + again == len(seen.cycles),
        ),
        Verdict("nobody ends but by a kill", f"{len(seen.unplanned)} did {first}".strip(), not seen.unplanned),
        Verdict("all finish", f"{finished} of {PEERS}", finished == PEERS),
    ]


def _weights(seen: Seen) -> list[Verdict]:
    shares = [sum(held.values()) / len(held) for _, held in seen.weights if held]
    least = min((min(held.values()) for _, held in seen.weights if held), default=0.0)
    low, high = min(shares, default=0.0), max(shares, default=0.0)
    outside = [
        len(held)
        for _, held in seen.weights
        if held and not WEIGHT_SHARE_MIN <= sum(held.values()) / len(held) <= WEIGHT_SHARE_MAX
    ]
    where = f"; {len(outside)} outside, with at most {max(outside)} of {PEERS} living" if outside else ""
    return [
        Verdict(
            f"push-sum weights of the n living add up to {WEIGHT_SHARE_MIN:.2f} n to {WEIGHT_SHARE_MAX:.0f} n",
            f"{low:.2f} n to {high:.2f} n in {len(shares)} looks{where}",
            not outside,
        ),
        Verdict(f"each holds at least {WEIGHT_MIN:g}", f"{least:.3g}", least >= WEIGHT_MIN),
    ]


def _resources(seen: Seen) -> list[Verdict]:
    from_s = judged_from_s(seen.seconds)
    usages = [one for one in seen.usages if one.at_s >= from_s]
    folders = [one for one in seen.folders if from_s <= one.at_s]
    if len(usages) < 4 or len(folders) < 4:
        return [Verdict("memory and files", "too short a run", None)]
    line = slope([(one.at_s, one.resident_bytes / MIB) for one in usages])
    assert line is not None
    span_s = usages[-1].at_s - usages[0].at_s
    grown = line.per_hour * span_s / 3600
    text = f"{line.per_hour:+.2f} +- {line.error:.2f} MiB/h ({grown:+.2f} MiB in {span_s / 60:.0f} minutes)"
    long = span_s >= LONG_S
    bound = f"{RESIDENT_MIB_PER_HOUR_MAX:g} MiB/h" if long else f"{GROWTH_MIB_MAX:g} MiB over the run"
    small = line.per_hour < RESIDENT_MIB_PER_HOUR_MAX if long else grown < GROWTH_MIB_MAX
    half = len(usages) // 2
    descriptors = [max(one.descriptors for one in part) for part in (usages[:half], usages[half:])]
    threads = [max(one.threads for one in part) for part in (usages[:half], usages[half:])]
    return [
        Verdict(f"resident memory of the one that is never killed grows by less than {bound}", text, small),
        Verdict(
            "its descriptors and threads: no more in the second half than in the first",
            f"descriptors {descriptors[0]} and {descriptors[1]}, threads {threads[0]} and {threads[1]}",
            descriptors[1] <= descriptors[0] + 2 and threads[1] <= threads[0],
        ),
        *_folders(folders, len(seen.cycles)),
    ]


def _folders(folders: Sequence[Contents], kills: int) -> list[Verdict]:
    half = len(folders) // 2
    files = [max(one.files for one in part) for part in (folders[:half], folders[half:])]
    others = [max(one.other_bytes for one in part) for part in (folders[:half], folders[half:])]
    per_kill = folders[-1].log_bytes / max(kills, 1)
    return [
        Verdict(
            "files of the run: no more in the second half than in the first (but two unfinished ones each)",
            f"{files[0]} and {files[1]}",
            files[1] <= files[0] + 2 * PEERS,
        ),
        Verdict(
            "their bytes, without logs",
            f"{others[0] / MIB:.2f} and {others[1] / MIB:.2f} MiB",
            others[1] <= OTHER_BYTES_MARGIN * others[0],
        ),
        Verdict(
            f"lines of logs, all peers together: at most {LOG_BYTES_PER_KILL_MAX // 1024} KiB for each kill",
            f"{per_kill / 1024:.1f} KiB",
            per_kill <= LOG_BYTES_PER_KILL_MAX,
        ),
    ]


def report(about: dict[str, Any], seen: Seen, found: Accuracies | None, judged: Sequence[Verdict]) -> list[str]:
    """The report in markdown."""
    waits = sorted(cycle.ready_after_s for cycle in seen.cycles if cycle.ready_after_s is not None)
    ready = f"{statistics.median(waits):.1f} s (longest {waits[-1]:.1f} s)" if waits else "-"
    per_peer = {name: sum(cycle.peer == name for cycle in seen.cycles) for name in sorted(seen.results)}
    from_s = judged_from_s(seen.seconds)
    lines = [
        "# Does anything wear out?",
        "",
        *heading(about),
        "",
        f"{PEERS} processes on digits (MLP 64-64-10, label skew, 100 examples each), push-sum of weights (sgp) on the "
        f"one-peer exponential schedule, steps padded to {1000 * STEP_TIME_S:.0f} ms, an exchange every 10 steps, a "
        f"checkpoint every second. {len(seen.cycles)} times in {seen.seconds / 60:.0f} minutes one of the first five "
        "gets SIGKILL at a random moment, whatever it is doing (starting, training, writing a checkpoint), and is "
        f"started again at once or up to four seconds later. The last one is never killed: memory and descriptors are "
        f"its own. They, and files, are judged from {from_s / 60:.0f} minutes on. Ready again after a median of "
        f"{ready}. Kills by peer: {', '.join(f'{name} {count}' for name, count in per_peer.items())}.",
        "",
        "| to hold | found | |",
        "| --- | --- | --- |",
        *(verdict.line() for verdict in judged),
        "",
    ]
    if found is not None:
        each = ", ".join(f"{100 * value:.2f}" for value in found.undisturbed)
        lines += [f"Accuracy, mean of the peers: {100 * found.killed:.2f} % with kills; without any: {each} %.", ""]
    lines += ["| minute | resident MiB | descriptors | files | MiB without logs | KiB of logs |", "| --- " * 6 + "|"]
    every = max(len(seen.usages) // 12, 1)
    for use, folder in list(zip(seen.usages, seen.folders, strict=False))[::every]:
        lines.append(
            f"| {use.at_s / 60:.1f} | {use.resident_bytes / MIB:.2f} | {use.descriptors} | {folder.files} "
            f"| {folder.other_bytes / MIB:.2f} | {folder.log_bytes / 1024:.0f} |"
        )
    events = ", ".join(f"{kind} {count}" for kind, count in sorted(seen.told.items()))
    return [*lines, "", f"Events of all peers: {events}."]


def run_soak(
    kills: int, seconds: float, seed: int, controls: int, say: Any = print, down_max: int = PEERS - 1
) -> tuple[Seen, Accuracies | None, list[str]]:
    """The run with kills, those without, and who was left behind."""
    mark = f"GOSSIPDISTILL_SOAK={os.getpid()}-{time.monotonic_ns()}"
    name, _, value = mark.partition("=")
    os.environ[name] = value  # every process that is started has it
    try:
        with tempfile.TemporaryDirectory(prefix="soak-") as folder:
            seen = soak(Path(folder), kills, seconds, seed, say, down_max)
        orphans = left_behind(mark)
        steps = max((int(result["steps"]) for result in seen.results.values()), default=0)
        quiet = []
        for number in range(controls if steps else 0):
            with tempfile.TemporaryDirectory(prefix="soak-") as folder:
                quiet.append(accuracy(undisturbed(Path(folder), steps, seed)))
            say(f"without kills, {number + 1} of {controls}: {100 * quiet[-1]:.2f} %")
    finally:
        del os.environ[name]
    return seen, Accuracies(accuracy(seen.results), quiet) if quiet else None, orphans


def main() -> int:
    """Run, judge, print, write; 0 if everything holds."""
    parser = command.parser(__doc__, note=True)
    parser.add_argument("--short", action="store_true", help="60 kills in ten minutes")
    parser.add_argument("--kills", type=int)
    parser.add_argument("--seconds", type=float, help="of the run with kills")
    parser.add_argument("--seed", type=int, default=0, help="of the training and of the kills")
    parser.add_argument("--undisturbed", type=int, default=3, help="runs without kills to compare accuracy with")
    parser.add_argument("--name", default="soak", help="of the files that are written")
    asked = parser.parse_args()
    kills = asked.kills if asked.kills is not None else 60 if asked.short else 500
    seconds = asked.seconds or (600.0 if asked.short else 3600.0)
    end_tidily_on_signals()
    about = circumstances("benchmarks.soak") | {"note": asked.note}

    def say(line: str) -> None:
        print(line, flush=True)

    down_max = SHORT_DOWN_MAX if asked.short else PEERS - 1
    seen, found, orphans = run_soak(kills, seconds, asked.seed, asked.undisturbed, say, down_max)
    judged = verdicts(seen, found, orphans)
    lines = report(about, seen, found, judged)
    accuracies = found._asdict() if found is not None else None
    figures = {"about": about, "accuracies": accuracies, "orphans": orphans, "seen": seen.as_json()}
    command.keep(asked.out, asked.name, lines, figures, indent=None)
    return int(any(verdict.passed is False for verdict in judged))


if __name__ == "__main__":
    raise SystemExit(main())
