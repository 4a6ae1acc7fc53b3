"""Refusals, received and sent.

Rules of this file
1. No message of another peer ends me. Only a process with my own key, which answers when I greet it, proves that I am
   superseded: such a claim is believed only so far that I send that greeting. Without keys there is no proof.
2. A refusal is a statement of its sender about itself. From a process that has accepted me it is a contradiction.
   Without keys anybody may have sent it: it raises no boot, which would lock out the process that has the name.
3. What is remembered of strangers is bounded: they choose their names themselves. One event per reason is written about
   a stranger.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gossipdistill.events import Event, EventKind
from gossipdistill.ids import Boot, PeerName
from gossipdistill.presence import Address, Greeting, Refusal, RefusalCode
from gossipdistill.protocol.members import Member, Status
from gossipdistill.protocol.table import Detail, Outbound, Table, Timer

REVOKED = "revoked"
"""The code of events about a key that is not trusted any more."""
_CHALLENGED_MAX, _CHALLENGES = 4, 12


@dataclass(slots=True)
class Refusals:
    """Sends and handles refusals, on behalf of a table."""

    table: Table
    _said: set[tuple[str, str]] = field(default_factory=set)
    _challenged: dict[Address, int] = field(default_factory=dict)
    """The addresses where a newer process of my name may be, each with the number of greetings that are left."""

    # --- being turned away -----------------------------------------------------------------------------------------

    def refused_by(self, sender: PeerName, boot: Boot, refusal: Refusal, now: float) -> bool:
        """Handle a refusal of me. An event tells the owner, which decides whether to go on. Returns False for a message
        that contradicts what the same process has said before."""
        table, code, detail = self.table, refusal.code, refusal.detail
        told: Detail = {"i_am_newer": int(table.me.boot > boot)}
        member = table.row(refusal.asked if code is RefusalCode.WRONG_NAME else sender, now)
        if code is RefusalCode.SUPERSEDED:
            self._called_old(sender, boot, refusal, now)
        elif code is RefusalCode.PLACE_TAKEN and refusal.asked == table.me.name:
            self.note(EventKind.REFUSED_BY, sender, code, detail, now, {**told, "name_in_use": 1})
        elif code is RefusalCode.WRONG_NAME or member is None:
            # The peer that answers is healthy; the one that I looked for is not at this address. I keep trying.
            if member is not None and member.status is not Status.ALIVE:
                member.reason, table.pace.changed = detail, True
            self.note(EventKind.REFUSED_BY, sender, code, detail, now, told)
        elif (boot == member.boot and member.met) or self.keeps_its_name(member, boot):
            return False
        elif self.is_refused_anew(member, boot):
            member.accepted, member.reason = False, detail
            table.reset(member, Status.REFUSED, now)
            self.note_refused(member, boot)
            member.declined = True
            if table.presumes:
                member.greet_gap_s = table.limits.greet_interval_max_s / 2
                table.timers.set(Timer("greet", member.name), now + table.limits.greet_interval_max_s)
            table.lost.append((member.name, True, detail))
            table.note(EventKind.REFUSED_BY, sender, detail, now, {"code": code.value, **told})
        return True

    def _called_old(self, sender: PeerName, boot: Boot, refusal: Refusal, now: float) -> None:
        """Handle the claim that there is a newer process of my name."""
        table, me, code = self.table, self.table.me, refusal.code
        if sender == me.name and table.proven and boot > me.boot:
            self.note(EventKind.SUPERSEDED, me.name, code, refusal.detail, now)
            return
        reason = f"says that a newer process of {me.name} is here; its word ends nobody, and this process goes on"
        self.note(EventKind.WARNING, sender, code, reason, now, {"newer_boot": refusal.newer_boot})
        if refusal.newer_boot > me.boot:
            self._challenge(refusal.newer_at, now)

    def meet_my_own_name(self, other: Member, now: float) -> None:
        """Handle a greeting of another process under my name."""
        me = self.table.me
        if other.boot > me.boot:
            reason = f"another process of that name, started later, greets from {other.address}"
            reason += "" if self.table.proven else "; without keys nothing proves that it is the same peer, so I go on"
            self.note(EventKind.WARNING, me.name, RefusalCode.SUPERSEDED, reason, now)
            self._challenge(other.address, now)
        elif other.boot < me.boot:
            self.table.say(other, self.superseded(Member(me.name, me.address, me.place, boot=me.boot), other.boot))

    def _challenge(self, address: Address, now: float) -> None:
        """Greet the process with my name at this address. With keys only a process with my own key can read it."""
        if self.table.proven and len(self._challenged) < _CHALLENGED_MAX and address not in self._challenged:
            self._challenged[address] = _CHALLENGES
            self.table.timers.set(Timer("newer"), now)

    def challenges_due(self, now: float) -> None:
        """Repeat the greetings: a first one may be lost while it opens the connection."""
        table, me = self.table, self.table.me
        greeting = Greeting(me.address, me.place, me.fingerprint, (), True, me.features)
        table.out += [Outbound(me.name, 0, address, greeting) for address in self._challenged]
        self._challenged = {address: left - 1 for address, left in self._challenged.items() if left > 1}
        if self._challenged:
            table.timers.set(Timer("newer"), now + table.limits.greet_interval_s)

    # --- turning away ----------------------------------------------------------------------------------------------

    def superseded(self, newer: Member, boot: int) -> Refusal:
        """The refusal to the process `boot` of the same name."""
        later_s = (newer.boot - boot) / 1000
        detail = f"a newer process of {newer.name} was heard by {self.table.me.name} (started {later_s:.1f} s later)"
        return Refusal(RefusalCode.SUPERSEDED, detail, newer_boot=newer.boot, newer_at=newer.address)

    def name_in_use(self, member: Member, caller: Member, now: float) -> None:
        """Refuse a newer process of this name, which cannot prove that it is the same peer. It tries again."""
        detail = f"the name {member.name} is in use at {member.address}, and that process answers"
        self.table.say(caller, Refusal(RefusalCode.PLACE_TAKEN, detail, caller.name))
        reason = f"another process at {caller.address} wants its name, which is in use: not while this one answers"
        self.note(EventKind.WARNING, member.name, RefusalCode.PLACE_TAKEN, reason, now)

    def clock(self, caller: Member, mine: int) -> None:
        """Refuse a process with a boot that none can have yet."""
        detail = f"clock, in milliseconds since 1970: {mine} here, {caller.boot} there"
        self.table.say(caller, Refusal(RefusalCode.FINGERPRINT, detail))

    def version(self, sender: PeerName, boot: Boot, refusal: Refusal, now: float) -> bool:
        """Refuse a process with another wire version. Returns False for one that is no member, whose address I do not
        know."""
        table, member = self.table, self.table.row(sender, now)
        told: Detail = {"code": refusal.code.value, "i_am_newer": int(table.me.boot > boot)}
        if member is None:  # not in the roster, and no reason to end
            told["i_am_newer"] = 0 if table.closed else told["i_am_newer"]
            self.note(EventKind.REFUSED, sender, refusal.code, refusal.detail, now, told)
            return False
        if boot < member.boot or (boot == member.boot and member.accepted):
            return True  # an older process, or a forgery: a process does not change its version
        if self.keeps_its_name(member, boot):
            self.note(EventKind.REFUSED, sender, refusal.code, refusal.detail, now, told)
            return False
        if self.is_refused_anew(member, boot):
            member.accepted = False
            table.become(member, Status.REFUSED, EventKind.REFUSED, refusal.detail, now, told)
            self.note_refused(member, boot)
            member.greet_gap_s, member.greet_at_s = table.limits.greet_interval_s, now
        if now >= member.greet_at_s:  # at growing intervals: a refusal may be lost, and it may answer each
            table.say(Member(sender, member.address, member.place, boot=boot), refusal)
            member.greet_at_s = now + member.greet_gap_s
            member.greet_gap_s *= 2
        return True

    def all_of(self, name: PeerName, why: str, now: float) -> None:
        """Refuse every known process of `name`; a later one starts anew, with any boot."""
        table, member = self.table, self.table.row(name, now)
        if member is None:
            table.note(EventKind.REFUSED, name, why, now, {"code": REVOKED})
            return
        table.reset(member, Status.REFUSED, now)
        table.become(member, Status.REFUSED, EventKind.REFUSED, why, now, {"code": REVOKED})
        member.boot, member.incarnation, member.accepted, member.met, member.last_word = 0, -1, False, False, False

    # --- whose process counts --------------------------------------------------------------------------------------

    def keeps_its_name(self, member: Member, boot: int) -> bool:
        """Whether the known process keeps its name against a newer one, because it answers: without keys nothing proves
        that the two are the same peer."""
        answers = member.accepted and member.status in (Status.ALIVE, Status.SUSPECT)
        return not self.table.proven and answers and boot > member.boot > 0

    def is_refused_anew(self, member: Member, boot: int) -> bool:
        """Whether a refusal of this process, or by it, is new."""
        if member.status is not Status.REFUSED:
            return boot >= member.boot
        return self.table.proven and boot > member.boot

    def note_refused(self, member: Member, boot: int) -> None:
        """Note a refusal. Without keys anybody may have sent it: its boot is not believed, and the same process may
        greet again."""
        if self.table.proven and boot > member.boot:
            # The last message and the incarnation of the process before it do not hold for this one.
            member.boot, member.incarnation, member.last_word = boot, -1, False
        member.declined = not self.table.proven

    # --- saying so -------------------------------------------------------------------------------------------------

    def note(
        self, kind: EventKind, name: PeerName, code: RefusalCode, reason: str, now: float, told: Detail | None = None
    ) -> None:
        """Write an event about a peer that has no row to remember it: once per name and code."""
        if (name, kind + code) not in self._said and len(self._said) < self.table.limits.strangers_max:
            self._said.add((name, kind + code))
            shown: Detail = {"code": code.value, "i_am_newer": 0, **(told or {})}
            self.table.events.append(Event(kind, now, name, reason, shown))
