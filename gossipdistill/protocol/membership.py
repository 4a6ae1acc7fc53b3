"""Membership: admission, probes and failure detection over one table, driven by messages and by time.

Rules of this file
1. If this process itself was stopped, that time is first subtracted from the silence of all members.
2. All timers are values in one heap; no turn goes through all members.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gossipdistill.events import Event, EventKind
from gossipdistill.ids import PeerName
from gossipdistill.messages import Envelope
from gossipdistill.presence import Ack, Address, ClaimKind, Contact, Greeting, Leave, Nack, Ping, PingRequest
from gossipdistill.protocol.admission import Admission
from gossipdistill.protocol.boots import Boots
from gossipdistill.protocol.delivery import Delivery
from gossipdistill.protocol.detector import Detector
from gossipdistill.protocol.directory import Rotation
from gossipdistill.protocol.hearsay import Hearsay
from gossipdistill.protocol.members import Identity, Member, Status, fingerprint_difference
from gossipdistill.protocol.own_pause import OwnPause
from gossipdistill.protocol.probe import Prober
from gossipdistill.protocol.probe_messages import ProbeMessages
from gossipdistill.protocol.suspicion import LocalHealth
from gossipdistill.protocol.table import Outbound, Table, Timer
from gossipdistill.protocol.view import View

__all__ = ["Identity", "Member", "Membership", "Outbound", "Status", "fingerprint_difference"]

ProbeWord = Ping | PingRequest | Ack | Nack | Leave


class Membership:
    """Which members are present, and the messages that find out. A member for which `delivery` has something is not
    forgotten."""

    def __init__(self, table: Table, delivery: Delivery) -> None:
        self.me, self.limits = table.me, table.limits
        self.table, self.delivery = table, delivery
        self.view = View(table)
        self.probe_messages = ProbeMessages(self.table)
        self.health = LocalHealth(self.limits.local_health_max)
        self.admission = Admission(self.table)
        self.refusals = self.admission.refusals
        self.boots = Boots(self.table)
        self.detector = Detector(self.table, self.probe_messages, self.admission, self.health)
        self.hearsay = Hearsay(self.table, self.probe_messages, self.admission, self.health, self.detector)
        self.prober = Prober(self.table, self.probe_messages, self.detector, self.health, Rotation(table.chance))
        self._started_s = 0.0
        self.own_pause = OwnPause(self.table, self.prober)

    def start(self, contacts: Sequence[Contact], seeds: Iterable[Address], now: float) -> None:
        """Take over the contacts and seeds. Greetings are sent at the next timeout, which is due at once."""
        timers, table = self.table.timers, self.table
        self._started_s = self.boots.started_s = now
        self.admission.seeds = [address for address in seeds if address != self.me.address]
        for contact in () if table.closed and table.presumes else contacts:
            if contact.name != self.me.name:
                self.admission.greet_first(table.add(contact, now), now)
        self.probe_messages.claim_that_i_live()
        timers.set(Timer("turn"), now + table.chance.uniform(0.0, self.limits.probe_interval_s))
        timers.set(Timer("view"), now + self.limits.view_after_s)
        if self.admission.seeds:
            timers.set(Timer("seed"), now)

    # --- time ----------------------------------------------------------------------------------------------------

    def next_timeout(self) -> float:
        """The clock reading at which `handle_timeout` wants to be called."""
        self.own_pause.due_s = due_s = self.table.timers.next_s()
        return due_s

    def handle_timeout(self, now: float) -> None:
        """Do what is due."""
        self.own_pause.forgive(now)
        while due := self.table.timers.pop_due(now):  # what is done may make something else due at once
            for timer in due:
                self._act(timer, now)

    def _act(self, timer: Timer, now: float) -> None:
        name = timer.name
        match timer.what:
            case "turn":
                self.prober.turn(now)
            case "relays":
                self.prober.ask_others(now)
            case "doubt":
                self.prober.doubt_due(name, now)
            case "errand":
                self.prober.indirect_due(int(name), now)
            case "suspicion":
                self.detector.time_is_over(name, now)
            case "verify":
                self.detector.verify(name, now)
            case "look":
                self.prober.looks[PeerName(name)] = None
            case "hint":
                self.probe_messages.ping(PeerName(name))
            case "dead":
                self.detector.call_the_dead(now)
            case "greet":
                self.admission.greet_due(name, self._is_greeted(name), now)
            case "seed":
                self.admission.greet_seeds(now)
            case "drop":
                self.table.drop(name, self._is_needed(PeerName(name)), now)
            case "newer":
                self.refusals.challenges_due(now)
            case "view":
                self.table.events += view_of(self.table, self._started_s, now)
            case _:  # a snapshot that was held back
                self.table.pace.now_s = now

    def _is_greeted(self, name: str) -> bool:
        member = self.table.find(name)
        if member is None or not self._is_strange(member) or not self.me.can_dial(member.address):
            return False
        return not self.table.presumes or self._is_needed(member.name)

    def _is_needed(self, name: PeerName) -> bool:
        """Whether there is exchange with this member, or something in flight to it."""
        return name in self.prober.business or self.delivery.has_something_for(name)

    @staticmethod
    def _is_strange(member: Member) -> bool:
        """Whether the member is present, and we have not accepted one another. Its answer to my greeting or mine to its
        may be lost, and it has no reason of its own to greet me."""
        return member.status is Status.UNHEARD or (member.status is Status.ALIVE and not member.met)

    # --- messages of others --------------------------------------------------------------------------------------

    def greeted(self, envelope: Envelope, greeting: Greeting, now: float) -> None:
        """Handle a greeting."""
        self.admission.greeted(envelope, greeting, now)
        member = self.table.find(envelope.sender)
        if member is None or not member.accepted or member.boot != envelope.boot or member.last_word:
            return
        self.detector.heard(member, now)
        if self.probe_messages.done:
            self.prober.untold[member.name] = None

    def heard(self, envelope: Envelope, now: float) -> Member | None:
        """Handle a message of delivery. Returns the member if it may be listened to, else None."""
        boot, member = envelope.boot, self.table.row(envelope.sender, now)
        if member is None or boot < member.boot:
            return None  # a stranger greets first; messages of an ended process are void
        if boot == member.boot and (self._is_refused(member, envelope) or member.last_word):
            return None  # its last message has overtaken this one on the other socket
        if self._is_of_a_newer(member, boot, now):
            return None
        self.prober.engage(member.name, now)
        if boot > member.boot or not member.accepted:  # new, or I have dropped its row and it has kept mine
            self.admission.await_greeting(member, now)
            return None
        self._listen(member, envelope, now)
        return member

    def probe_word(self, envelope: Envelope, message: ProbeWord, now: float) -> None:
        """Handle a message of probing, or a last message. From members of a large roster it needs no greeting."""
        sender, boot, member = envelope.sender, envelope.boot, self.table.find(envelope.sender)
        if member is not None:
            if boot < member.boot:
                return
            if boot == member.boot and (self._is_refused(member, envelope) or member.last_word):
                return
            if not self._known_process(member, boot, now):
                if isinstance(message, Ping) and member.status is Status.UNHEARD:
                    self.probe_messages.answer(sender, message.number)  # harmless, and keeps it from suspecting me
                return
            self._listen(member, envelope, now)
        elif not self.table.presumes or self.table.directory.get(sender) is None or sender == self.me.name:
            return
        if isinstance(message, Leave):
            last = member or self.table.row(sender, now)
            assert last is not None
            last.boot = boot
            self.detector.left(last, message, now)
            return
        self.hearsay.hear([c for c in message.claims if not self.boots.is_beyond(c.boot, now)], now)
        if isinstance(message, Ping | Ack):
            self._note_progress(member, message)
        match message:
            case Ping():
                self._answer(sender, message)
            case PingRequest():
                self.prober.requested(sender, message, now)
            case Ack() if not self.boots.is_beyond(message.about_boot, now):
                self.prober.acked(sender, boot, message, now)
            case Nack():
                self.prober.nacked(sender, message)

    def _is_refused(self, member: Member, envelope: Envelope) -> bool:
        """Whether messages of this process are ignored. If a process that refused me addresses me, it has accepted
        me."""
        changed_its_mind = member.declined and envelope.to_boot == self.me.boot
        return member.status is Status.REFUSED and not changed_its_mind

    def _is_of_a_newer(self, member: Member, boot: int, now: float) -> bool:
        """Whether a message comes from a process that may not use its name yet. It may be a restart at the same
        address, where a greeting finds it."""
        if not self.refusals.keeps_its_name(member, boot):
            return False
        self.admission.greet_on_a_hint(member, now)
        return True

    def _answer(self, sender: PeerName, ping: Ping) -> None:
        new = any(c.name == c.by == sender and c.kind is ClaimKind.ALIVE and not c.incarnation for c in ping.claims)
        if new and self.table.presumes and self.table.dead:
            self.probe_messages.sync_with(sender, ping.number)
        else:
            self.probe_messages.answer(sender, ping.number)

    def _known_process(self, member: Member, boot: int, now: float) -> bool:
        """Whether messages of probing from this process are accepted."""
        if boot == member.boot and member.accepted:
            return True
        if self._is_of_a_newer(member, boot, now):
            return False
        if not self.table.presumes or member.declined:
            self.admission.await_greeting(member, now)
            return False
        if boot > member.boot:
            if member.status is Status.ALIVE:
                self.prober.engage(member.name, now)  # there was exchange with the process before it
                self.admission.await_greeting(member, now)
            self.detector.restarted(member, boot, now)
        return True

    def _listen(self, member: Member, envelope: Envelope, now: float) -> None:
        if member.accepted and not member.met and envelope.to_boot == self.me.boot:
            member.met = True
            self.table.settle(member, now)
        self.detector.heard(member, now)

    def _note_progress(self, member: Member | None, word: Ping | Ack) -> None:
        if member is None:
            return
        self.table.pace.changed = self.table.pace.changed or member.done != word.done
        member.step, member.done = word.step, word.done
        member.incarnation = max(member.incarnation, word.incarnation)

    def addressed_to_my_predecessor(self, sender: PeerName, now: float) -> None:
        """A peer takes me for the process that was here before: greet it, rarely."""
        member = self.table.row(sender, now)
        if member is not None and member.status is not Status.REFUSED:
            self.admission.greet_on_a_hint(member, now)

    # --- the owner -----------------------------------------------------------------------------------------------

    def engage(self, name: PeerName, now: float) -> None:
        """Note that my learner posts to this member: in a large roster it is greeted now, and watched from now on."""
        member = self.table.row(name, now)
        if member is None:
            return
        self.prober.engage(name, now)
        if self.table.presumes and self._is_strange(member) and now >= member.greet_at_s:
            self.admission.greet_soon(member, now)

    def report_progress(self, step: int, done: bool, now: float) -> None:
        """Set my own step, which probes carry. That I am done is told to all exchange partners until they confirm
        it."""
        if done and not self.probe_messages.done:
            self.prober.untold = dict.fromkeys(self.table.partners)
            self.table.timers.set(Timer("turn"), now)
        self.probe_messages.step, self.probe_messages.done = step, done

    def leave(self, reason: str, crashed: bool = False) -> None:
        """Queue my last message to all members that may still listen; in a large roster, to a few others too. It names
        what was absorbed of the mass of the recipient's process."""
        table, receiver = self.table, self.delivery.reliable_messages.receiver
        names = {m.name: None for m in table.rows.values() if m.status in (Status.ALIVE, Status.SUSPECT)}
        if table.presumes:
            everybody = table.names()
            names |= {everybody[table.chance.randrange(len(everybody))]: None for _ in range(self.limits.watched_max)}
        for name in names:  # may include my own name, to which nothing is sent
            member = table.find(name)
            acknowledged = (
                receiver.absorbed_of(name, member.boot) if member and member.accepted and not crashed else None
            )
            self.probe_messages.send(name, Leave(reason, crashed, acknowledged))


def view_of(table: Table, started_s: float, now: float) -> list[Event]:
    """An event about the peers of a run that are still missing; none where all are seen."""
    here = [Status.ALIVE, Status.LEFT]  # one that left was seen
    if table.presumes:
        here.append(Status.UNHEARD)
    missing = [f"{m.name} at {m.address} ({m.reason})" for m in table.rows.values() if m.status not in here]
    unknown = 0 if table.presumes else table.expected - 1 - len(table.rows)
    if unknown > 0:
        missing.append(f"{unknown} not known yet")
    if not missing:
        return []
    seen = table.expected - len(missing) if unknown <= 0 else table.living()
    text = f"I see {seen} of {table.expected} peers after {now - started_s:.0f} s; missing: "
    return [Event(EventKind.VIEW, now, "", text + "; ".join(missing))]
