"""Planted bugs: each breaks one line of the protocol, and must be caught by a checker within 200 storms.

    python -m benchmarks.planted_bugs [--only TEXT] [--storms 200] [--write]

A checker that never fails proves nothing. A bug is a piece of source that is replaced in one method, or in one function
of a module; the table (bug, checker, seed, storm number) is written to benchmarks/results/planted_bugs.md. Bugs of what
is done about a cheat with mass are hunted in storms of mass (mass_storms.py).
"""

from __future__ import annotations

import argparse
import inspect
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks import mass_storms
from gossipdistill.learning import mass, norms
from gossipdistill.learning.reciprocity import Reciprocity
from gossipdistill.mailbox import Mailbox
from gossipdistill.protocol.admission import Admission
from gossipdistill.protocol.boots import Boots
from gossipdistill.protocol.callers import Callers
from gossipdistill.protocol.detector import Detector
from gossipdistill.protocol.hearsay import Hearsay
from gossipdistill.protocol.peer import Peer
from gossipdistill.protocol.refusals import Refusals
from gossipdistill.protocol.reliable_receiver import ReliableReceiver
from gossipdistill.protocol.reliable_sender import ReliableSender
from gossipdistill.protocol.state_receiver import StateReceiver
from gossipdistill.protocol.state_sender import StateSender
from gossipdistill.protocol.suspicion import Suspicion
from gossipdistill.sim.checkers import Violation
from gossipdistill.sim.learners import Publisher, Walker
from gossipdistill.sim.scenario import blow, storm_of

RESULT = Path(__file__).parent / "results" / "planted_bugs.md"
STORMS = 200
PEERS_MAX = 40
"""Larger storms are passed over here: they cost more, and show no more of these."""


@dataclass(frozen=True)
class Bug:
    """`old` is replaced by `new` in the source of `kind.method`, where it stands exactly once."""

    name: str
    kind: type | ModuleType
    method: str
    old: str
    new: str
    by_mass: bool = False
    """Whether it is hunted in storms of mass."""

    @contextmanager
    def planted(self) -> Iterator[None]:
        """The package with this bug in it."""
        sound = inspect.getattr_static(self.kind, self.method)
        source = textwrap.dedent(inspect.getsource(sound))
        if source.count(self.old) != 1:
            raise ValueError(f"{self.name}: {self.old!r} stands {source.count(self.old)} times in {self.method}")
        module = self.kind if isinstance(self.kind, ModuleType) else sys.modules[self.kind.__module__]
        made: dict[str, Any] = {}
        exec("from __future__ import annotations\n" + source.replace(self.old, self.new), vars(module), made)
        if isinstance(self.kind, ModuleType):  # in place, for those who have imported it by its name
            sound.__code__, code = made[self.method].__code__, sound.__code__
        else:
            setattr(self.kind, self.method, made[self.method])
        try:
            yield
        finally:
            if isinstance(self.kind, ModuleType):
                sound.__code__ = code
            else:
                setattr(self.kind, self.method, sound)


@dataclass(frozen=True)
class Catch:
    """Which checker caught it, in which storm (from 1), and its seed."""

    checker: str
    seed: int
    number: int
    what: str


BUGS = (
    # --- mass and streams ---
    Bug("no dedup: what is resent is delivered again", ReliableReceiver, "arrived", "if ahead <= 0:", "if False:"),
    Bug("a lost receipt is not given again", ReliableReceiver, "_repeat", "if number in window.verdicts:",
        "if number in window.verdicts:\n        return\n    if False:"),
    Bug("a lost parcel is not sent again", ReliableSender, "handle_timeout", "if now >= one.due_s:", "if False:"),
    Bug("a parcel on the wire is reclaimed at a death", ReliableSender, "lost", "if not one.sendings:", "if True:"),
    Bug("a parcel that was on the wire goes home when a socket takes it no more", ReliableSender, "not_sent",
        "if tried and not one.sendings and", "if"),
    Bug("numbers are reset when a peer refutes and is heard again", ReliableSender, "returned",
        "one.parked, one.tries = False, 0", "one.parked, one.tries, line.numbered = False, 0, 0"),
    Bug("a parcel for an ended process is sent to its successor", ReliableSender, "returned",
        "if one.sendings and living is not None and one.to_boot != living.boot:", "if False:"),
    Bug("numbers of a restarted sender count as its predecessor's", ReliableReceiver, "_window",
        "if window.boot < boot:", "if False:"),
    Bug("a refusal is taken for an absorption", ReliableSender, "receipt",
        "receipt.verdict is Verdict.REFUSED", "False"),
    Bug("what is held counts as settled", ReliableSender, "receipt",
        "one.held = True", "self._end(slot, line, one, now, home=None)"),
    Bug("a link is freed twice", ReliableSender, "_end",
        "self.freed.append(slot)", "self.freed.extend([slot, slot])"),
    Bug("a link is freed only if nothing goes home", ReliableSender, "_end",
        "self.freed.append(slot)", "self.freed.extend([slot] if home is None else [])"),
    Bug("what goes home is dropped", ReliableSender, "_end", "if home is None or", "if True or"),
    Bug("a write-off is not said", ReliableSender, "_write_off",
        "if one.parcel.delivery is DeliveryClass.MASS:", "if False:"),
    Bug("frames that come early are passed over", ReliableReceiver, "arrived",
        "if window.stream and 1 < ahead <= self.limits.in_flight_stream_max:", "if False:"),
    Bug("a late verdict on a frame is forgotten", ReliableReceiver, "_repeat", "elif window.stream:", "elif False:"),
    # --- states ---
    Bug("a version without the boot", StateReceiver, "arrived",
        "Version(boot, state.number)", "Version(0, state.number)"),
    Bug("an older state replaces a newer one", StateReceiver, "arrived", "if version <= known.version:", "if False:"),
    Bug("a lost confirmation blocks its slot", StateSender, "handle_timeout",
        "del known.unconfirmed[number]", "known.unconfirmed[number] = NEVER"),
    Bug("a confirmation of what was never sent is believed", StateSender, "confirmed",
        "if known is None or confirm.number > known.number:", "if known is None:"),
    # --- the mailbox ---
    Bug("an unlocked slot: one post overwrites another", Mailbox, "post",
        "self._consigned.append((slot, parcel))", "self._consigned = [(slot, parcel)]"),
    Bug("an unlocked take: what comes meanwhile is cleared", Mailbox, "take",
        "arrivals = list(self._inbox.values())", "arrivals = list(self._inbox.values())[:2]"),
    Bug("arrivals are told apart by their number alone", Mailbox, "deliver",
        "self._inbox[slot, self._delivered] = arrival", "self._inbox[slot, arrival.version.number] = arrival"),
    Bug("no link is ever busy", Mailbox, "post",
        "if self._in_flight[slot] < room", "if True"),
    Bug("all lanes of a link are one", Mailbox, "post", "self._consigned.append((slot,",
        "self._consigned.append((Slot(peer, topic, parcel.key),"),
    # --- membership ---
    Bug("business of the predecessor is done by the successor", Peer, "_receive",
        "if envelope.to_boot not in (0, self.me.boot):",
        "if envelope.to_boot not in (0, self.me.boot) and isinstance(message, Refusal | Ping | Ack | Leave):"),
    Bug("words to the predecessor are heard by the successor", Peer, "_receive",
        "if envelope.to_boot not in (0, self.me.boot):", "if False:"),
    Bug("a resurrected boot: a late greeting of an ended process is accepted", Admission, "greeted",
        "if boot < member.boot:", "if False:"),
    Bug("who says that I am superseded is believed", Refusals, "_called_old",
        "if sender == me.name and table.proven and boot > me.boot:", "if refusal.newer_boot > me.boot:"),
    Bug("a boot is believed however far in the future", Boots, "is_beyond",
        "return boot", "return False and boot"),
    Bug("a death is believed on hearsay", Hearsay, "_hear_accusation", "if case.failures:", "if True:"),
    Bug("the dead are never called again", Detector, "call_the_dead", "if not table.dead:", "if True:"),
    Bug("a word of the dead does not bring them back", Detector, "heard",
        "if member.status is not Status.ALIVE:", "if member.status is Status.SUSPECT:"),
    Bug("a suspicion has no end", Suspicion, "deadline_s",
        "if self.wanted == 0:", "return self.since_s + 1e9\n    if False:"),
    # --- a cheat with mass ---
    Bug("the size of what comes is not judged", norms, "judge_size",
        "if not math.isfinite(own.norm):", "if True:", by_mass=True),
    Bug("the weight of a parcel is not bounded", mass, "_read",
        "0.5 * mass.weight_min <= arrival.weight <= mass.weight_max", "True", by_mass=True),
    Bug("who never gives is given for ever", Reciprocity, "welcome",
        "to = [name for name in free", "return tuple(free)\n    to = [name for name in free", by_mass=True),
    Bug("starts are believed without end", Callers, "turn_away",
        "if caller.boot and not caller.starts.spend(1.0, now):", "if False:", by_mass=True),
    # --- learners ---
    Bug("a learner forgets to settle", Walker, "step",
        "[verdict for verdict in verdicts if verdict is not None]", "[v for v in verdicts[1:] if v is not None]"),
    Bug("a learner gives away what was not taken", Walker, "_send", "if self.mailbox.post(parcel):",
        "if self.mailbox.post(parcel) or True:"),
    Bug("a learner waits for its neighbours", Publisher, "step", "self.step_number += 1",
        "self.step_number += len(self.mailbox.neighbourhood().alive) > 1 or self.step_number < 20"),
)  # fmt: skip


def hunt(bug: Bug, storms: int = STORMS, first_seed: int = 0) -> Catch | None:
    """The first storm that shows the bug; None if none does."""
    with bug.planted():
        for number in range(1, storms + 1):
            seed = first_seed + number - 1
            try:
                violations = _violations(seed, bug.by_mass)
            except Exception as error:
                return Catch("an exception", seed, number, repr(error))
            if violations:
                return Catch(violations[0].checker, seed, number, violations[0].what)
    return None


def _violations(seed: int, by_mass: bool) -> list[Violation]:
    if by_mass:
        return mass_storms.blow(mass_storms.mass_storm_of(seed))
    storm = storm_of(seed)
    return blow(storm).violations if storm.peers <= PEERS_MAX else []


def main() -> int:
    """Hunt them all; exit code 1 when one gets away."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="bugs whose name contains this")
    parser.add_argument("--storms", type=int, default=STORMS)
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    asked = parser.parse_args()
    rows, missed = [], 0
    for bug in BUGS:
        if asked.only not in bug.name:
            continue
        catch = hunt(bug, asked.storms)
        missed += catch is None
        found = f"{catch.checker} | {catch.seed} | {catch.number}" if catch else "**not caught** | - | -"
        rows.append(f"| {bug.name} | `{bug.kind.__name__.removeprefix('gossipdistill.')}.{bug.method}` | {found} |")
        print(rows[-1], catch.what[:150] if catch else "", flush=True)
    if asked.write:
        head = (
            f"# Planted bugs\n\n`python -m benchmarks.planted_bugs --write`: each bug breaks one line; the storms are "
            f"those of the seeds from 0 on (with up to {PEERS_MAX} peers), at most {asked.storms} of them; for bugs of "
            "what is done about a cheat with mass those of `benchmarks.mass_storms`.\n\n"
            f"{len(rows) - missed} of {len(rows)} were caught.\n\n"
            "| bug | where | caught by | seed | storm number |\n| --- | --- | --- | --- | --- |\n"
        )
        RESULT.write_text(head + "\n".join(rows) + "\n", encoding="utf-8")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
