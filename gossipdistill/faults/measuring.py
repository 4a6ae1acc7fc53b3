"""From the running reports of the peers to the result of each expectation. Pure: time comes in with each report.

A report holds running totals: steps, and exchanges with each sender. The quiet seconds before the first fault are the
baseline. An expectation that cannot be measured is not met, with the reason.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gossipdistill.faults.expect import Expect
from gossipdistill.faults.plan import FaultPlan

QUIET_FROM_S = 0.5
"""The baseline starts after this many seconds: before, peers find one another and first steps are slow."""
AFTERMATH_S = 3.0
"""A fault is measured for at least this many seconds, even when it is over at once."""
SAMPLES_MIN = 4
"""A window needs this many samples for a rate to be measured."""
SAMPLES_MAX = 4096
"""At most this many samples are kept per peer; then every second one is dropped, again and again."""

Window = tuple[float, float]
Rate = Callable[[str, Window], float | None]
"""A rate is per second, for one peer in one window; None when too little was reported."""


class Sample(NamedTuple):
    """The running totals of one peer at `at_s`; they continue over restarts."""

    at_s: float
    steps: float
    exchanges: dict[str, float]


@dataclass
class _Track:
    """The reports of one peer. `base` holds the totals of its earlier processes."""

    samples: list[Sample] = field(default_factory=list)
    base: Sample = field(default_factory=lambda: Sample(0.0, 0.0, {}))
    spacing_s: float = 0.0
    done_s: float = math.inf


@dataclass
class _Return:
    """A process that was started again and was ready at `ready_s`; `seen` is what others had received of it before."""

    peer: str
    ready_s: float
    seen: dict[str, float]
    uses_s: float | None = None
    used_s: float | None = None


class Figure(NamedTuple):
    """A measurement, or the reason why there is none."""

    value: float | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One expectation, of these peers, and what was measured."""

    expected: Expect
    peers: tuple[str, ...]
    figure: Figure

    @property
    def met(self) -> bool:
        """Whether the value was measured and is within the bounds."""
        return self.figure.value is not None and self.expected.met(self.figure.value)

    def line(self) -> str:
        """The result as one line."""
        expected, peers, (value, why) = self.expected, self.peers, self.figure
        between = "between" if expected.metric == "exchange_ratio" else "of"
        whose = _and(peers) if 0 < len(peers) <= 6 else f"{len(peers)} peers"
        if expected.whose == "mean":
            whose = f"{len(peers)} finished peer{'s' * (len(peers) != 1)}, their mean,"
        measured = f"is not measured ({why})" if value is None else f"is {value:.3g}"
        met = "met" if self.met else "NOT MET"
        return f"{met}: {expected.metric} {between} {whose} {measured}; expected: {expected.bound()}"


class Measurements:
    """Collects reports of a run with this plan. `names` are the peers in roster order."""

    def __init__(self, plan: FaultPlan, names: Sequence[str]) -> None:
        self._plan, self._names = plan, tuple(names)
        self._touched, self._restarted = plan.touched(names), plan.restarted(names)
        self._tracks = {name: _Track() for name in names}
        self._returns: list[_Return] = []

    # --- in ------------------------------------------------------------------------------------------------------

    def report(self, peer: str, at_s: float, steps: int, exchanges: Mapping[str, int]) -> None:
        """Note the running totals of the present process of `peer`, `at_s` seconds after the start."""
        track = self._tracks[peer]
        if at_s > track.done_s:
            return
        base = track.base
        totals = {sender: base.exchanges.get(sender, 0.0) + count for sender, count in exchanges.items()}
        sample = Sample(at_s, base.steps + steps, base.exchanges | totals)
        self._note_returns(peer, sample, exchanges)
        if track.samples and at_s - track.samples[-1].at_s < track.spacing_s:
            return
        track.samples.append(sample)
        if len(track.samples) > SAMPLES_MAX:
            span_s = track.samples[-1].at_s - track.samples[0].at_s
            track.samples = track.samples[::2]
            track.spacing_s = 2 * span_s / SAMPLES_MAX

    def done(self, peer: str, at_s: float) -> None:
        """Note that `peer` has finished training; its later reports do not count for a pace."""
        self._tracks[peer].done_s = min(self._tracks[peer].done_s, at_s)

    def returned(self, peer: str, ready_s: float, steps_before: int) -> None:
        """Note that a process was started again and begins to train at its own step `steps_before`."""
        track = self._tracks[peer]
        last = track.samples[-1] if track.samples else track.base
        track.base = Sample(ready_s, last.steps - steps_before, last.exchanges)
        seen = {other: self._used_of(other, peer) for other in self._names if other != peer}
        self._returns.append(_Return(peer, ready_s, seen))

    def _used_of(self, other: str, sender: str) -> float:
        samples = self._tracks[other].samples
        return samples[-1].exchanges.get(sender, 0.0) if samples else 0.0

    def _note_returns(self, peer: str, sample: Sample, exchanges: Mapping[str, int]) -> None:
        for back in self._returns:
            if back.peer == peer and back.uses_s is None and sum(exchanges.values()) > 0:
                back.uses_s = sample.at_s
            elif back.used_s is None and sample.exchanges.get(back.peer, 0.0) > back.seen.get(peer, math.inf):
                back.used_s = sample.at_s

    # --- out -----------------------------------------------------------------------------------------------------

    def verdicts(self, accuracies: Mapping[str, float | None], trouble: str | None = None) -> list[Verdict]:
        """Each expectation with what was measured and whether it is met.

        `accuracies` are those of the finished peers; with `trouble` (the run was cut short) nothing is met.
        """
        return [self._verdict(expected, accuracies, trouble) for expected in self._plan.expect]

    def _verdict(self, expected: Expect, accuracies: Mapping[str, float | None], trouble: str | None) -> Verdict:
        members = expected.members(self._names, self._touched, self._restarted)
        if expected.whose == "mean":
            members = tuple(name for name in members if accuracies.get(name) is not None)
        figure = Figure(None, trouble) if trouble else self._figure(expected, members, accuracies)
        return Verdict(expected, members, figure)

    def _figure(self, expected: Expect, members: Sequence[str], accuracies: Mapping[str, float | None]) -> Figure:
        match expected.metric:
            case "pace_ratio":
                return self._worst(expected, members, lambda name: self._ratio([name], self._pace))
            case "exchange_ratio":
                return self._ratio(members, lambda name, window: self._exchanged(name, members, window))
            case "rejoin_s":
                return self._worst(expected, members, self._rejoin)
        return _accuracy(expected, members, accuracies)

    def _worst(self, expected: Expect, members: Sequence[str], figure_of: Callable[[str], Figure]) -> Figure:
        values = []
        for name in members:
            figure = figure_of(name)
            if figure.value is None:
                return figure
            values.append(figure.value)
        return Figure(expected.worst(values))

    # --- rates ---------------------------------------------------------------------------------------------------

    def _ratio(self, peers: Sequence[str], rate: Rate) -> Figure:
        """The sum of `rate` over `peers` while faults last, divided by the same before the first one."""
        begins_s = self._plan.begins_s
        assert begins_s is not None  # otherwise the plan was refused
        quiet = self._sum(peers, rate, [(QUIET_FROM_S, begins_s)])
        if not quiet:
            found = "too few reports" if quiet is None else "nothing"
            return Figure(None, f"{found} of {_and(peers)} in the quiet seconds before {begins_s:g} s")
        ends_s = min(self._end(name) for name in peers)
        troubled = self._sum(peers, rate, self._windows(ends_s))
        if troubled is None:
            return Figure(None, f"{_and(peers)} did not report long enough while faults lasted (to {ends_s:.1f} s)")
        return Figure(troubled / quiet)

    def _sum(self, peers: Sequence[str], rate: Rate, windows: Sequence[Window]) -> float | None:
        total = 0.0
        for name in peers:
            parts = [(rate(name, window), window[1] - window[0]) for window in windows]
            known = [(value, length_s) for value, length_s in parts if value is not None]
            if not known:
                return None
            total += sum(value * length_s for value, length_s in known) / sum(length_s for _, length_s in known)
        return total

    def _pace(self, name: str, window: Window) -> float | None:
        """Steps per second in a window, including the time of a dead process."""
        samples = self._tracks[name].samples
        if len(_within(samples, window)) < SAMPLES_MIN and name not in self._touched:
            return None
        points = [(sample.at_s, sample.steps) for sample in samples]
        return (_at(points, window[1]) - _at(points, window[0])) / (window[1] - window[0]) if points else None

    def _exchanged(self, name: str, senders: Sequence[str], window: Window) -> float | None:
        """Exchanges per second of `name` with `senders`: the slope through all samples in the window,
        since the two at its borders alone may be off by one exchange each."""
        samples = _within(self._tracks[name].samples, window)
        if len(samples) < SAMPLES_MIN:
            return None
        return _slope([(s.at_s, sum(s.exchanges.get(sender, 0.0) for sender in senders)) for s in samples])

    def _end(self, name: str) -> float:
        """The time at which it was done; the end of the run for one that never was."""
        last_s = max((track.samples[-1].at_s for track in self._tracks.values() if track.samples), default=0.0)
        return min(self._tracks[name].done_s, last_s)

    def _windows(self, ends_s: float) -> list[Window]:
        """The windows in which faults last, up to the end: neither overlapping nor touching."""
        spans = sorted(
            (fault.begin_s, min(max(fault.end_s, fault.begin_s + AFTERMATH_S), ends_s)) for fault in self._plan.fault
        )
        merged: list[Window] = []
        for begin_s, end_s in spans:
            if end_s <= begin_s:
                continue
            if merged and begin_s <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(merged[-1][1], end_s))
            else:
                merged.append((begin_s, end_s))
        return merged

    def _rejoin(self, name: str) -> Figure:
        mine = [back for back in self._returns if back.peer == name]
        if not mine:
            return Figure(None, f"{name} was not started again before the end")
        waits_s = []
        for back in mine:
            if back.uses_s is None:
                return Figure(None, f"{name} was ready at {back.ready_s:.1f} s, and used nothing of a neighbour")
            if back.used_s is None:
                return Figure(None, f"{name} was ready at {back.ready_s:.1f} s, and no neighbour used anything of it")
            waits_s.append(max(back.uses_s, back.used_s) - back.ready_s)
        return Figure(max(waits_s))


def _accuracy(expected: Expect, members: Sequence[str], accuracies: Mapping[str, float | None]) -> Figure:
    known = {name: value for name, value in accuracies.items() if value is not None and name in members}
    if expected.whose == "mean":
        return Figure(sum(known.values()) / len(known)) if known else Figure(None, "no finished peer has an accuracy")
    missing = [name for name in members if name not in known]
    if missing:
        return Figure(None, f"{_and(missing)} did not finish, or the task has no accuracy")
    return Figure(expected.worst(list(known.values())))


def _within(samples: Sequence[Sample], window: Window) -> Sequence[Sample]:
    first = bisect_left(samples, window[0], key=lambda sample: sample.at_s)
    return samples[first : bisect_right(samples, window[1], key=lambda sample: sample.at_s)]


def _at(points: Sequence[tuple[float, float]], at_s: float) -> float:
    """The running total at `at_s`, interpolated linearly between the reports around it."""
    place = bisect_left(points, (at_s, -math.inf))
    if place == 0 or place == len(points):
        return points[0][1] if place == 0 else points[-1][1]
    (before_s, before), (after_s, after) = points[place - 1], points[place]
    return before + (after - before) * (at_s - before_s) / (after_s - before_s)


def _slope(points: Sequence[tuple[float, float]]) -> float:
    """The slope by least squares."""
    mean_s = sum(at_s for at_s, _ in points) / len(points)
    mean = sum(total for _, total in points) / len(points)
    spread = sum((at_s - mean_s) ** 2 for at_s, _ in points)
    return sum((at_s - mean_s) * (total - mean) for at_s, total in points) / spread


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
