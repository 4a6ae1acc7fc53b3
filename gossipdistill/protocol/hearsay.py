"""How claims of others about a member are handled.

Rules of this file
1. Only its owner raises a refutation number. One that is more than `incarnation_jump_max` above the known is a lie.
2. An accusation that is older than a refutation or a message that I know of is void: I say so, or probe the accused.
3. The detector decides on all else: what others say makes a member at most suspect.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gossipdistill.events import EventKind
from gossipdistill.presence import Claim, ClaimKind, Contact
from gossipdistill.protocol.admission import Admission
from gossipdistill.protocol.detector import Detector
from gossipdistill.protocol.members import Member, Status
from gossipdistill.protocol.probe_messages import ProbeMessages
from gossipdistill.protocol.suspicion import LocalHealth
from gossipdistill.protocol.table import Table, Timer


@dataclass(slots=True)
class Hearsay:
    """Filters claims, and passes those that may be true to the detector."""

    table: Table
    probe_messages: ProbeMessages
    admission: Admission
    health: LocalHealth
    detector: Detector

    def hear(self, claims: Iterable[Claim], now: float) -> None:
        """Handle the claims piggybacked on a probe or an answer."""
        for claim in claims:
            if claim.name == self.table.me.name:
                self._about_me(claim, now)
            else:
                self._hear(claim, now)

    def _about_me(self, claim: Claim, now: float) -> None:
        me, own = self.table.me, self.probe_messages.incarnation
        if claim.kind is ClaimKind.ALIVE or claim.boot not in (0, me.boot):
            return
        if claim.incarnation > own + self.table.limits.incarnation_jump_max:
            return  # rule 1
        if claim.incarnation >= own:
            self.probe_messages.incarnation = claim.incarnation + 1
            self.health.worse()
            reason = f"called {claim.kind.value} by {claim.by}, and not so"
            self.table.note(EventKind.REFUTED, me.name, reason, now)
        self.probe_messages.claim_that_i_live()

    def _hear(self, claim: Claim, now: float) -> None:
        table, alive = self.table, claim.kind is ClaimKind.ALIVE
        member = table.rows.get(claim.name)
        if member is None:
            if not table.closed:
                self._hear_of_a_newcomer(claim, now)
                return
            if alive or not table.presumes or claim.name not in table.directory.places:
                return
            member = table.row(claim.name, now)
            assert member is not None
            member.heard_s = now - 2 * table.limits.probe_interval_s
        gone = member.status is Status.REFUSED or (member.status is Status.LEFT and not alive)
        if gone or (member.status is Status.UNHEARD and not table.presumes):
            return
        if 0 < claim.boot < member.boot:
            return
        if claim.boot > member.boot and (member.boot or alive):
            if alive:
                self._hear_of_a_newer_process(member, now)
            return
        if 0 <= member.incarnation < claim.incarnation - table.limits.incarnation_jump_max:
            return  # rule 1
        if alive:
            self._hear_incarnation(member, claim, now)
        elif (
            claim.incarnation >= member.incarnation and member.heard_s <= now - table.limits.probe_interval_s
        ):  # rule 2
            self._hear_accusation(member, claim, now)
        elif claim.incarnation < member.incarnation or claim.kind is not ClaimKind.SUSPECT:
            self._hear_of_old(member, claim.incarnation < member.incarnation, now)

    def _hear_of_old(self, member: Member, refuted: bool, now: float) -> None:
        """Handle an accusation that the member has refuted already: tell the accuser. But the accused may have ended
        since, and I be the last to notice; so if it was not heard lately, I probe it first. I also probe it if it has
        refuted nothing and was heard just now, for that may have been an old message that was delayed."""
        limits = self.table.limits
        here = member.status in (Status.ALIVE, Status.UNHEARD)  # a last message also counts as heard
        if not here or now < member.hinted_s + limits.greet_interval_max_s:
            return
        member.hinted_s = now
        if refuted and member.heard_s > now - limits.unreachable_after_s:
            claim = Claim(member.name, member.boot, member.incarnation, ClaimKind.ALIVE, self.table.me.name)
            self.probe_messages.dissemination.tell(claim)
        else:
            self.table.timers.set(Timer("look", member.name), self.detector.soon(now))

    def _hear_of_a_newcomer(self, claim: Claim, now: float) -> None:
        if claim.kind is not ClaimKind.ALIVE or claim.address is None:
            return
        if self.admission.learn_of(Contact(claim.name, claim.address, claim.place), now):
            self.probe_messages.dissemination.tell(claim)

    def _hear_of_a_newer_process(self, member: Member, now: float) -> None:
        if not self.table.presumes:
            self.admission.greet_on_a_hint(member, now)
        elif member.status in (Status.SUSPECT, Status.DEAD, Status.LEFT):
            self.table.timers.set(Timer("hint", member.name), self.detector.soon(now))

    def _hear_incarnation(self, member: Member, claim: Claim, now: float) -> None:
        level = member.suspicion.incarnation if member.suspicion is not None else max(member.incarnation, 0)
        if claim.incarnation <= level:
            return
        member.incarnation = claim.incarnation
        if member.suspicion is not None and not member.last_word:
            self.detector.clear(member, f"has refuted it ({claim.incarnation})", now)
        # Also if it was heard before: other peers may hold it dead, and it may have no connection to them.
        self.probe_messages.dissemination.tell(claim)

    def _hear_accusation(self, member: Member, claim: Claim, now: float) -> None:
        if member.status is Status.DEAD:
            return
        if member.suspicion is None:
            word = "suspected" if claim.kind is ClaimKind.SUSPECT else f"called {claim.kind.value}"
            self.detector.suspect(member, claim.incarnation, f"{word} by {claim.by}", now)
        case = member.suspicion
        assert case is not None
        case.incarnation = max(case.incarnation, claim.incarnation)
        news = case.confirm(claim.by)
        if claim.kind is not ClaimKind.SUSPECT and case.verdict is None:
            case.verdict = claim.kind
            if case.failures:
                self.detector.declare(member, claim.kind, now)
                return
            self.table.timers.set(Timer("verify", member.name), self.detector.soon(now))
            news = True
        if news:
            self.probe_messages.dissemination.tell(claim)
            self.table.timers.set(Timer("suspicion", member.name), max(case.deadline_s(), now))
