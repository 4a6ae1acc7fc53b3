"""Who is there: greetings, heartbeats, suspicion by silence, and refusals with their reason.

The life of a member, as I see it

    unheard --greeting accepted--> alive --silence--> suspect --more silence--> dead
                                     ^------- any word of the same process --------'
    any state --a newer boot--> greeted afresh        any state --last word--> left
    any state --a difference in the greeting--> refused (until a newer boot tries again)

Rules of this file
1. Only silence on my own clock makes a suspect. If I notice that I myself was stopped, I forgive that time first.
2. A newer boot of a name replaces the older; the older is told so when it greets, and exits.
3. One event per change of state, with the reason in words; of a stranger, one per reason.
4. What is remembered of strangers is bounded: they choose their names themselves.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from gossipdistill.events import Event, EventKind
from gossipdistill.ids import Boot, PeerName
from gossipdistill.limits import Limits
from gossipdistill.messages import (
    Address,
    Contact,
    Envelope,
    Greeting,
    Leave,
    Message,
    Neighbourhood,
    Ping,
    Refusal,
    RefusalCode,
)
from gossipdistill.protocol.members import Identity, Member, Status, fingerprint_difference

__all__ = ["Identity", "Member", "Membership", "Outbound", "Status", "fingerprint_difference"]


class Outbound(NamedTuple):
    """A message on its way out: to whom ("": only the address is known), to which process of it (0: any)."""

    to: str
    to_boot: int
    address: Address
    message: Message


@dataclass(slots=True)
class Membership:
    """The table of members and the messages it wants sent.

    With `closed` only the members given at the start may join (a roster); without, any name may, up to `expected`.
    """

    me: Identity
    limits: Limits
    expected: int
    closed: bool
    members: dict[PeerName, Member] = field(default_factory=dict)
    seeds: list[Address] = field(default_factory=list)
    out: list[Outbound] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    changed: bool = True
    lost: list[tuple[PeerName, bool, str]] = field(default_factory=list)
    """Who became dead, or (True) left or was refused, since the owner looked last, and why."""
    _started_s: float = 0.0
    _heartbeat_at_s: float = 0.0
    _seed_at_s: float = 0.0
    _view_at_s: float | None = None
    _due_s: float | None = None
    _pause_said_s: float = float("-inf")
    _said: set[tuple[str, str]] = field(default_factory=set)
    _contacts_told: int = 0

    def start(self, contacts: Iterable[Contact], seeds: Iterable[Address], now: float) -> None:
        """Learn whom to look for. Greetings go out at the next time-out, which is due at once."""
        self._started_s = self._heartbeat_at_s = self._seed_at_s = now
        self._view_at_s = now + self.limits.view_after_s
        self.seeds = [address for address in seeds if address != self.me.address]
        for contact in contacts:
            if contact.name != self.me.name:
                self._add(contact, now)

    # --- time ----------------------------------------------------------------------------------------------------

    def next_timeout(self) -> float:
        """The clock reading at which `handle_timeout` wants to be called."""
        dues = [self._heartbeat_at_s]
        if self._view_at_s is not None:
            dues.append(self._view_at_s)
        if self.seeds:
            dues.append(self._seed_at_s)
        for member in self.members.values():
            if self._is_greeted(member):
                dues.append(member.greet_at_s)
            if member.status is Status.ALIVE:
                dues.append(member.heard_s + self.limits.suspect_after_s)
            elif member.status is Status.SUSPECT:
                dues.append(member.heard_s + self.limits.dead_after_s)
        self._due_s = min(dues)
        return self._due_s

    def beat_due(self, now: float) -> bool:
        """Whether the next `handle_timeout` sends heartbeats."""
        return now >= self._heartbeat_at_s

    def handle_timeout(self, now: float, step: int, done: bool, spoken: Container[PeerName] = ()) -> None:
        """Greet, beat, suspect and bury, as due. `step` and `done` are my own progress, for the heartbeat; whoever is
        in `spoken` has had another sign of life from me since the last one."""
        self._forgive_my_own_pause(now)
        for member in self.members.values():
            self._watch(member, now)
        if now >= self._heartbeat_at_s:
            self._heartbeat_at_s = now + self.limits.heartbeat_interval_s
            for member in self.members.values():
                if member.status is Status.SUSPECT or (member.status is Status.ALIVE and member.name not in spoken):
                    self._say(member, Ping(0, step, done))
        if self.seeds and now >= self._seed_at_s:
            gap_s = self.limits.greet_interval_max_s if self.members else 2 * self.limits.greet_interval_s
            self._seed_at_s = now + gap_s
            # Once everybody is known a seed has nothing left to tell; until then even one that is a member has.
            if len(self.members) + 1 < self.expected:
                for address in self.seeds:
                    self.out.append(Outbound("", 0, address, self._greeting(reply_wanted=True)))
        if self._view_at_s is not None and now >= self._view_at_s:
            self._view_at_s = None
            self._report_view(now)

    def _forgive_my_own_pause(self, now: float) -> None:
        """Silence while I was stopped (SIGSTOP, a suspended laptop) is nobody's fault: shift everybody's clock."""
        if self._due_s is None or now - self._due_s < self.limits.suspect_after_s / 2:
            return
        pause_s = now - self._due_s
        for member in self.members.values():
            member.heard_s = min(member.heard_s + pause_s, now)  # some may have been heard since I woke up
        if now - self._pause_said_s >= self.limits.pause_said_every_s:
            self._pause_said_s = now
            reason = f"this process itself was held up for {pause_s:.1f} s; nobody is suspected for that time"
            self.events.append(Event(EventKind.WARNING, now, "", reason))

    def _watch(self, member: Member, now: float) -> None:
        silent_s = now - member.heard_s  # to be shown; compared as in next_timeout, so that rounding cannot differ
        if member.status is Status.ALIVE and now >= member.heard_s + self.limits.suspect_after_s:
            self._become(member, Status.SUSPECT, EventKind.SUSPECT, f"silent for {silent_s:.1f} s", now)
            # Greeted from now on: a process that restarted without a roster learns of me by that alone.
            member.greet_gap_s = self.limits.greet_interval_max_s
            member.greet_at_s = now
        if member.status is Status.SUSPECT and now >= member.heard_s + self.limits.dead_after_s:
            self._become(member, Status.DEAD, EventKind.DEAD, f"silent for {silent_s:.1f} s", now)
        if self._is_greeted(member) and now >= member.greet_at_s:
            self._say(member, self._greeting(reply_wanted=True))
            member.greet_gap_s = min(2 * member.greet_gap_s, self.limits.greet_interval_max_s)
            member.greet_at_s = now + member.greet_gap_s

    def _report_view(self, now: float) -> None:
        here = (Status.ALIVE, Status.LEFT)  # one that left was seen
        missing = [f"{m.name} at {m.address} ({m.reason})" for m in self.members.values() if m.status not in here]
        unknown = self.expected - 1 - len(self.members)
        if unknown > 0:
            missing.append(f"{unknown} not known yet")
        if missing:
            seen = self.expected - len(missing) if unknown <= 0 else 1 + len(self.alive())
            text = f"I see {seen} of {self.expected} peers after {now - self._started_s:.0f} s; missing: "
            self.events.append(Event(EventKind.VIEW, now, "", text + "; ".join(missing)))

    # --- words of others -----------------------------------------------------------------------------------------

    def heard(self, envelope: Envelope, now: float) -> Member | None:
        """Any word but a greeting. The member if it may be listened to, else None."""
        boot, member = envelope.boot, self.members.get(envelope.sender)
        if member is None or boot < member.boot:
            return None  # a stranger greets first; what an ended process said before is nobody's word now
        if boot == member.boot and member.status in (Status.REFUSED, Status.LEFT):
            return None  # LEFT: a word that its last word has overtaken on the other socket
        if boot > member.boot or member.status is Status.UNHEARD:
            self._await_greeting(member, now)
            return None
        member.met = member.met or envelope.to_boot == self.me.boot
        self._revive(member, now)
        return member

    def greeted(self, envelope: Envelope, greeting: Greeting, now: float) -> Member | None:
        """A greeting came. The member when it was accepted as *new* (unheard or a new boot), else None."""
        sender, boot, to = envelope.sender, envelope.boot, envelope.to
        caller = Member(sender, greeting.address, greeting.place, boot=boot)
        if sender == self.me.name:
            self._meet_my_own_name(caller, now)
            return None
        if to and to != self.me.name:
            detail = f"this address belongs to {self.me.name}, not to {to}"
            self._say(caller, Refusal(RefusalCode.WRONG_NAME, detail, to))
            return None
        member = self.members.get(sender) or self._admit(caller, now)
        if member is None or (member.status is Status.LEFT and boot == member.boot):
            return None
        if boot < member.boot:
            self._say(caller, Refusal(RefusalCode.SUPERSEDED, self._newer_process(sender, boot, member.boot)))
            return None
        code, difference = self._difference(member, greeting)
        if difference:
            if member.status is not Status.REFUSED or boot > member.boot:
                self._become(member, Status.REFUSED, EventKind.REFUSED, difference, now)
            member.boot = boot
            self._say(caller, Refusal(code, difference))
            return None
        if member.status is Status.REFUSED and boot == member.boot:
            return None
        return self._accept(member, envelope, greeting, now)

    def _difference(self, member: Member, greeting: Greeting) -> tuple[RefusalCode, str]:
        """Why we cannot work together, in words; empty when nothing differs."""
        difference = fingerprint_difference(self.me.fingerprint, greeting.fingerprint)
        if not difference and greeting.place != member.place:
            if not self.closed:
                return RefusalCode.PLACE_TAKEN, self._place_problem(member.name, greeting.place)
            # Two rosters in another order would deal the same shard twice.
            difference = f"place in the roster: {member.place + 1} here, {greeting.place + 1} there"
        return RefusalCode.FINGERPRINT, difference

    def _admit(self, stranger: Member, now: float) -> Member | None:
        """A row for a name that is not in my table, unless the roster is closed or its place is taken."""
        code, problem = RefusalCode.PLACE_TAKEN, self._place_problem(stranger.name, stranger.place)
        if self.closed or len(self.members) + 1 >= self.limits.peers_max:
            code, problem = RefusalCode.NOT_IN_ROSTER, f"{stranger.name} is not in the roster of {self.me.name}"
        if problem:
            self._say(stranger, Refusal(code, problem))
            self._note(EventKind.REFUSED, stranger.name, code, problem, now)
            return None
        return self._add(Contact(stranger.name, stranger.address, stranger.place), now)

    def _place_problem(self, name: PeerName, place: int) -> str:
        places = {self.me.place: self.me.name} | {m.place: m.name for m in self.members.values() if m.name != name}
        holder = places.get(place)
        if holder is None and place < self.expected:
            return ""
        return f"place {place + 1}/{self.expected} " + (f"is {holder}'s" if holder else "does not exist")

    def _accept(self, member: Member, envelope: Envelope, greeting: Greeting, now: float) -> Member | None:
        boot = envelope.boot
        fresh = boot > member.boot or member.status in (Status.UNHEARD, Status.LEFT, Status.REFUSED)
        restarted = 0 < member.boot < boot
        member.address, member.place, member.boot = greeting.address, greeting.place, boot
        member.met = envelope.to_boot == self.me.boot or (member.met and not fresh)
        if greeting.reply_wanted or fresh:  # also to a reply: it tells the other that it is accepted
            self._say(member, self._greeting(reply_wanted=False))
        for contact in greeting.contacts:
            self._learn_of(contact, now)
        if not fresh:
            self._revive(member, now)
            return None
        member.done, member.step, member.heard_s = False, 0, now
        kind = EventKind.RETURNED if restarted else EventKind.JOINED
        word = "restarted, " if restarted else ""
        seen = 1 + len(self.alive()) + (member.status is not Status.ALIVE)
        self._become(member, Status.ALIVE, kind, f"{word}{seen} of {self.expected} peers here", now)
        return member

    def refused_by(self, sender: PeerName, boot: Boot, refusal: Refusal, now: float) -> None:
        """Somebody does not talk to me. Whether to go on without it is the owner's decision, told by the event."""
        code, detail = refusal.code, refusal.detail
        member = self.members.get(PeerName(refusal.asked) if code is RefusalCode.WRONG_NAME else sender)
        newer = int(self.me.boot > boot)
        if code is RefusalCode.SUPERSEDED:
            self._note(EventKind.SUPERSEDED, self.me.name, code, detail, now)
        elif code is RefusalCode.WRONG_NAME or member is None:
            # The one who answers is well; it is the one looked for who is not where I thought. I try on.
            if member is not None and member.status is not Status.ALIVE:
                member.reason, self.changed = detail, True
            self._note(EventKind.REFUSED_BY, sender, code, detail, now, newer)
        elif boot > member.boot or (boot == member.boot and member.status is not Status.REFUSED):
            member.status, member.boot, member.reason, self.changed = Status.REFUSED, boot, detail, True
            self.lost.append((member.name, True, detail))
            shown: dict[str, str | int | float] = {"code": code.value, "i_am_newer": newer}
            self.events.append(Event(EventKind.REFUSED_BY, now, sender, detail, shown))

    def progressed(self, member: Member, heartbeat: Ping) -> None:
        """A peer's own step, and whether it only serves from now on."""
        self.changed = self.changed or member.done != heartbeat.done
        member.step, member.done = heartbeat.step, heartbeat.done

    def left(self, member: Member, leave: Leave, now: float) -> None:
        """A peer's last word."""
        self._become(member, Status.LEFT, EventKind.LEFT, leave.reason, now)
        member.greet_gap_s = self.limits.greet_interval_max_s
        member.greet_at_s = now + member.greet_gap_s

    def refuse_version(self, sender: PeerName, reason: str, now: float) -> bool:
        """Somebody speaks another wire version: tell it in words whose head every version understands. False for one
        that is no member, whose address I do not know."""
        member = self.members.get(sender)
        if member is None:
            return False
        if member.status is not Status.REFUSED:
            self._become(member, Status.REFUSED, EventKind.REFUSED, reason, now)
            member.greet_gap_s, member.greet_at_s = self.limits.greet_interval_s, now
        if now >= member.greet_at_s:
            # Ever more seldom: a refusal may be lost, but mine is of another version too, and will be answered.
            self._say(member, Refusal(RefusalCode.WIRE_VERSION, reason))
            member.greet_at_s = now + member.greet_gap_s
            member.greet_gap_s *= 2
        return True

    # --- what others may know ------------------------------------------------------------------------------------

    def alive(self) -> frozenset[PeerName]:
        """Those with whom there is business."""
        return frozenset(name for name, member in self.members.items() if member.status is Status.ALIVE)

    def neighbourhood(self) -> Neighbourhood | None:
        """The table as a snapshot for the learner; None when nothing changed since the last call."""
        if not self.changed:
            return None
        self.changed = False
        members = self.members.values()
        return Neighbourhood(
            expected=self.expected,
            alive=self.alive(),
            done=frozenset(m.name for m in members if m.done),
            gone=frozenset(m.name for m in members if m.status in (Status.DEAD, Status.LEFT, Status.REFUSED)),
            statuses={m.name: f"{m.status.value}: {m.reason}" for m in members},
            places={m.name: m.place for m in members} | {self.me.name: self.me.place},
        )

    # --- small steps ---------------------------------------------------------------------------------------------

    def _add(self, contact: Contact, now: float) -> Member:
        member = Member(contact.name, contact.address, contact.place)
        member.greet_at_s, member.greet_gap_s = now, self.limits.greet_interval_s / 2
        self.members[contact.name] = member
        self.changed = True
        return member

    def _learn_of(self, contact: Contact, now: float) -> None:
        """A third peer, named by another: worth a greeting of my own, never a status."""
        known = {self.me.place} | {m.place for m in self.members.values()}
        if self.closed or contact.name == self.me.name or contact.name in self.members or contact.place in known:
            return
        if contact.place < self.expected and len(self.members) + 1 < self.expected:
            self._add(contact, now)

    def _is_greeted(self, member: Member) -> bool:
        """Whether it is called every now and then. Without a roster even one that left: it may come back knowing me
        no longer."""
        if member.status is Status.LEFT:
            return not self.closed
        return member.status in (Status.UNHEARD, Status.SUSPECT, Status.DEAD)

    def _await_greeting(self, member: Member, now: float) -> None:
        """A word of a process that I have not accepted yet: call it soon. Not at once for each word: a stream of words
        must not become a stream of greetings."""
        if member.status is not Status.UNHEARD:
            member.status, member.reason, self.changed = Status.UNHEARD, "a new process, not greeted yet", True
        member.greet_gap_s = self.limits.greet_interval_s / 2
        member.greet_at_s = min(member.greet_at_s, now + self.limits.greet_interval_s)

    def _greeting(self, reply_wanted: bool) -> Greeting:
        contacts: tuple[Contact, ...] = ()
        if not self.closed:
            known = [m for m in self.members.values() if m.status is Status.ALIVE]
            count = min(len(known), self.limits.contacts_per_greeting_max)
            turn = [known[(self._contacts_told + index) % len(known)] for index in range(count)]
            self._contacts_told += count
            contacts = tuple(Contact(m.name, m.address, m.place) for m in turn)
        return Greeting(self.me.address, self.me.place, self.me.fingerprint, contacts, reply_wanted)

    def _meet_my_own_name(self, other: Member, now: float) -> None:
        if other.boot > self.me.boot:
            reason = f"a newer process of {self.me.name} at {other.address} took over"
            self._note(EventKind.SUPERSEDED, self.me.name, RefusalCode.SUPERSEDED, reason, now)
        elif other.boot < self.me.boot:
            detail = self._newer_process(self.me.name, other.boot, self.me.boot)
            self._say(other, Refusal(RefusalCode.SUPERSEDED, detail))

    def _newer_process(self, name: PeerName, boot: int, newer: int) -> str:
        return f"a newer process of {name} was heard by {self.me.name} (started {(newer - boot) / 1000:.1f} s later)"

    def _say(self, member: Member, message: Message) -> None:
        self.out.append(Outbound(member.name, member.boot, member.address, message))

    def _note(
        self, kind: EventKind, name: PeerName, code: RefusalCode, reason: str, now: float, newer: int = 0
    ) -> None:
        """An event about somebody who has no row that could remember it: said once per name and code."""
        if (name, kind + code) not in self._said and len(self._said) < self.limits.strangers_max:
            self._said.add((name, kind + code))
            self.events.append(Event(kind, now, name, reason, {"code": code.value, "i_am_newer": newer}))

    def _revive(self, member: Member, now: float) -> None:
        silent_s, member.heard_s = now - member.heard_s, now
        if member.status in (Status.SUSPECT, Status.DEAD):
            reason = f"heard again after {silent_s:.1f} s"
            self._become(member, Status.ALIVE, EventKind.RETURNED, reason, now)

    def _become(self, member: Member, status: Status, kind: EventKind, reason: str, now: float) -> None:
        member.status, member.reason, self.changed = status, reason, True
        if status in (Status.DEAD, Status.LEFT, Status.REFUSED):
            self.lost.append((member.name, status is not Status.DEAD, reason))
        self.events.append(Event(kind, now, member.name, reason))
