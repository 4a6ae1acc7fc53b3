"""Who loses what when one of four peers is killed, stopped, cut off or slow: ours beside other systems, in one run.

python -m benchmarks.survival [--repeats 3] [--strategy gossip_averaging] [--only ours|rivals] [--out FOLDER]
    [--hivemind-python PATH] [--torchft-python PATH] [--flwr-python PATH]     Pythons in which they are installed
    [--rivals-from FILE]     figures of others from an earlier `--only rivals`
"""

from __future__ import annotations

import json
import statistics
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.kit import command
from benchmarks.kit.launcher import BenchmarkError, end_tidily_on_signals
from benchmarks.kit.machine import circumstances, heading
from benchmarks.kit.namespaces import Namespaces, NoNamespacesError
from benchmarks.kit.verdict import Verdict
from benchmarks.survival.flower import run_flower
from benchmarks.survival.rivals import Outcome, Rival, run_rival, why_absent
from benchmarks.survival.runs import AGAIN, FAULTS, NONE, STEP_TIME_S, Times, run_nan, run_ours

PLAIN, SECURED = "plain", "secured"
KEPT_MIN = 0.95
P99_MARGIN = 0.05
ACCURACY_POINTS = 0.5
RIVAL_ROUNDS, RIVAL_FAULT_ROUND = 30, 10
FLOWER_ROUNDS, FLOWER_FAULT_ROUND = 5, 1
RIVALS = ("hivemind", "torchft", "flwr")
NAN = "NaN"

Repeat = dict[str, dict[str, dict[str, Any]]]
"""Figures by PLAIN or SECURED, then by what happens."""


def repeat_ours(strategy: str, number: int, times: Times, with_namespaces: bool, say: Any) -> Repeat:
    """Everything once: quiet, with each fault, quiet again; each repeat begins with another one."""
    order = [NONE, *FAULTS, AGAIN]
    shift = number % len(order)
    repeat: Repeat = {PLAIN: {}, SECURED: {}}
    for fault in [*order[shift:], *order[:shift]]:
        for kind in (PLAIN, SECURED):
            found = run_ours(strategy, fault, number, times, kind == SECURED, with_namespaces)
            repeat[kind][fault] = found
            lost = sum(one["lost"] for one in found["steps"].values())
            p99 = f"{1000 * found['p99_s']:.1f} ms" if found["p99_s"] is not None else "-"
            say(f"repeat {number + 1}: {kind}, {fault}: {lost} steps lost, p99 {p99}")
    return repeat


def p99_ratio(repeat: Repeat, kind: str, fault: str) -> float:
    """Of the step time of the survivors, over that of the same repeat without a fault."""
    return float(repeat[kind][fault]["p99_s"] / repeat[kind][NONE]["p99_s"])


def kept(repeat: Repeat, kind: str, fault: str) -> dict[str, float]:
    """By healthy pair: exchanges per second in the window of the fault, over those of the run without one."""
    before = repeat[kind][NONE]["exchanges_per_s"]
    now = repeat[kind][fault]["exchanges_per_s"]
    return {pair: now.get(pair, 0.0) / rate for pair, rate in before.items() if rate > 0}


def worst_pair(repeats: Sequence[Repeat], kind: str, fault: str) -> float | None:
    """The pair that keeps least of its exchanges, by medians over the repeats."""
    each = [kept(repeat, kind, fault) for repeat in repeats]
    pairs = set[str]().union(*each)
    return min((statistics.median(one.get(pair, 0.0) for one in each) for pair in pairs), default=None)


def points(repeat: Repeat, kind: str, fault: str) -> float:
    """Accuracy of the survivors minus that of the same three without a fault, same seed and steps, in points."""
    now, before = (statistics.fmean(repeat[kind][which]["accuracy"]) for which in (fault, NONE))
    return 100 * (now - before)


def lost_steps(repeats: Sequence[Repeat], kind: str, fault: str) -> int:
    """Of all survivors, in all repeats."""
    return sum(one["lost"] for repeat in repeats for one in repeat[kind][fault]["steps"].values())


def p99_bound(repeats: Sequence[Repeat], kind: str) -> float:
    """5 %, or twice what two quiet runs of one repeat differ by."""
    spread = max(abs(p99_ratio(repeat, kind, AGAIN) - 1) for repeat in repeats)
    return 1 + max(P99_MARGIN, 2 * spread)


def error_of_mean(values: Sequence[float]) -> float:
    """Standard error; 0 with one value."""
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0


def verdicts(repeats: Sequence[Repeat], nan: Mapping[str, Any]) -> list[Verdict]:
    """What ours has to hold."""
    judged: list[Verdict] = []
    for kind in (PLAIN, SECURED) if repeats else ():
        bound = p99_bound(repeats, kind)
        for fault in FAULTS:
            lost, quiet = lost_steps(repeats, kind, fault), lost_steps(repeats, kind, NONE)
            again = lost_steps(repeats, kind, AGAIN)
            ratio = statistics.median(p99_ratio(repeat, kind, fault) for repeat in repeats)
            least = worst_pair(repeats, kind, fault)
            apart = [points(repeat, kind, fault) for repeat in repeats]
            mean, error = statistics.fmean(apart), error_of_mean(apart)
            where = f"{kind}, {fault}: "
            judged += [
                Verdict(where + "survivors lose no step", f"{lost} (without a fault {quiet} and {again})", lost == 0),
                Verdict(where + f"p99 step time at most {bound:.2f} of that without", f"{ratio:.3f}", ratio <= bound),
                Verdict(
                    where + f"healthy pairs keep {KEPT_MIN:.0%} of their exchanges",
                    f"{least:.3f}" if least is not None else "-",
                    least is not None and least >= KEPT_MIN,
                ),
                Verdict(
                    where + f"accuracy at equal steps within {ACCURACY_POINTS} points",
                    f"{mean:+.2f} +- {error:.2f}",
                    abs(mean) <= ACCURACY_POINTS,
                ),
            ]
    if nan:
        counted = {name: sum(reasons.values()) for name, reasons in (nan["quarantined"] or {}).items() if reasons}
        whole = all(value is not None for value in nan["val_loss"].values())
        text = ", ".join(f"{name} refused {count}" for name, count in counted.items())
        judged.append(Verdict("NaN from one of four: nothing applied, all counted", text, whole and len(counted) == 3))
    return judged


# --- others ------------------------------------------------------------------------------------------------------


def measure_rivals(rivals: Sequence[Rival], cap_s: float, say: Any) -> tuple[list[Outcome], dict[str, str]]:
    """Each with each fault and with NaN; side by side, for they mostly wait. And who is absent, and why."""
    absent = {rival.name: why for rival in rivals if (why := why_absent(rival)) is not None}
    for name, why in absent.items():
        say(f"SKIP {name}: {why}")

    leaving = threading.Event()

    def all_of(rival: Rival) -> list[Outcome]:
        found: list[Outcome] = []
        for fault in (NONE, *FAULTS, NAN):
            if leaving.is_set():
                return found
            try:
                if rival.name == "flwr":
                    outcome = run_flower(rival, fault, FLOWER_ROUNDS, FLOWER_FAULT_ROUND, cap_s, fault == NAN)
                else:
                    outcome = run_rival(rival, fault, RIVAL_ROUNDS, RIVAL_FAULT_ROUND, cap_s, fault == NAN)
            except BenchmarkError as error:
                outcome = Outcome(rival.name, fault, problems=[str(error)])
            say(f"{rival.name}, {fault}: {outcome_text(outcome)}")
            found.append(outcome)
        return found

    present = [rival for rival in rivals if rival.name not in absent]
    if not present:
        return [], absent
    with ThreadPoolExecutor(len(present)) as pool:
        try:
            return [outcome for found in pool.map(all_of, present) for outcome in found], absent
        finally:
            leaving.set()


def outcome_text(outcome: Outcome) -> str:
    """What became of the survivors, in words."""
    if not outcome.stalled_s:
        return "could not be measured: " + "; ".join(outcome.problems)[:200]
    stalled = ", ".join(
        f"{seconds:.1f} s{'+' if name in outcome.unfinished else ''}" for name, seconds in outcome.stalled_s.items()
    )
    return f"longest step or wait {stalled}; steps lost {list(outcome.steps_lost.values())}"


def rival_table(outcomes: Sequence[Outcome]) -> list[str]:
    """One line for each run of another system."""
    lines = [
        "| system | what happens to one of four | longest wait of each survivor | steps lost by them "
        "| rounds that it called good, bad, afterwards | NaN in the survivors' weights |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for one in outcomes:
        if not one.stalled_s:
            lines.append(f"| {one.rival} | {one.fault} | {outcome_text(one)} | | | |")
            continue
        stalled = ", ".join(
            f"{seconds:.1f} s{' (not done in time)' if name in one.unfinished else ''}"
            for name, seconds in one.stalled_s.items()
        )
        rounds = ", ".join(f"{each['good']}/{each['bad']}" for each in one.rounds.values())
        nan = ", ".join(f"{share:.0%}" for share in one.nan_share.values()) or "-"
        lost = ", ".join(map(str, one.steps_lost.values()))
        lines.append(f"| {one.rival} | {one.fault} | {stalled} | {lost} | {rounds} | {nan} |")
    return lines


# --- report ------------------------------------------------------------------------------------------------------


def our_table(repeats: Sequence[Repeat]) -> list[str]:
    """One line for each of ours."""
    lines = [
        "| ours | what happens to one of four | steps lost by the survivors | longest step | p99 step, of that without "
        "| exchanges kept, worst healthy pair | accuracy, points against none |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for kind in (PLAIN, SECURED):
        for fault in (NONE, AGAIN, *FAULTS):
            longest = max(one["longest_s"] for repeat in repeats for one in repeat[kind][fault]["steps"].values())
            ratios = [p99_ratio(repeat, kind, fault) for repeat in repeats]
            apart = [points(repeat, kind, fault) for repeat in repeats]
            least = worst_pair(repeats, kind, fault)
            p99 = statistics.median(repeat[kind][fault]["p99_s"] for repeat in repeats)
            lines.append(
                f"| {kind} | {fault} | {lost_steps(repeats, kind, fault)} | {1000 * longest:.0f} ms "
                f"| {statistics.median(ratios):.3f} ({1000 * p99:.1f} ms; {min(ratios):.3f} to {max(ratios):.3f}) "
                f"| {least or 0.0:.3f} | {statistics.fmean(apart):+.2f} +- {error_of_mean(apart):.2f} |"
            )
    return lines


def report(
    about: dict[str, Any],
    strategy: str,
    times: Times,
    repeats: Sequence[Repeat],
    nan: Mapping[str, Any],
    rivals: tuple[Sequence[Outcome], Mapping[str, str]],
    with_namespaces: bool,
) -> list[str]:
    """The report in markdown."""
    bed = "network namespaces" if with_namespaces else "loopback, cut and slowed by the driver's own fault plan"
    lines = [
        "# Who loses what when one of four goes wrong?",
        "",
        *heading(about),
        "",
        f"4 processes on digits, MLP 64-512-512-10 (301,066 parameters, 1.2 MB), {bed}; steps padded by sleep to "
        f"{1000 * STEP_TIME_S:.0f} ms. Ours: {strategy}, complete topology, weights in raw float32 every 10 steps, "
        f"{times.step_count} steps; the fault comes after {times.fault_s:g} s and goes after {times.heal_s:g} s (who "
        "is killed stays dead). A step is lost where a survivor's step takes more than 0.25 s. Each repeat has a seed "
        "of its own and begins with another row; ratios are within a repeat.",
        "",
    ]
    if repeats:
        judged = verdicts(repeats, nan)
        lines += [*our_table(repeats), "", "| to hold | found | |", "| --- | --- | --- |"]
        lines += [*(verdict.line() for verdict in judged), ""]
    outcomes, absent = rivals
    if outcomes or absent:
        lines += [
            "## Others",
            "",
            "The same model, data and pace, in namespaces; all systems side by side, for they mostly wait. hivemind "
            "averages every 10 steps, torchft at every step, Flower every 50, each with its own time-outs. The fault "
            "comes at a random moment of a round and stays. Steps lost are those of 20 ms that fit into waits of the "
            "survivors until these have made as many steps as they were to, or the time is up. Flower starts a process "
            "for every message, which takes most of its time here.",
            *([f"Measured by `{about['rivals_by']}`."] if "rivals_by" in about else []),
            "",
            *rival_table(outcomes),
            "",
            *(f"SKIP {name}: {why}" for name, why in absent.items()),
        ]
    return lines


def main() -> int:
    """Measure, print, write; 0 if ours holds everything."""
    parser = command.parser(__doc__, note=True)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--strategy", default="gossip_averaging")
    parser.add_argument("--only", choices=["ours", "rivals"])
    for name in RIVALS:
        parser.add_argument(f"--{name}-python", type=Path, help=f"a Python in which {name} is installed")
    parser.add_argument("--rivals-from", type=Path, help="a survival.json with figures of others; none are run")
    parser.add_argument("--rival-cap-s", type=float, default=130.0, help="longest wait for a run of another system")
    asked = parser.parse_args()
    end_tidily_on_signals()
    about = circumstances("benchmarks.survival") | {"note": asked.note}

    def say(line: str) -> None:
        print(line, flush=True)

    try:
        with Namespaces(1):
            with_namespaces = True
    except NoNamespacesError as reason:
        with_namespaces = False
        say(f"SKIP namespaces: {reason}; partition and 20 Mbit/s by the driver's fault plan, and no other systems")
    times, repeats, nan = Times(), [], {}
    if asked.only != "rivals":
        repeats = [repeat_ours(asked.strategy, n, times, with_namespaces, say) for n in range(asked.repeats)]
        nan = run_nan(asked.strategy, times)
    given = {name: getattr(asked, f"{name}_python") for name in RIVALS}
    rivals = [Rival(name, python or Path("not given"), name == "torchft") for name, python in given.items()]
    others: tuple[list[Outcome], dict[str, str]] = [], {}
    if asked.rivals_from is not None:
        before = json.loads(asked.rivals_from.read_text())
        others = [Outcome(**one) for one in before["others"]], before["absent"]
        about["rivals_by"] = before["about"]["command"] + ", " + before["about"]["date"]
    elif asked.only != "ours" and with_namespaces:
        others = measure_rivals(rivals, asked.rival_cap_s, say)
    lines = report(about, asked.strategy, times, repeats, nan, others, with_namespaces)
    figures = {"about": about, "repeats": repeats, "nan": nan, "others": [asdict(one) for one in others[0]]}
    figures["absent"] = others[1]
    command.keep(asked.out, "survival", lines, figures)
    return int(any(verdict.passed is False for verdict in verdicts(repeats, nan)))


if __name__ == "__main__":
    raise SystemExit(main())
