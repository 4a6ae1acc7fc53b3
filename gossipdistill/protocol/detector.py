"""Which members are suspect and which are dead. Claims of others come from `hearsay`.

The life of a member, as I see it

    unheard --greeting accepted--> alive --no answer to me nor to the relays--> suspect --no refutation--> dead
                                     ^----------- any message of the same process -----------'
    unheard --no answer to a probe: presumed present, or probed before its newer process was heard--> suspect
    any state --a newer boot--> greeted again      any state --last message--> left (dead, if it says that it crashed)
    any state --a difference in the greeting--> refused (until a newer boot tries again)

Rules of this file
1. A message from the member itself overrides what others say of it; so does its refutation, whichever peer passes it
   on.
2. What others say makes a member at most suspect. It is dead only if it has not answered a ping of my own either.
3. I tell others of a suspicion only when a second probe has failed: one lost ping is not spread.
4. Dead members, and members that have left by hearsay, are called now and then, so that the end of a network split is
   noticed.
"""

from __future__ import annotations

from dataclasses import dataclass

from gossipdistill.events import EventKind
from gossipdistill.ids import PeerName
from gossipdistill.presence import Claim, ClaimKind, Leave
from gossipdistill.protocol.admission import Admission
from gossipdistill.protocol.members import Member, Status
from gossipdistill.protocol.probe_messages import ProbeMessages
from gossipdistill.protocol.suspicion import LocalHealth, Suspicion
from gossipdistill.protocol.table import Table, Timer

_CALLS_PER_INTERVAL = 4
"""In a large run all members together make about this many calls to one dead member in a `greet_interval_max_s`."""
_SMALLER_PART = 3
"""A peer that has lost more than one in this many members of a large run, and hears one of them again, was cut off
itself."""


@dataclass(slots=True)
class Detector:
    """Decides on the status of members, from failed probes of the prober and from claims of others."""

    table: Table
    probe_messages: ProbeMessages
    admission: Admission
    health: LocalHealth

    # --- signs of life -------------------------------------------------------------------------------------------

    def heard(self, member: Member, now: float) -> None:
        """Note a message of the known process."""
        silent_s, member.heard_s = now - member.heard_s, now
        if member.suspicion is None and not member.unreachable and member.status not in (Status.DEAD, Status.LEFT):
            return
        if member.unreachable:
            member.unreachable = False
            reason = f"heard again directly after {silent_s:.1f} s"
            self.table.note(EventKind.REACHABLE, member.name, reason, now)
            self.table.settle(member, now)
        if member.status is not Status.ALIVE:
            if member.status in (Status.DEAD, Status.LEFT):  # it may have been an old message that was delayed
                self.table.timers.set(Timer("look", member.name), self.soon(now))
            self.clear(member, f"heard again after {silent_s:.1f} s", now)

    def restarted(self, member: Member, boot: int, now: float) -> None:
        """Note a message of a newer process of a member of a large roster. Other peers may still hold the member dead
        or gone."""
        reason = "restarted" if member.boot else "heard for the first time"
        was_absent = member.status in (Status.SUSPECT, Status.DEAD, Status.LEFT, Status.REFUSED)
        member.boot, member.incarnation, member.last_word, member.accepted = boot, -1, False, False
        member.heard_s = now
        if was_absent:
            self.clear(member, reason, now)
            self.probe_messages.dissemination.tell(Claim(member.name, boot, 0, ClaimKind.ALIVE, self.table.me.name))

    def indirectly_acked(self, name: PeerName, boot: int, by: PeerName, now: float) -> None:
        """Note that a relay got an answer from a member that does not answer me."""
        member = self.table.find(name)
        if member is None or boot < member.boot or member.status is Status.REFUSED:
            return
        if boot == member.boot and member.last_word:
            return
        if boot > member.boot > 0:
            self.admission.greet_on_a_hint(member, now)
            return
        if not self.table.me.can_dial(member.address):
            self._indirectly_acked_only(member, boot, by, now)
            return
        if member.status is not Status.ALIVE and (member.accepted or self.table.presumes):
            self.clear(member, f"answers to {by}", now)
        silent_s = now - member.heard_s
        if silent_s >= self.table.limits.unreachable_after_s and not member.unreachable:
            member.unreachable = True
            reason = f"answers to {by}, but not to me for {silent_s:.1f} s"
            self.table.note(EventKind.UNREACHABLE, name, reason, now)
            self.table.settle(member, now)

    def _indirectly_acked_only(self, member: Member, boot: int, by: PeerName, now: float) -> None:
        """Two peers that nobody can dial know one another through others, and do not exchange."""
        member.boot, member.unreachable, member.heard_s = boot, True, now
        if member.status is not Status.ALIVE:
            kind = EventKind.RETURNED if member.suspicion is not None else EventKind.JOINED
            self._close(member)
            reason = f"answers to {by}; neither of us can be dialled, so there is no business between us"
            self.table.become(member, Status.ALIVE, kind, reason, now)

    def clear(self, member: Member, reason: str, now: float) -> None:
        """Note that the member lives."""
        table, dead = self.table, list[Member]()
        if table.presumes and member.status is Status.DEAD and _SMALLER_PART * len(table.dead) > table.expected:
            dead = [row for name in table.dead if (row := table.rows[name]).status is Status.DEAD]
        self._close(member)
        status = Status.ALIVE if member.accepted else Status.UNHEARD
        table.become(member, status, EventKind.RETURNED, reason, now)
        if not member.accepted:  # exchange that waited for it, if any, begins with a greeting
            table.timers.set(Timer("greet", member.name), now)
        if table.presumes:
            table.timers.set(Timer("drop", member.name), now + table.limits.business_s)
        if _SMALLER_PART * len(dead) > table.expected:
            for other in dead:
                if other is member:
                    continue
                self._close(other)
                calm = Status.ALIVE if other.accepted else Status.UNHEARD
                reason = f"presumed present again: it was me who was cut off, says {member.name}"
                table.become(other, calm, EventKind.RETURNED, reason, now)
                table.timers.set(Timer("drop", other.name), now + table.limits.business_s)

    def _close(self, member: Member) -> None:
        member.suspicion = None
        self.probe_messages.dissemination.drop(member.name)
        self._close_timers(member)

    # --- accusations of mine -------------------------------------------------------------------------------------

    def no_answer(self, name: PeerName, asked: tuple[PeerName, ...], now: float) -> None:
        """Note that a probe of mine has failed."""
        member = self.table.row(name, now)
        if member is None or member.status in (Status.DEAD, Status.LEFT, Status.REFUSED):
            return
        if member.suspicion is None:
            silent = f"silent for {now - member.heard_s:.1f} s: " if member.heard_s < now else ""
            others = f", nor to {', '.join(asked)}" if asked else ""
            self.suspect(member, max(member.incarnation, 0), f"{silent}no answer to me{others}", now)
        case = member.suspicion
        assert case is not None
        case.failures += 1
        case.confirm(self.table.me.name)
        if case.verdict is not None:
            self.declare(member, case.verdict, now)
            return
        if case.failures == 2:  # rule 3
            self._tell(member, ClaimKind.SUSPECT)
        self.table.timers.set(Timer("suspicion", name), case.deadline_s())

    def suspect(self, member: Member, incarnation: int, reason: str, now: float) -> None:
        """Make the member suspect, with time to refute from `incarnation` on."""
        table = self.table
        member.suspicion = Suspicion.begin(table.limits, table.living(), now)
        member.suspicion.incarnation = incarnation
        table.become(member, Status.SUSPECT, EventKind.SUSPECT, reason, now)
        table.timers.set(Timer("suspicion", member.name), member.suspicion.deadline_s())
        if not table.closed:
            self.admission.call_again(member)

    def time_is_over(self, name: str, now: float) -> None:
        """The member has not refuted in time: it is dead if my own probe failed too; else it is verified first."""
        member = self.table.find(name)
        if member is None or member.suspicion is None or member.status is not Status.SUSPECT:
            return
        if now < member.suspicion.deadline_s():
            self.table.timers.set(Timer("suspicion", name), member.suspicion.deadline_s())
        elif member.suspicion.failures:
            self.declare(member, ClaimKind.DEAD, now)
        else:
            member.suspicion.verdict = ClaimKind.DEAD
            self.verify(name, now)

    def verify(self, name: str, now: float) -> None:
        """Ping a member that others have called dead or gone; after a few pings without an answer it is declared so."""
        member = self.table.find(name)
        if member is None or member.suspicion is None or member.status is not Status.SUSPECT:
            return
        case = member.suspicion
        if case.verifications >= self.table.limits.verifications:
            self.declare(member, case.verdict or ClaimKind.DEAD, now)
            return
        case.verifications += 1
        self.probe_messages.ping(member.name)
        again_s = now + self.table.limits.probe_timeout_s * self.health.stretch
        self.table.timers.set(Timer("verify", name), again_s)

    def declare(self, member: Member, verdict: ClaimKind, now: float) -> None:
        """Declare that the member is dead or has left, and tell the others."""
        table = self.table
        self._close_timers(member)
        silent_s = now - member.heard_s
        if verdict is ClaimKind.LEFT:
            table.become(member, Status.LEFT, EventKind.LEFT, "it has left, say others, and does not answer", now)
            self._call_the_dead_by(now)
        else:
            reason = f"silent for {silent_s:.1f} s, and has refuted nothing"
            table.become(member, Status.DEAD, EventKind.DEAD, reason, now)
            self._call_the_dead_by(now)
        self._tell(member, verdict)

    def _close_timers(self, member: Member) -> None:
        for what in ("suspicion", "verify"):
            self.table.timers.set(Timer(what, member.name), float("inf"))

    def _tell(self, member: Member, kind: ClaimKind) -> None:
        case = member.suspicion
        level = case.incarnation if case is not None else max(member.incarnation, 0)
        self.probe_messages.dissemination.tell(Claim(member.name, member.boot, level, kind, self.table.me.name))

    # --- last messages, and the dead -------------------------------------------------------------------------------

    def left(self, member: Member, leave: Leave, now: float) -> None:
        """Handle a peer's last message, after a normal end or a crash."""
        self._close(member)
        member.last_word = True
        if leave.crashed:
            self.table.become(member, Status.DEAD, EventKind.DEAD, f"crashed: {leave.reason}", now)
            self._call_the_dead_by(now)
            self._tell(member, ClaimKind.DEAD)
            return
        self.table.become(member, Status.LEFT, EventKind.LEFT, leave.reason, now)
        self._tell(member, ClaimKind.LEFT)
        self._call_the_dead_by(now)
        if not self.table.closed:
            member.greet_gap_s = self.table.limits.greet_interval_max_s
            self.table.timers.set(Timer("greet", member.name), now + member.greet_gap_s)

    def call_the_dead(self, now: float) -> None:
        """Call one dead member, in turn: the network may have been split, or it is back and knows no address."""
        table = self.table
        if not table.dead:
            return
        name = next(iter(table.dead))
        table.dead.move_to_end(name)
        member = table.rows[name]
        self.probe_messages.ping(name)
        if not table.presumes and table.me.can_dial(member.address):
            self.admission.call_again(member)
        self._call_the_dead_by(now)

    def _call_the_dead_by(self, now: float) -> None:
        """Schedule the next call. In a large run there are few dead members and many callers: each calls less often, so
        that no machine gets thousands of calls."""
        table = self.table
        share = max(1.0, table.living() / (_CALLS_PER_INTERVAL * max(len(table.dead), 1)))
        gap_s = table.limits.greet_interval_max_s * share
        table.timers.set(Timer("dead"), now + gap_s * table.chance.uniform(0.75, 1.0))

    def soon(self, now: float) -> float:
        """A random time for a probe: spread out, so that a death or a return does not make all members probe one
        machine at once."""
        limits = self.table.limits
        spread_s = max(limits.probe_timeout_s, limits.verifications * self.table.expected / limits.verifications_per_s)
        return now + self.table.chance.uniform(0.0, spread_s)
