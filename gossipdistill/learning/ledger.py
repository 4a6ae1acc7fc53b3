"""What was received, used and refused: the figures of the final table and the alarms.

An *exchange* is a new version of a neighbour that entered a loss or a mix. Repeats of a version do not count.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field, replace

from gossipdistill.events import Event, EventKind
from gossipdistill.ids import PeerName
from gossipdistill.messages import Complaint
from gossipdistill.wire.encodings import OutOfRange

_STEPS_KEPT_MAX = 10_000
_AGE_BINS_PER_DOUBLING = 8
_AGE_SMALLEST_S = 1e-4
_ARRAYS_NAMED_MAX = 8


@dataclass(slots=True)
class Distribution:
    """Counts in bins; memory does not grow with the number of samples."""

    bins: Counter[int] = field(default_factory=Counter)

    def quantile(self, share: float) -> int | None:
        """The smallest bin with at least `share` of the samples at or below it; None without samples."""
        total = sum(self.bins.values())
        seen = 0
        for value in sorted(self.bins):
            seen += self.bins[value]
            if seen >= share * total:
                return value
        return None


@dataclass(slots=True)
class LinkLedger:
    """The use of one sender's states. Times are readings of my monotonic clock in seconds."""

    exchanges: int = 0
    first_exchange_s: float | None = None
    last_exchange_s: float | None = None
    ages: Distribution = field(default_factory=Distribution)


@dataclass(slots=True)
class Ledger:
    """One peer's account of its neighbours, kept by its strategy as it goes."""

    links: dict[str, LinkLedger] = field(default_factory=dict)
    staleness: Distribution = field(default_factory=Distribution)
    ages: Distribution = field(default_factory=Distribution)
    quarantined: Counter[str] = field(default_factory=Counter)
    unusual: Counter[str] = field(default_factory=Counter)
    """This counts, for each sender, its models of an unusual norm."""
    out_of_range: Counter[str] = field(default_factory=Counter)
    """This counts, for each of my arrays, the sent entries that did not fit into the encoding."""
    warnings: list[str] = field(default_factory=list)
    news: list[Event] = field(default_factory=list)
    """These events are to go into the event stream. They have no time yet: `take_news` adds it, and is called after
    each step."""
    left_out: dict[str, tuple[str, str]] = field(default_factory=dict)
    """This maps a sender to (rule, reason), as long as it is not listened to."""
    complaints: list[Complaint] = field(default_factory=list)
    """The network is to hold these complaints against the senders of refused payloads; the worker hands them on."""
    collective_bytes: float = 0.0
    """A collective sent this number of bytes outside our sockets, by its formula (all_reduce only)."""

    def exchanged(self, sender: str, now: float) -> None:
        """A new version of this sender entered a loss or a mix."""
        link = self.links.setdefault(sender, LinkLedger())
        link.exchanges += 1
        link.last_exchange_s = now
        if link.first_exchange_s is None:
            link.first_exchange_s = now

    def applied(self, sender: str, staleness_steps: int, age_s: float) -> None:
        """A version of this sender was used in this step; again and again, for teachers."""
        self.staleness.bins[min(staleness_steps, _STEPS_KEPT_MAX)] += 1
        age_bin = age_to_bin(age_s)
        self.ages.bins[age_bin] += 1
        link = self.links.get(sender)
        if link is None:
            link = self.links[sender] = LinkLedger()
        link.ages.bins[age_bin] += 1

    def quarantine(self, sender: str, reason: str, problem: str) -> None:
        """A payload was refused whole. It is counted each time, and reported once per (sender, reason)."""
        key = f"{sender}: {reason}"
        self.quarantined[key] += 1
        self.complaints.append(Complaint(PeerName(sender), reason))
        if self.quarantined[key] == 1:
            self.note(EventKind.QUARANTINED, sender, problem, code=reason)

    def unusual_norm(self, sender: str, problem: str) -> None:
        """A model of this sender is much larger or smaller than mine. It is counted each time, and reported once."""
        self.unusual[sender] += 1
        if self.unusual[sender] == 1:
            self.note(EventKind.UNUSUAL, sender, problem)

    def encoded(self, array: str, encoding: str, found: OutOfRange, range_max: float, tiny: bool) -> None:
        """An array of mine has been encoded. Entries that did not fit are counted each time, and reported once for each
        array; of those entries that became 0, only if the `tiny` ones count."""
        zeroed = found.zeroed if tiny else 0
        if not found.clipped and not zeroed:
            return
        first = array not in self.out_of_range
        self.out_of_range[array] += found.clipped + zeroed
        if not first or len(self.out_of_range) > _ARRAYS_NAMED_MAX + 1:
            return
        text = "more arrays have such entries: see out_of_range in result.json"
        if len(self.out_of_range) <= _ARRAYS_NAMED_MAX:
            large = (
                f"{found.clipped:,} larger than it holds, sent as {range_max:g} (the largest: {found.clipped_max:.4g})"
            )
            small = f"{zeroed:,} too small, sent as 0 (the largest of them: {found.zeroed_max:.4g})"
            told = [part for part, count in ((large, found.clipped), (small, zeroed)) if count]
            text = f"{array}, encoded as {encoding}: of {found.entries:,} entries " + " and ".join(told)
        self.tell(text)

    def warn(self, text: str) -> None:
        """Something that the user should read once in the summary."""
        if text not in self.warnings:
            self.warnings.append(text)

    def tell(self, text: str) -> None:
        """Something that the user should read in the summary, and among the events. An empty text is nothing."""
        if text:
            self.warn(text)
            self.note(EventKind.WARNING, "", text)

    def not_published(self, array: str) -> None:
        """My own weights cannot go out: this array of them holds NaN or infinity."""
        self.warn(f"my weights are not finite ({array}): nothing published (has the training diverged?)")

    def note(self, kind: EventKind, peer: str, reason: str, **detail: str | int | float) -> None:
        """Note an event for observers; the caller does so once per change of state."""
        self.news.append(Event(kind, 0.0, peer, reason, detail))
        if kind is EventKind.LEFT_OUT:
            self.left_out[peer] = (str(detail.get("rule", "")), reason)
        elif kind is EventKind.LISTENED_TO:
            self.left_out.pop(peer, None)

    def take_news(self, now_s: float) -> list[Event]:
        """The events since the last call, with the present time."""
        news, self.news = self.news, []
        return [replace(event, at_s=now_s) for event in news]

    @property
    def exchanges(self) -> int:
        """Exchanges with all neighbours together."""
        return sum(link.exchanges for link in self.links.values())


def age_to_bin(age_s: float) -> int:
    """Logarithmic bins, eight to a doubling (9 % wide), from 0.1 ms on."""
    return round(_AGE_BINS_PER_DOUBLING * math.log2(max(age_s, _AGE_SMALLEST_S) / _AGE_SMALLEST_S))


def bin_to_age_s(age_bin: int | None) -> float | None:
    """The age in seconds that a bin stands for."""
    return None if age_bin is None else _AGE_SMALLEST_S * 2.0 ** (age_bin / _AGE_BINS_PER_DOUBLING)
