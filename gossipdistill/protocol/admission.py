"""Admission: greetings, places, and newcomers.

Rules of this file
1. A greeting comes before any exchange: both sides must agree on the fingerprint, entry by entry, and on places.
2. With keys a newer boot of a name replaces the older at once. Without keys, nothing proves that it is the same peer:
   at another address it waits until the older process no longer answers. At the same address only one can listen.
3. What a third peer says of a member causes a greeting or a ping of my own, never a change of status.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gossipdistill.events import EventKind
from gossipdistill.ids import PeerName
from gossipdistill.messages import Envelope
from gossipdistill.presence import Address, Contact, Greeting, Refusal, RefusalCode
from gossipdistill.protocol.members import Member, Status, fingerprint_difference
from gossipdistill.protocol.refusals import Refusals
from gossipdistill.protocol.table import Outbound, Table, Timer

_SELDOM = 8
"""The longest gap between two greetings is this many times as long for a member that has refused me."""


@dataclass(slots=True)
class Admission:
    """Sends and receives greetings, on behalf of a table."""

    table: Table
    seeds: list[Address] = field(default_factory=list)
    refusals: Refusals = field(init=False)
    _contacts_told: int = 0

    def __post_init__(self) -> None:
        self.refusals = Refusals(self.table)

    # --- calling others ------------------------------------------------------------------------------------------

    def greet_seeds(self, now: float) -> None:
        """Greet the seeds until all peers are known, even seeds that are members already."""
        table = self.table
        gap_s = table.limits.greet_interval_max_s if table.rows else 2 * table.limits.greet_interval_s
        table.timers.set(Timer("seed"), now + gap_s)
        if len(table.rows) + 1 < table.expected:
            table.out += [Outbound("", 0, address, self._greeting(reply_wanted=True)) for address in self.seeds]

    def addresses(self) -> set[Address]:
        """The addresses of all members and seeds."""
        table = self.table
        named = {contact.address for contact in table.directory if contact.name not in table.rows}
        rows = {member.address for member in table.rows.values()}
        return (named | rows | set(self.seeds)) - {table.me.address}

    def unanswered(self) -> list[tuple[str, Address]]:
        """(name, or "" for a seed, and address) of the peers that I have greeted and that have never answered; empty
        when all peers are known. In a large roster few are greeted, and silence means nothing."""
        table = self.table
        heard = [member for member in table.rows.values() if member.boot]
        if table.presumes or len(heard) + 1 >= table.expected:
            return []
        known = {member.address for member in table.rows.values()}
        silent = [(str(m.name), m.address) for m in table.rows.values() if not m.boot and m.address.port]
        return [*(("", seed) for seed in self.seeds if seed not in known), *silent]

    def greet_soon(self, member: Member, now: float) -> None:
        """Greet this member soon, but not once for each cause: a stream of messages must not become a stream of
        greetings."""
        limits = self.table.limits
        member.greet_gap_s = limits.greet_interval_s / 2
        member.greet_at_s = min(max(member.greet_at_s, now), now + limits.greet_interval_s)
        self.table.timers.set(Timer("greet", member.name), member.greet_at_s)

    def greet_on_a_hint(self, member: Member, now: float) -> None:
        """Greet once, rarely: a peer says that there is a newer process, or the member takes me for an older one."""
        if now >= member.hinted_s + self.table.limits.greet_interval_max_s:
            member.hinted_s = now
            self.table.say(member, self._greeting(reply_wanted=True))

    def greet_due(self, name: str, wanted: bool, now: float) -> None:
        """Greet a member that was never heard, or that may be back without knowing me, at growing intervals."""
        table, member = self.table, self.table.find(name)
        if member is None:
            return
        # Without a roster also a member that left is greeted: it may come back and know no address. In a large run a
        # member that refused me and has accepted me since probes me without a greeting, and its probes do not say so.
        may_be_back = member.status is Status.LEFT and not table.closed
        if not (wanted or may_be_back or (member.declined and table.presumes)):
            return
        if member.address.port or member.boot:  # a peer without an address is answered, never dialled
            table.say(member, self._greeting(reply_wanted=True))
        self._greet_later(member, now)

    def _greet_later(self, member: Member, now: float) -> None:
        limits = self.table.limits
        longest_s = limits.greet_interval_max_s * (_SELDOM if member.status is Status.REFUSED else 1)
        member.greet_gap_s = min(max(2 * member.greet_gap_s, limits.greet_interval_s), longest_s)
        member.greet_at_s = now + member.greet_gap_s
        self.table.timers.set(Timer("greet", member.name), member.greet_at_s)

    def call_again(self, member: Member) -> None:
        """Greet a dead or suspect member: a process that came back without a roster learns of me only by this."""
        self.table.say(member, self._greeting(reply_wanted=True))

    def await_greeting(self, member: Member, now: float) -> None:
        """Handle a message of a process that I have not accepted yet: greet it."""
        if member.status is not Status.UNHEARD:
            member.reason = "a new process, not greeted yet"
            self.table.reset(member, Status.UNHEARD, now)
        member.accepted = member.met = False
        self.greet_soon(member, now)

    # --- being called --------------------------------------------------------------------------------------------

    def greeted(self, envelope: Envelope, greeting: Greeting, now: float) -> None:
        """Handle a greeting."""
        table, sender, boot, to = self.table, envelope.sender, envelope.boot, envelope.to
        caller = Member(sender, greeting.address, greeting.place, boot=boot)
        if sender == table.me.name:
            self.refusals.meet_my_own_name(caller, now)
            return
        if to and to != table.me.name:
            detail = f"this address belongs to {table.me.name}, not to {to}"
            table.say(caller, Refusal(RefusalCode.WRONG_NAME, detail, to))
            return
        member = table.row(sender, now) or self._admit(caller, now)
        if member is None or (member.last_word and boot == member.boot):
            return
        if boot < member.boot:
            table.say(caller, self.refusals.superseded(member, boot))
            return
        if greeting.address != member.address and self.refusals.keeps_its_name(member, boot):
            self.refusals.name_in_use(member, caller, now)
            return
        code, difference = self._difference(member, greeting)
        if difference:
            if self.refusals.is_refused_anew(member, boot):
                table.become(member, Status.REFUSED, EventKind.REFUSED, difference, now)
                self.refusals.note_refused(member, boot)
            member.accepted = False
            table.say(caller, Refusal(code, difference))
        elif member.status is not Status.REFUSED or member.declined or boot > member.boot:
            self._accept(member, envelope, greeting, now)

    def _accept(self, member: Member, envelope: Envelope, greeting: Greeting, now: float) -> None:
        table, boot = self.table, envelope.boot
        fresh = boot > member.boot or not member.accepted or member.last_word
        restarted = 0 < member.boot < boot
        former = Member(member.name, member.address, member.place, boot=member.boot)
        if boot > member.boot:
            member.incarnation = -1
        member.address, member.place, member.boot, member.accepted = greeting.address, greeting.place, boot, True
        member.met = envelope.to_boot == table.me.boot or (member.met and not fresh)
        if restarted and former.address != member.address:  # it may live on, and learns of it only by this
            table.say(former, self.refusals.superseded(member, former.boot))
        member.features = frozenset(greeting.features)
        member.last_word = member.declined = False
        if greeting.reply_wanted or fresh:  # also to a reply: it tells the sender that it is accepted
            table.say(member, self._greeting(reply_wanted=False))
        for contact in greeting.contacts:
            self.learn_of(contact, now)
        if not fresh:
            table.settle(member, now)
            return
        if table.presumes and not member.met:  # in a large run my answer may be lost, and it need not greet again
            self._greet_later(member, now)
        member.done, member.step, member.heard_s = False, 0, now
        member.suspicion, member.unreachable = None, False
        kind = EventKind.RETURNED if restarted else EventKind.JOINED
        word = "restarted, " if restarted else ""
        seen = min(table.living() + (not table.presumes and member.status is not Status.ALIVE), table.expected)
        table.back.append((member.name, True))
        table.become(member, Status.ALIVE, kind, f"{word}{seen} of {table.expected} peers here", now)

    def _difference(self, member: Member, greeting: Greeting) -> tuple[RefusalCode, str]:
        """Why we cannot exchange, as (code, words); the words are empty when nothing differs."""
        me = self.table.me
        difference = fingerprint_difference(me.fingerprint, greeting.fingerprint)
        if not difference and greeting.place != member.place:
            if not self.table.closed:
                return RefusalCode.PLACE_TAKEN, self._place_problem(member.name, greeting.place)
            # Two rosters in different orders would give out the same shard twice.
            difference = f"place in the roster: {member.place + 1} here, {greeting.place + 1} there"
        return RefusalCode.FINGERPRINT, difference

    def _admit(self, stranger: Member, now: float) -> Member | None:
        """Add a row for a name that is not in my table; None if the roster is closed or the place is taken."""
        table = self.table
        if table.closed or len(table.rows) + 1 >= table.limits.peers_max:
            code, problem = RefusalCode.NOT_IN_ROSTER, f"{stranger.name} is not in the roster of {table.me.name}"
        else:
            code, problem = RefusalCode.PLACE_TAKEN, self._place_problem(stranger.name, stranger.place)
        if problem:
            table.say(stranger, Refusal(code, problem))
            self.refusals.note(EventKind.REFUSED, stranger.name, code, problem, now)
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
        """Note a peer that another one has named; it is greeted. Returns whether it is new to me."""
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
        """Schedule the first greeting of a member that was never heard."""
        member.greet_at_s, member.greet_gap_s = now, self.table.limits.greet_interval_s / 2
        self.table.timers.set(Timer("greet", member.name), now)

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
