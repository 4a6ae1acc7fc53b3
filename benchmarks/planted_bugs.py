"""Planted bugs: each breaks one line of the protocol, and must be caught by a checker within 200 storms.

    python -m benchmarks.planted_bugs [--only TEXT] [--storms 200] [--write]

A checker that never fails proves nothing. The table (bug, checker, seed, storm number) is written to
benchmarks/results/planted_bugs.md. Bugs of what is done about a cheat with mass are hunted in storms of mass
(mass_storms.py).
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

from benchmarks import mass_storms
from benchmarks.kit.command import RESULTS
from benchmarks.kit.planting import Bug
from gossipdistill.learning import mass, norms
from gossipdistill.learning.reciprocity import Reciprocity
from gossipdistill.mailbox import LinkRoom, Mailbox
from gossipdistill.protocol.admission import Admission
from gossipdistill.protocol.boots import Boots
from gossipdistill.protocol.callers import Callers
from gossipdistill.protocol.detector import Detector
from gossipdistill.protocol.dispatcher import Dispatcher
from gossipdistill.protocol.hearsay import Hearsay
from gossipdistill.protocol.refusals import Refusals
from gossipdistill.protocol.reliable_receiver import ReliableReceiver
from gossipdistill.protocol.reliable_sender import ReliableSender
from gossipdistill.protocol.state_receiver import StateReceiver
from gossipdistill.protocol.state_sender import StateSender
from gossipdistill.protocol.suspicion import Suspicion
from gossipdistill.sim.checkers import Violation
from gossipdistill.sim.learners import Publisher, Walker
from gossipdistill.sim.scenario import blow, storm_of

RESULT = RESULTS / "planted_bugs.md"
STORMS = 200
PEERS_MAX = 40
"""Larger storms are passed over here: they cost more, and show no more of these."""


@dataclass(frozen=True)
class StormBug(Bug):
    """A bug that storms are to show."""

    by_mass: bool = False
    """Whether it is hunted in storms of mass."""


@dataclass(frozen=True)
class Catch:
    """Which checker caught it, in which storm (from 1), and its seed."""

    checker: str
    seed: int
    number: int
    what: str


BUGS = (
    # --- mass and streams ---
    StormBug("no dedup: what is resent is delivered again", ReliableReceiver, "if ahead <= 0:", "if False:"),
    StormBug(
        "a lost receipt is not given again",
        ReliableReceiver,
        "if number in window.verdicts:",
        "if number in window.verdicts:\n        return\n    if False:",
    ),
    StormBug("a lost parcel is not sent again", ReliableSender, "if now >= one.due_s:", "if False:"),
    StormBug("a parcel on the wire is reclaimed at a death", ReliableSender, "if not one.sendings:", "if True:"),
    StormBug(
        "a parcel that was on the wire is returned when a socket takes it no more",
        ReliableSender,
        "if tried and not one.sendings and",
        "if",
    ),
    StormBug(
        "numbers are reset when a peer refutes and is heard again",
        ReliableSender,
        "one.parked, one.tries = False, 0",
        "one.parked, one.tries, line.numbered = False, 0, 0",
    ),
    StormBug(
        "a parcel for an ended process is sent to its successor",
        ReliableSender,
        "if one.sendings and living is not None and one.to_boot != living.boot:",
        "if False:",
    ),
    StormBug(
        "numbers of a restarted sender count as its predecessor's",
        ReliableReceiver,
        "if window.boot < boot:",
        "if False:",
    ),
    StormBug("a refusal is taken for an absorption", ReliableSender, "receipt.verdict is Verdict.REFUSED", "False"),
    StormBug(
        "what is held counts as settled",
        ReliableSender,
        "one.held = True",
        "self._end(slot, line, one, now, returned=None)",
    ),
    StormBug("a link is freed twice", ReliableSender, "self.freed.append(slot)", "self.freed.extend([slot, slot])"),
    StormBug(
        "a link is freed only if nothing is returned",
        ReliableSender,
        "self.freed.append(slot)",
        "self.freed.extend([slot] if returned is None else [])",
    ),
    StormBug("what is returned is dropped", ReliableSender, "if returned is None or", "if True or"),
    StormBug(
        "a write-off is not said",
        ReliableSender,
        "if one.parcel.delivery is DeliveryClass.MASS:\n        reason",
        "if False:\n        reason",
    ),
    StormBug(
        "frames that come early are passed over",
        ReliableReceiver,
        "if window.stream and 1 < ahead <= self.limits.in_flight_stream_max:",
        "if False:",
    ),
    StormBug("a late verdict on a frame is forgotten", ReliableReceiver, "elif window.stream:", "elif False:"),
    # --- states ---
    StormBug("a version without the boot", StateReceiver, "Version(boot, state.number)", "Version(0, state.number)"),
    StormBug("an older state replaces a newer one", StateReceiver, "if version <= known.version:", "if False:"),
    StormBug(
        "a lost confirmation blocks its slot",
        StateSender,
        "for number in overdue:\n            del known.unconfirmed[number]",
        "for number in overdue:\n            known.unconfirmed[number] = NEVER",
    ),
    StormBug(
        "a confirmation of what was never sent is believed",
        StateSender,
        "if known is None or confirm.number > known.number:",
        "if known is None:",
    ),
    # --- the mailbox ---
    StormBug(
        "an unlocked slot: one post overwrites another",
        Mailbox,
        "self._consigned.append((slot, parcel))",
        "self._consigned = [(slot, parcel)]",
    ),
    StormBug(
        "an unlocked take: what comes meanwhile is cleared",
        Mailbox,
        "received = list(self._inbox.values())",
        "received = list(self._inbox.values())[:2]",
    ),
    StormBug(
        "arrivals are told apart by their number alone",
        Mailbox,
        "self._inbox[slot, self._delivered] = received",
        "self._inbox[slot, received.version.number] = received",
    ),
    StormBug("no link is ever busy", LinkRoom, "if self._in_flight[slot] < room", "if True"),
    StormBug(
        "all lanes of a link are one",
        Mailbox,
        "self._consigned.append((slot,",
        "self._consigned.append((Slot(peer, topic, parcel.key),",
    ),
    # --- membership ---
    StormBug(
        "business of the predecessor is done by the successor",
        Dispatcher,
        "if envelope.to_boot not in (0, self.me.boot):",
        "if envelope.to_boot not in (0, self.me.boot) and isinstance(message, Refusal | Ping | Ack | Leave):",
    ),
    StormBug(
        "words to the predecessor are heard by the successor",
        Dispatcher,
        "if envelope.to_boot not in (0, self.me.boot):",
        "if False:",
    ),
    StormBug(
        "a resurrected boot: a late greeting of an ended process is accepted",
        Admission,
        "if boot < member.boot:",
        "if False:",
    ),
    StormBug(
        "who says that I am superseded is believed",
        Refusals,
        "if sender == me.name and table.proven and boot > me.boot:",
        "if refusal.newer_boot > me.boot:",
    ),
    StormBug("a boot is believed however far in the future", Boots, "return boot", "return False and boot"),
    StormBug("a death is believed on hearsay", Hearsay, "if case.failures:", "if True:"),
    StormBug("the dead are never called again", Detector, "if not table.dead:", "if True:"),
    StormBug(
        "a word of the dead does not bring them back",
        Detector,
        "if member.status is not Status.ALIVE:\n        if",
        "if member.status is Status.SUSPECT:\n        if",
    ),
    StormBug("a suspicion has no end", Suspicion, "if self.wanted == 0:", "return self.since_s + 1e9\n    if False:"),
    # --- a cheat with mass ---
    StormBug(
        "the size of what comes is not judged", norms, "if not math.isfinite(own.norm):", "if True:", by_mass=True
    ),
    StormBug(
        "the weight of a parcel is not bounded",
        mass,
        "0.5 * mass.weight_min <= arrival.weight <= mass.weight_max",
        "True",
        by_mass=True,
    ),
    StormBug(
        "who never gives is given for ever",
        Reciprocity,
        "to = [name for name in free",
        "return tuple(free)\n    to = [name for name in free",
        by_mass=True,
    ),
    StormBug(
        "starts are believed without end",
        Callers,
        "if caller.boot and not caller.starts.spend(1.0, now):",
        "if False:",
        by_mass=True,
    ),
    # --- learners ---
    StormBug(
        "a learner forgets to settle",
        Walker,
        "[verdict for verdict in verdicts if verdict is not None]",
        "[v for v in verdicts[1:] if v is not None]",
    ),
    StormBug(
        "a learner gives away what was not taken",
        Walker,
        "if self.mailbox.post(parcel):",
        "if self.mailbox.post(parcel) or True:",
    ),
    StormBug(
        "a learner waits for its neighbours",
        Publisher,
        "self.step_number += 1",
        "self.step_number += len(self.mailbox.neighbourhood().alive) > 1 or self.step_number < 20",
    ),
)


def hunt(bug: StormBug, storms: int = STORMS, first_seed: int = 0) -> Catch | None:
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
        rows.append(f"| {bug.name} | `{bug.place}` | {found} |")
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
