"""Who may take part: greetings, refusals with their reason, places, and newcomers.

Rules of this file
1. A greeting comes before all business: both sides must agree on the fingerprint, entry by entry, and on places.
2. A newer boot of a name replaces the older; the older is told so when it greets, and exits.
3. What is remembered of strangers is bounded: they choose their names themselves. Of a stranger one event per reason.
4. What a third peer says of somebody is worth a greeting or a ping of my own, never a status.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gossipdistill.events import Event, EventKind
from gossipdistill.ids import Boot, PeerName
from gossipdistill.messages import Envelope
from gossipdistill.presence import Address, Contact, Greeting, Refusal, RefusalCode
from gossipdistill.protocol.members import Member, Status, fingerprint_difference
from gossipdistill.protocol.table import Detail, Outbound, Table, Timer


@dataclass(slots=True)
class Admission:
    """Greets and is greeted, on behalf of a table."""

    table: Table
    seeds: list[Address] = field(default_factory=list)
    _said: set[tuple[str, str]] = field(default_factory=set)
    _contacts_told: int = 0

    # --- calling others ------------------------------------------------------------------------------------------

    def greet_seeds(self, now: float) -> None:
        """Once everybody is known a seed has nothing left to tell; until then even one that is a member has."""
        table = self.table
        gap_s = table.limits.greet_interval_max_s if table.rows else 2 * table.limits.greet_interval_s
        table.timers.set(Timer("seed"), now + gap_s)
        if len(table.rows) + 1 < table.expected:
            table.out += [Outbound("", 0, address, self._greeting(reply_wanted=True)) for address in self.seeds]

    def unanswered(self) -> list[tuple[str, Address]]:
        """Whom I call in vain: (name, or "" of a seed, and address) of those who have never said a word; nobody, when
        all are known. Of a large roster few are called, and silence says nothing."""
        table = self.table
        heard = [member for member in table.rows.values() if member.boot]
        if table.presumes or len(heard) + 1 >= table.expected:
            return []
        known = {member.address for member in table.rows.values()}
        silent = [(str(m.name), m.address) for m in table.rows.values() if not m.boot and m.address.port]
        return [*(("", seed) for seed in self.seeds if seed not in known), *silent]

    def greet_soon(self, member: Member, now: float) -> None:
        """Not at once for each cause: a stream of words must not become a stream of greetings."""
        limits = self.table.limits
        member.greet_gap_s = limits.greet_interval_s / 2
        member.greet_at_s = min(max(member.greet_at_s, now), now + limits.greet_interval_s)
        self.table.timers.set(Timer("greet", member.name), member.greet_at_s)

    def greet_on_a_hint(self, member: Member, now: float) -> None:
        """Somebody says that there is a newer process, or it takes me for an older one: one greeting, now and then."""
        if now >= member.hinted_s + self.table.limits.greet_interval_max_s:
            member.hinted_s = now
            self.table.say(member, self._greeting(reply_wanted=True))

    def greet_due(self, name: str, wanted: bool, now: float) -> None:
        """Call somebody that was never heard, or that may be back knowing me no longer; ever more seldom."""
        table, member = self.table, self.table.find(name)
        # Without a roster even one that left: it may come back and not know whom to call.
        if member is None or not (wanted or (member.status is Status.LEFT and not table.closed)):
            return
        if member.address.port or member.boot:  # a peer without an address is answered, not called
            table.say(member, self._greeting(reply_wanted=True))
        self._greet_later(member, now)

    def _greet_later(self, member: Member, now: float) -> None:
        limits = self.table.limits
        member.greet_gap_s = min(max(2 * member.greet_gap_s, limits.greet_interval_s), limits.greet_interval_max_s)
        member.greet_at_s = now + member.greet_gap_s
        self.table.timers.set(Timer("greet", member.name), member.greet_at_s)

    def call_again(self, member: Member) -> None:
        """Greet one that is dead or suspect: a process that came back without a roster learns of me by that alone."""
        self.table.say(member, self._greeting(reply_wanted=True))

    def await_greeting(self, member: Member, now: float) -> None:
        """A word of a process that I have not accepted yet."""
        if member.status is not Status.UNHEARD:
            member.reason = "a new process, not greeted yet"
            self._reset(member, Status.UNHEARD, now)
        member.accepted = member.met = False
        self.greet_soon(member, now)

    def _reset(self, member: Member, status: Status, now: float) -> None:
        member.status, member.suspicion, member.unreachable = status, None, False
        self.table.dead.pop(member.name, None)
        self.table.suspects.pop(member.name, None)
        self.table.settle(member, now)

    # --- being called --------------------------------------------------------------------------------------------

    def greeted(self, envelope: Envelope, greeting: Greeting, now: float) -> None:
        """A greeting came."""
        table, sender, boot, to = self.table, envelope.sender, envelope.boot, envelope.to
        caller = Member(sender, greeting.address, greeting.place, boot=boot)
        if sender == table.me.name:
            self._meet_my_own_name(caller, now)
            return
        if to and to != table.me.name:
            detail = f"this address belongs to {table.me.name}, not to {to}"
            table.say(caller, Refusal(RefusalCode.WRONG_NAME, detail, to))
            return
        member = table.row(sender, now) or self._admit(caller, now)
        if member is None or (member.last_word and boot == member.boot):
            return
        if boot < member.boot:
            table.say(caller, Refusal(RefusalCode.SUPERSEDED, self._newer_process(sender, boot, member.boot)))
            return
        code, difference = self._difference(member, greeting)
        if difference:
            if member.status is not Status.REFUSED or boot > member.boot:
                table.become(member, Status.REFUSED, EventKind.REFUSED, difference, now)
            member.boot, member.accepted = boot, False
            table.say(caller, Refusal(code, difference))
        elif member.status is not Status.REFUSED or boot > member.boot:
            self._accept(member, envelope, greeting, now)

    def _accept(self, member: Member, envelope: Envelope, greeting: Greeting, now: float) -> None:
        table, boot = self.table, envelope.boot
        fresh = boot > member.boot or not member.accepted or member.last_word
        restarted = 0 < member.boot < boot
        if boot > member.boot:
            member.refutation = -1
        member.address, member.place, member.boot, member.accepted = greeting.address, greeting.place, boot, True
        member.met = envelope.to_boot == table.me.boot or (member.met and not fresh)
        member.features = frozenset(greeting.features)
        member.last_word = False
        if greeting.reply_wanted or fresh:  # also to a reply: it tells the other that it is accepted
            table.say(member, self._greeting(reply_wanted=False))
        for contact in greeting.contacts:
            self.learn_of(contact, now)
        if not fresh:
            table.settle(member, now)
            return
        if table.presumes and not member.met:  # in a large run my answer may be lost, and it need not call again
            self._greet_later(member, now)
        member.done, member.step, member.heard_s = False, 0, now
        member.suspicion, member.unreachable = None, False
        kind = EventKind.RETURNED if restarted else EventKind.JOINED
        word = "restarted, " if restarted else ""
        seen = min(table.living() + (not table.presumes and member.status is not Status.ALIVE), table.expected)
        table.back.append((member.name, True))
        table.become(member, Status.ALIVE, kind, f"{word}{seen} of {table.expected} peers here", now)

    def _difference(self, member: Member, greeting: Greeting) -> tuple[RefusalCode, str]:
        """Why we cannot work together, in words; empty when nothing differs."""
        me = self.table.me
        difference = fingerprint_difference(me.fingerprint, greeting.fingerprint)
        if not difference and greeting.place != member.place:
            if not self.table.closed:
                return RefusalCode.PLACE_TAKEN, self._place_problem(member.name, greeting.place)
            # Two rosters in another order would deal the same shard twice.
            difference = f"place in the roster: {member.place + 1} here, {greeting.place + 1} there"
        return RefusalCode.FINGERPRINT, difference

    def _admit(self, stranger: Member, now: float) -> Member | None:
        """A row for a name that is not in my table, unless the roster is closed or its place is taken."""
        table = self.table
        if table.closed or len(table.rows) + 1 >= table.limits.peers_max:
            code, problem = RefusalCode.NOT_IN_ROSTER, f"{stranger.name} is not in the roster of {table.me.name}"
        else:
            code, problem = RefusalCode.PLACE_TAKEN, self._place_problem(stranger.name, stranger.place)
        if problem:
            table.say(stranger, Refusal(code, problem))
            self._note(EventKind.REFUSED, stranger.name, code, problem, now)
            return None
        return self._add(Contact(stranger.name, stranger.address, stranger.place), now)

    def _place_problem(self, name: PeerName, place: int) -> str:
        table = self.table
        places = {table.me.place: table.me.name} | {m.place: m.name for m in table.rows.values() if m.name != name}
        holder = places.get(place)
        if holder is None and place < table.expected:
            return ""
        return f"place {place + 1}/{table.expected} " + (f"is {holder}'s" if holder else "does not exist")

    def learn_of(self, contact: Contact, now: float) -> bool:
        """A third peer, named by another: worth a greeting of my own. Whether it is new to me."""
        table = self.table
        if table.closed or contact.name == table.me.name or contact.name in table.rows:
            return False
        if len(table.rows) + 1 >= table.expected or self._place_problem(contact.name, contact.place):
            return False
        self._add(contact, now)
        return True

    def _add(self, contact: Contact, now: float) -> Member:
        member = self.table.add(contact, now)
        if not self.table.presumes:
            self.greet_first(member, now)
        return member

    def greet_first(self, member: Member, now: float) -> None:
        """The first greeting of one that was never heard."""
        member.greet_at_s, member.greet_gap_s = now, self.table.limits.greet_interval_s / 2
        self.table.timers.set(Timer("greet", member.name), now)

    # --- being turned away, and turning away -----------------------------------------------------------------------

    def refused_by(self, sender: PeerName, boot: Boot, refusal: Refusal, now: float) -> None:
        """Somebody does not talk to me. Whether to go on without it is the owner's decision, told by the event."""
        table, code, detail = self.table, refusal.code, refusal.detail
        member = table.row(refusal.asked if code is RefusalCode.WRONG_NAME else sender, now)
        newer = int(table.me.boot > boot)
        if code is RefusalCode.SUPERSEDED:
            self._note(EventKind.SUPERSEDED, table.me.name, code, detail, now)
        elif code is RefusalCode.WRONG_NAME or member is None:
            # The one who answers is well; it is the one looked for who is not where I thought. I try on.
            if member is not None and member.status is not Status.ALIVE:
                member.reason, table.changed = detail, True
            self._note(EventKind.REFUSED_BY, sender, code, detail, now, newer)
        elif boot > member.boot or (boot == member.boot and member.status is not Status.REFUSED):
            member.boot, member.accepted, member.reason = boot, False, detail
            self._reset(member, Status.REFUSED, now)
            table.lost.append((member.name, True, detail))
            table.note(EventKind.REFUSED_BY, sender, detail, now, {"code": code.value, "i_am_newer": newer})

    def refuse_version(self, sender: PeerName, boot: Boot, refusal: Refusal, now: float) -> bool:
        """A process speaks another wire version. False for one that is no member, whose address I do not know."""
        table, member = self.table, self.table.row(sender, now)
        newer = int(table.me.boot > boot)
        if member is None:  # to a roster it is nobody, and no reason to go
            self._note(EventKind.REFUSED, sender, refusal.code, refusal.detail, now, 0 if table.closed else newer)
            return False
        if boot < member.boot or (boot == member.boot and member.accepted):
            return True  # said before by another process, or in its name: a process does not change its version
        if member.status is not Status.REFUSED or boot > member.boot:
            member.boot, member.accepted = boot, False
            shown: Detail = {"code": refusal.code.value, "i_am_newer": newer}
            table.become(member, Status.REFUSED, EventKind.REFUSED, refusal.detail, now, shown)
            member.greet_gap_s, member.greet_at_s = table.limits.greet_interval_s, now
        if now >= member.greet_at_s:  # ever more seldom: a refusal may be lost, and it may answer each of them
            table.say(member, refusal)
            member.greet_at_s = now + member.greet_gap_s
            member.greet_gap_s *= 2
        return True

    def _meet_my_own_name(self, other: Member, now: float) -> None:
        me = self.table.me
        if other.boot > me.boot:
            reason = f"a newer process of {me.name} at {other.address} took over"
            self._note(EventKind.SUPERSEDED, me.name, RefusalCode.SUPERSEDED, reason, now)
        elif other.boot < me.boot:
            detail = self._newer_process(me.name, other.boot, me.boot)
            self.table.say(other, Refusal(RefusalCode.SUPERSEDED, detail))

    # --- small steps ---------------------------------------------------------------------------------------------

    def _greeting(self, reply_wanted: bool) -> Greeting:
        table, contacts = self.table, tuple[Contact, ...]()
        if not table.closed:
            known = [m for m in table.rows.values() if m.status is Status.ALIVE]
            count = min(len(known), table.limits.contacts_per_greeting_max)
            turn = [known[(self._contacts_told + index) % len(known)] for index in range(count)]
            self._contacts_told += count
            contacts = tuple(Contact(m.name, m.address, m.place) for m in turn)
        me = table.me
        return Greeting(me.address, me.place, me.fingerprint, contacts, reply_wanted, me.features)

    def _newer_process(self, name: PeerName, boot: int, newer: int) -> str:
        seconds = (newer - boot) / 1000
        return f"a newer process of {name} was heard by {self.table.me.name} (started {seconds:.1f} s later)"

    def _note(
        self, kind: EventKind, name: PeerName, code: RefusalCode, reason: str, now: float, newer: int = 0
    ) -> None:
        """An event about somebody who has no row that could remember it: said once per name and code."""
        if (name, kind + code) not in self._said and len(self._said) < self.table.limits.strangers_max:
            self._said.add((name, kind + code))
            self.table.events.append(Event(kind, now, name, reason, {"code": code.value, "i_am_newer": newer}))
