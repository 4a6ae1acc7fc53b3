"""Whether a peer has exchanged anything with the neighbours that it had, and if not, why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

from gossipdistill.learning.alarms import SILENCE_S

LOOK_EVERY_S = 2.0
"""Two looks at the neighbours are this time (s) apart, until something of a neighbour is used; then there are none."""
_NAMES_SHOWN = 8
_RULES = ("burn_in_steps", "teacher_burn_in_steps", "quality_margin", "best_k")
"""These options of a strategy make a peer not listen to others, as the user wants."""


@dataclass(slots=True)
class Company:
    """The neighbours that a peer trains with: those that its topology has it hear (`senders`) and send to
    (`recipients`), if they live and still train; and for how long there was one (s)."""

    senders: set[str] = field(default_factory=set)
    recipients: set[str] = field(default_factory=set)
    heard_s: float = 0.0
    """At least one of the senders was there for this time (s)."""
    told_s: float = 0.0
    """At least one of the recipients was there for this time (s)."""
    over: bool = False
    """Whether something has been exchanged; then nothing is counted any more."""
    _looked_s: float | None = None

    def due(self, now: float, last: bool = False) -> bool:
        """Whether it is time to `look`, which costs more than this check. Time counts from the first call on."""
        if self._looked_s is None:
            self._looked_s = now
        return last or now - self._looked_s >= LOOK_EVERY_S

    def look(self, now: float, senders: Set[str], recipients: Set[str]) -> None:
        """Count the time since the last look in which neighbours were there, and note which are there now."""
        since_s = now - self._looked_s if self._looked_s is not None else 0.0
        self._looked_s = now
        self.senders |= senders
        self.recipients |= recipients
        self.heard_s += since_s if senders else 0.0
        self.told_s += since_s if recipients else 0.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """What is known at the end of a training, for `unexchanged`.

    `due`: the number of exchanges that were due. `refused`: payloads of others, by sender and reason. `left_out`:
    sender -> (rule, why it is not listened to). `unpublished`: why this peer has published nothing, if that is so.
    `network`: what the network has reported of those neighbours. `statuses`: of all peers, in words. `confirmed`:
    whether a neighbour has confirmed anything. `no_neighbour`: the topology has none for it even if all are alive.
    `plan`: the name of a fault plan, which may have cut links on purpose.
    """

    exchanges: int
    due: int
    steps: int
    every_steps: int
    company: Company
    no_neighbour: bool = False
    confirmed: bool = False
    payload_bytes: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    left_out: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    unpublished: Sequence[str] = ()
    network: Sequence[str] = ()
    statuses: Mapping[str, str] = field(default_factory=dict)
    plan: str = ""


@dataclass(frozen=True, slots=True)
class Unexchanged:
    """Nothing was exchanged. `failure`: whether it could have been, by the user's settings and the neighbours that were
    there."""

    reason: str
    failure: bool


def unexchanged(attempt: Attempt) -> Unexchanged | None:
    """Why nothing was exchanged; None where something was.

    A peer with neighbours that send to it has exchanged something when it has used something of theirs; a peer that
    only sends, when a neighbour has confirmed something.
    """
    company = attempt.company
    source = bool(company.recipients) and not company.senders
    if attempt.exchanges or (source and attempt.confirmed):
        return None
    reason, failure = _why(attempt, company.told_s if source else company.heard_s)
    if failure and attempt.plan:
        reason, failure = f"{reason} (under the fault plan {attempt.plan})", False
    return Unexchanged(f"nothing was exchanged: {reason}", failure)


def _why(attempt: Attempt, together_s: float) -> tuple[str, bool]:
    """(reason, whether that is a failure)."""
    company = attempt.company
    if attempt.refused:
        refused = ", ".join(f"{key} x{count}" for key, count in attempt.refused.items())
        return f"payloads were refused ({refused})", True
    if attempt.no_neighbour:
        return "the topology gives it no neighbour", False
    if not attempt.due:
        first = f"the first exchange is due at step {attempt.every_steps} (exchange.every_steps)"
        return f"{first}, and it has made {attempt.steps} steps", False
    by_rule = {name: said for name, said in attempt.left_out.items() if said[0] in _RULES}
    if by_rule:
        return _left_out(by_rule), False
    there = company.senders or company.recipients
    no_reason_but_time = len(attempt.unpublished) == 1 and together_s < SILENCE_S
    if attempt.unpublished and there and not no_reason_but_time:
        return "; ".join(attempt.unpublished), True
    if attempt.network and there:
        return "; ".join(attempt.network), True
    if together_s < SILENCE_S:
        return _too_short(attempt, together_s), False
    if attempt.left_out:
        return _left_out(attempt.left_out), True
    return _silent(attempt, sorted(there), together_s), True


def _left_out(left_out: Mapping[str, tuple[str, str]]) -> str:
    """For each rule, the peers that it leaves out, and why the first of them."""
    names: dict[str, list[str]] = {}
    for name, (rule, _) in sorted(left_out.items()):
        names.setdefault(rule, []).append(name)
    return "; ".join(f"{rule} leaves out {_names(by)} ({left_out[by[0]][1]})" for rule, by in names.items())


def _too_short(attempt: Attempt, together_s: float) -> str:
    company = attempt.company
    if company.senders or company.recipients:
        names = _names(sorted(company.senders or company.recipients))
        return f"it trained beside {names} for {together_s:.1f} s only, and nothing had come by then"
    others = "; ".join(f"{name} {status}" for name, status in sorted(attempt.statuses.items())[:_NAMES_SHOWN])
    return f"no neighbour was there long enough to hear it ({others or 'no other peer is known'})"


def _silent(attempt: Attempt, names: Sequence[str], together_s: float) -> str:
    if not attempt.company.senders:
        return f"{_names(names)} lived for {together_s:.0f} s, and confirmed nothing of what it has sent"
    large = attempt.payload_bytes / 1e6
    slow = f"; a publication is {large:.1f} MB: is the network fast enough?" if large >= 1.0 else ""
    return f"{_names(names)} lived for {together_s:.0f} s, and nothing of theirs has come{slow}"


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more
