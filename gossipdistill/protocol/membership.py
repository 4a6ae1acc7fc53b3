"""Who is there: greetings, heartbeats, suspicion by silence, and refusals with their reason.

The life of a member, as I see it

    unheard --greeting accepted--> alive --silence--> suspect --more silence--> dead
                                     ^------- any word of the same process --------'
    any state --a newer boot--> greeted afresh        any state --last word--> left
    any state --a difference in the greeting--> refused (until a newer boot tries again)

Rules of this file
1. Only silence on my own clock makes a suspect. If I notice that I myself was stopped, I forgive that time first.
2. A newer boot of a name replaces the older; the older is told so and exits.
3. One event per change of state, with the reason in words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from gossipdistill.events import Event, EventKind
from gossipdistill.ids import Boot, PeerName
from gossipdistill.limits import Limits
from gossipdistill.messages import (
    Address,
    Contact,
    Greeting,
    Heartbeat,
    Leave,
    Message,
    Neighbourhood,
    Refusal,
    RefusalCode,
)


class Status(StrEnum):
    """What I believe of a member."""

    UNHEARD = "unheard"
    ALIVE = "alive"
    SUSPECT = "suspect"
    DEAD = "dead"
    LEFT = "left"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who I am: `place` is my index in the roster (or of my shard), `address` where others reach me."""

    name: PeerName
    boot: Boot
    address: Address
    place: int
    fingerprint: Mapping[str, str]


@dataclass(slots=True)
class Member:
    """What I know of one other peer. Times are readings of my clock in seconds."""

    name: PeerName
    address: Address
    place: int
    status: Status = Status.UNHEARD
    boot: int = 0
    heard_s: float = 0.0
    step: int = 0
    done: bool = False
    greet_at_s: float = 0.0
    greet_gap_s: float = 0.0
    reason: str = "nothing heard yet"


@dataclass(slots=True)
class Membership:
    """The table of members and the messages it wants sent, as (recipient's name or "", address, message).

    With `closed` only the members given at the start may join (a roster); without, any name may, up to `expected`.
    """

    me: Identity
    limits: Limits
    expected: int
    closed: bool
    members: dict[PeerName, Member] = field(default_factory=dict)
    seeds: list[Address] = field(default_factory=list)
    out: list[tuple[str, Address, Message]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    changed: bool = True
    _started_s: float = 0.0
    _heartbeat_at_s: float = 0.0
    _seed_at_s: float = 0.0
    _view_at_s: float | None = None
    _due_s: float | None = None
    _strangers: dict[PeerName, float] = field(default_factory=dict)

    def start(self, contacts: Iterable[Contact], seeds: Iterable[Address], now: float) -> None:
        """Learn whom to look for. Greetings go out at the next time-out, which is due at once."""
        self._started_s = self._heartbeat_at_s = self._seed_at_s = now
        self._view_at_s = now + 5.0
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
            if member.status in (Status.UNHEARD, Status.DEAD):
                dues.append(member.greet_at_s)
            elif member.status is Status.ALIVE:
                dues.append(member.heard_s + self.limits.suspect_after_s)
            elif member.status is Status.SUSPECT:
                dues.append(member.heard_s + self.limits.dead_after_s)
        self._due_s = min(dues)
        return self._due_s

    def handle_timeout(self, now: float, step: int, done: bool) -> None:
        """Greet, beat, suspect and bury, as due. `step` and `done` are my own progress, for the heartbeat."""
        self._forgive_my_own_pause(now)
        for member in self.members.values():
            self._watch(member, now)
        if now >= self._heartbeat_at_s:
            self._heartbeat_at_s = now + self.limits.heartbeat_interval_s
            for member in self.members.values():
                if member.status in (Status.ALIVE, Status.SUSPECT):
                    self.out.append((member.name, member.address, Heartbeat(step, done)))
        if self.seeds and now >= self._seed_at_s:
            # Once everybody is known a seed has nothing left to tell.
            self._seed_at_s = now + (self.limits.greet_interval_max_s if len(self.members) else 0.2)
            if len(self.members) + 1 < self.expected:
                for address in self.seeds:
                    if all(member.address != address for member in self.members.values()):
                        self.out.append(("", address, self._greeting(reply_wanted=True)))
        if self._view_at_s is not None and now >= self._view_at_s:
            self._view_at_s = None
            self._report_view(now)

    def _forgive_my_own_pause(self, now: float) -> None:
        """Silence while I was stopped (SIGSTOP, a suspended laptop) is nobody's fault: shift everybody's clock."""
        if self._due_s is None or now - self._due_s < self.limits.suspect_after_s / 2:
            return
        pause_s = now - self._due_s
        for member in self.members.values():
            member.heard_s += pause_s
        reason = f"this process itself was held up for {pause_s:.1f} s; nobody is suspected for that time"
        self.events.append(Event(EventKind.WARNING, now, "", reason))

    def _watch(self, member: Member, now: float) -> None:
        silent_s = now - member.heard_s
        if member.status is Status.ALIVE and silent_s >= self.limits.suspect_after_s:
            self._become(member, Status.SUSPECT, EventKind.SUSPECT, f"silent for {silent_s:.1f} s", now)
        if member.status is Status.SUSPECT and silent_s >= self.limits.dead_after_s:
            self._become(member, Status.DEAD, EventKind.DEAD, f"silent for {silent_s:.1f} s", now)
            member.greet_gap_s = self.limits.greet_interval_max_s
            member.greet_at_s = now
        if member.status in (Status.UNHEARD, Status.DEAD) and now >= member.greet_at_s:
            self.out.append((member.name, member.address, self._greeting(reply_wanted=True)))
            member.greet_gap_s = min(2 * member.greet_gap_s, self.limits.greet_interval_max_s)
            member.greet_at_s = now + member.greet_gap_s

    def _report_view(self, now: float) -> None:
        missing = [f"{m.name} at {m.address} ({m.reason})" for m in self.members.values() if m.status != Status.ALIVE]
        unknown = self.expected - 1 - len(self.members)
        if unknown > 0:
            missing.append(f"{unknown} not known yet")
        if missing:
            seen = self.expected - len(missing) if unknown <= 0 else 1 + len(self.alive())
            text = f"I see {seen} of {self.expected} peers after {now - self._started_s:.0f} s; missing: "
            self.events.append(Event(EventKind.VIEW, now, "", text + "; ".join(missing)))

    # --- words of others -----------------------------------------------------------------------------------------

    def heard(self, sender: PeerName, boot: Boot, now: float) -> Member | None:
        """Any word but a greeting. The member if it may be listened to, else None (and an answer may go out)."""
        member = self.members.get(sender)
        if member is None or (member.status is Status.REFUSED and boot <= member.boot):
            return None
        if boot < member.boot:
            self._refuse(member, RefusalCode.SUPERSEDED, f"a newer process of {sender} is running", sender)
            return None
        if member.status is Status.LEFT and boot == member.boot:
            return None  # a word that its last word has overtaken on the other socket
        if boot > member.boot or member.status is Status.UNHEARD:
            member.status, member.greet_at_s = Status.UNHEARD, now  # a process that I have not greeted yet
            return None
        self._revive(member, now)
        return member

    def greeted(self, sender: PeerName, boot: Boot, to: str, greeting: Greeting, now: float) -> Member | None:
        """A greeting came. The member when it was accepted as *new* (unheard or a new boot), else None."""
        stranger = Member(sender, greeting.address, greeting.place)
        if sender == self.me.name:
            self._meet_my_own_name(boot, stranger, now)
            return None
        if to and to != self.me.name:
            self._refuse(stranger, RefusalCode.WRONG_NAME, f"this address belongs to {self.me.name}, not to {to}", to)
            return None
        member = self.members.get(sender)
        if member is None:
            member = self._admit(stranger, now)
            if member is None:
                return None
        if boot < member.boot:
            self._refuse(stranger, RefusalCode.SUPERSEDED, f"a newer process of {sender} is running", sender)
            return None
        difference = fingerprint_difference(self.me.fingerprint, greeting.fingerprint)
        if difference:
            if member.status is not Status.REFUSED or boot > member.boot:
                self._become(member, Status.REFUSED, EventKind.REFUSED, difference, now)
            member.boot = max(member.boot, boot)
            self._refuse(stranger, RefusalCode.FINGERPRINT, difference, sender)
            return None
        return self._accept(member, boot, greeting, now)

    def _admit(self, stranger: Member, now: float) -> Member | None:
        """A row for a name that is not in my table, unless the roster is closed or its place is taken."""
        if self.closed or len(self.members) + 1 >= self.limits.peers_max:
            reason = f"{stranger.name} is not in the roster of {self.me.name}"
            self._refuse(stranger, RefusalCode.NOT_IN_ROSTER, reason, stranger.name)
            self._note_stranger(stranger.name, reason, now)
            return None
        places = {self.me.place: self.me.name} | {m.place: m.name for m in self.members.values()}
        holder = places.get(stranger.place)
        if holder is not None or stranger.place >= self.expected:
            reason = f"place {stranger.place + 1}/{self.expected} " + (f"is {holder}'s" if holder else "does not exist")
            self._refuse(stranger, RefusalCode.PLACE_TAKEN, reason, stranger.name)
            self._note_stranger(stranger.name, reason, now)
            return None
        return self._add(Contact(stranger.name, stranger.address, stranger.place), now)

    def _accept(self, member: Member, boot: Boot, greeting: Greeting, now: float) -> Member | None:
        fresh = boot > member.boot or member.status in (Status.UNHEARD, Status.LEFT, Status.REFUSED)
        restarted = 0 < member.boot < boot
        member.address, member.heard_s = greeting.address, now
        if greeting.reply_wanted:
            self.out.append((member.name, member.address, self._greeting(reply_wanted=False)))
        for contact in greeting.contacts:
            self._learn_of(contact, now)
        if not fresh:
            self._revive(member, now)
            return None
        member.boot, member.done, member.step = boot, False, 0
        kind = EventKind.RETURNED if restarted else EventKind.JOINED
        word = "restarted, " if restarted else ""
        seen = 1 + len(self.alive()) + (member.status is not Status.ALIVE)
        self._become(member, Status.ALIVE, kind, f"{word}{seen} of {self.expected} peers here", now)
        return member

    def refused_by(self, sender: PeerName, boot: Boot, refusal: Refusal, now: float) -> None:
        """Somebody does not talk to me. Whether to go on without it is the owner's decision, told by the event."""
        member = self.members.get(sender)
        detail: dict[str, str | int | float] = {"code": refusal.code.value, "i_am_newer": int(self.me.boot > boot)}
        if refusal.code is RefusalCode.SUPERSEDED:
            self.events.append(Event(EventKind.SUPERSEDED, now, sender, refusal.detail, detail))
            return
        if member is not None:
            if member.status is Status.REFUSED and member.boot == boot:
                return
            member.status, member.boot, member.reason = Status.REFUSED, max(boot, member.boot), refusal.detail
            self.changed = True
        self.events.append(Event(EventKind.REFUSED_BY, now, sender, refusal.detail, detail))

    def progressed(self, member: Member, heartbeat: Heartbeat) -> None:
        """A peer's own step, and whether it only serves from now on."""
        self.changed = self.changed or member.done != heartbeat.done
        member.step, member.done = heartbeat.step, heartbeat.done

    def left(self, member: Member, leave: Leave, now: float) -> None:
        """A peer's last word."""
        self._become(member, Status.LEFT, EventKind.LEFT, leave.reason, now)

    def refuse_version(self, sender: PeerName, reason: str, now: float) -> None:
        """A known peer speaks another wire version: tell it in words that every version understands."""
        member = self.members.get(sender)
        if member is None or member.status is Status.REFUSED:
            return
        self._become(member, Status.REFUSED, EventKind.REFUSED, reason, now)
        self._refuse(member, RefusalCode.WIRE_VERSION, reason, sender)

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

    def _greeting(self, reply_wanted: bool) -> Greeting:
        contacts: tuple[Contact, ...] = ()
        if not self.closed:
            known = [m for m in self.members.values() if m.status is Status.ALIVE]
            contacts = tuple(Contact(m.name, m.address, m.place) for m in known)
        return Greeting(self.me.address, self.me.place, self.me.fingerprint, contacts, reply_wanted)

    def _meet_my_own_name(self, boot: Boot, other: Member, now: float) -> None:
        if boot > self.me.boot:
            reason = f"a newer process of {self.me.name} at {other.address} took over"
            self.events.append(Event(EventKind.SUPERSEDED, now, self.me.name, reason))
        elif boot < self.me.boot:
            self._refuse(other, RefusalCode.SUPERSEDED, f"a newer process of {other.name} is running", other.name)

    def _refuse(self, member: Member, code: RefusalCode, detail: str, to: str) -> None:
        self.out.append((to, member.address, Refusal(code, detail)))

    def _note_stranger(self, name: PeerName, reason: str, now: float) -> None:
        # A stranger knocks again every second: say it once a minute, and never keep more names than peers.
        if now - self._strangers.get(name, -60.0) >= 60.0 and len(self._strangers) < self.limits.peers_max:
            self._strangers[name] = now
            self.events.append(Event(EventKind.REFUSED, now, name, reason))

    def _revive(self, member: Member, now: float) -> None:
        silent_s, member.heard_s = now - member.heard_s, now
        if member.status in (Status.SUSPECT, Status.DEAD):
            reason = f"heard again after {silent_s:.1f} s"
            self._become(member, Status.ALIVE, EventKind.RETURNED, reason, now)

    def _become(self, member: Member, status: Status, kind: EventKind, reason: str, now: float) -> None:
        member.status, member.reason, self.changed = status, reason, True
        self.events.append(Event(kind, now, member.name, reason))


def fingerprint_difference(mine: Mapping[str, str], theirs: Mapping[str, str]) -> str:
    """What differs between two fingerprints, in words; empty when nothing does."""
    names = sorted(set(mine) | set(theirs))
    parts = [
        f"{name}: {mine.get(name, 'none')} here, {theirs.get(name, 'none')} there"
        for name in names
        if mine.get(name) != theirs.get(name)
    ]
    return "; ".join(parts)
