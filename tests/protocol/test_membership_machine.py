"""Membership against a dumb twin: four peers, any order of losses, doubles, silences, deaths, returns, splits and lies.

The twin keeps no protocol at all, only what is true (which processes run, what each has said, who has had which word)
and what each view was a moment ago. It holds the views to laws after each message and each time-out, and to the truth
once the weather has been calm for as long as the stated bound.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import dataclass
from itertools import permutations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gossipdistill.events import Event, EventKind
from gossipdistill.ids import PeerName
from gossipdistill.limits import DEFAULT_LIMITS
from gossipdistill.messages import Envelope, Transmit
from gossipdistill.presence import Ack, Address, Claim, ClaimKind, Greeting, Leave, Ping, Refusal
from gossipdistill.protocol.members import Member, Status
from gossipdistill.sim.checkers.base import views_bound_s

from .harness import Process, World, address_of

NAMES = tuple(PeerName(name) for name in ("ada", "bo", "cy", "dee"))
PAIRS = list(permutations(NAMES, 2))
names, pairs = st.sampled_from(NAMES), st.sampled_from(PAIRS)
LIMITS = DEFAULT_LIMITS
JUMP = LIMITS.incarnation_jump_max
DELAY_MAX_S = 0.6
KEPT = 400
"""So many messages of the past may arrive once more."""

UNHEARD, ALIVE, SUSPECT, DEAD, LEFT = Status.UNHEARD, Status.ALIVE, Status.SUSPECT, Status.DEAD, Status.LEFT
LIFE = {
    (UNHEARD, EventKind.JOINED): ALIVE,
    (UNHEARD, EventKind.RETURNED): ALIVE,
    (UNHEARD, EventKind.SUSPECT): SUSPECT,
    (ALIVE, EventKind.RETURNED): ALIVE,
    (ALIVE, EventKind.SUSPECT): SUSPECT,
    (ALIVE, EventKind.LEFT): LEFT,
    (ALIVE, EventKind.DEAD): DEAD,
    (SUSPECT, EventKind.RETURNED): ALIVE,
    (SUSPECT, EventKind.LEFT): LEFT,
    (SUSPECT, EventKind.DEAD): DEAD,
    (DEAD, EventKind.RETURNED): ALIVE,
    (LEFT, EventKind.RETURNED): ALIVE,
}
"""The diagram in protocol/detector.py, one event for each of its arrows."""
CHANGES = {kind for _, kind in LIFE}


@dataclass
class View:
    """What the twin remembers of one process's view of one other name."""

    status: Status = UNHEARD
    boot: int = 0
    incarnation: int = -1
    deceived: bool = False
    """It knew no number yet when a lie about the number came: there was nothing to hold it against."""
    heard_boot: int = 0
    heard_s: float = float("-inf")
    """When which process of it was heard last."""
    asked_s: float | None = None
    """Of the pings since then, when the first went out."""
    last_words: int = 0
    """The newest process of which it has had the last word."""


class Twin(World):
    """The network in memory, and what is true. It looks at a process before and after each thing that it does."""

    def __init__(self, seed: int) -> None:
        self.boots: dict[PeerName, list[int]] = defaultdict(list)
        """Every process that was ever started, by name."""
        self.ended: dict[tuple[str, int], str] = {}
        """killed | left | crashed"""
        self.raised: dict[tuple[str, int], int] = defaultdict(int)
        """The refutation of each process, raised by itself."""
        self.lies: dict[str, int] = defaultdict(int)
        """The highest number a liar has told of a name that might be true."""
        self.views: dict[tuple[str, int, str], View] = defaultdict(View)
        self.past: list[tuple[Address, Envelope]] = []
        self.judging = False
        """Stays so once a law is broken: what comes of it then says nothing more."""
        super().__init__(*NAMES, seed=seed, limits=LIMITS)

    # --- what is true ---------------------------------------------------------------------------------------------

    def start(self, name, *args, **options):  # type: ignore[no-untyped-def, override]
        """A new process, over whatever ran there."""
        self.end(name, "killed")
        process = super().start(name, *args, **options)
        self.boots[PeerName(name)].append(process.peer.me.boot)
        return process

    def end(self, name: str, how: str) -> None:
        if name in self.living():
            self.ended[name, self[name].peer.me.boot] = how
            self.kill(name)

    def living(self) -> dict[PeerName, int]:
        return {process.peer.me.name: process.peer.me.boot for process in self.processes.values()}

    def highest(self, name: str, boot: int | None = None) -> int:
        """The highest refutation of a process (or of any of that name) that it has raised, or a lie made believable."""
        own = [n for (owner, of), n in self.raised.items() if owner == name and boot in (None, of)]
        return max([*own, self.lies[name]], default=0)

    def view(self, process: Process, about: str) -> View:
        return self.views[process.peer.me.name, process.peer.me.boot, about]

    # --- the network ----------------------------------------------------------------------------------------------

    def _fly(self, transmit: Transmit) -> None:
        envelope = transmit.envelope
        super()._fly(transmit)
        self.past = [*self.past[1 - KEPT :], (self._way(transmit), envelope)]
        view = self.views[envelope.sender, envelope.boot, envelope.to]
        if isinstance(envelope.message, Ping) and view.asked_s is None:
            view.asked_s = self.now

    def _land(self, address: Address, envelope: Envelope) -> None:
        process = self.processes.get(address)
        if process is None or (envelope.sender, process.peer.me.name) in self.cut:
            return
        self._note_word(process, envelope)
        process.peer.receive(envelope, self.now)
        self._judge(process, envelope)
        self._pump(process)

    def _tick(self, process: Process) -> None:
        if self.now >= process.peer.next_timeout():
            process.peer.handle_timeout(self.now)
            assert process.peer.next_timeout() > self.now, "a time-out that is always due would spin"
        self._judge(process, None)
        self._pump(process)

    def _note_word(self, process: Process, word: Envelope) -> None:
        if word.to_boot not in (0, process.peer.me.boot) and not isinstance(word.message, Greeting):
            return
        for claim in getattr(word.message, "claims", ()):
            told = self.view(process, claim.name)
            told.deceived |= told.incarnation < 0 and claim.incarnation > self.highest(claim.name)
        view = self.view(process, word.sender)
        if isinstance(word.message, Refusal) or word.boot <= view.last_words or word.boot < view.heard_boot:
            return
        view.heard_boot, view.heard_s = word.boot, self.now
        if word.boot == view.boot:  # else of a process that it does not know yet: its predecessor has not answered
            view.asked_s = None

    # --- the laws -------------------------------------------------------------------------------------------------

    def _judge(self, process: Process, word: Envelope | None) -> None:
        """After one thing that it did: having heard `word`, or because something was due."""
        peer, table = process.peer, process.peer.membership.table
        me, said, self.judging = peer.me, list(table.events), True
        own = peer.membership.probe_messages.incarnation
        before = self.raised[me.name, me.boot]
        assert before <= own <= before + JUMP + 1, f"{me.name} raises its refutation from {before} to {own}"
        if any(event.kind is EventKind.REFUTED for event in said):
            assert own > before, f"{me.name} says that it lives, in words as old as what they answer"
        self.raised[me.name, me.boot] = own
        for event in said:
            if event.kind is EventKind.SUPERSEDED:
                assert me.boot < self.boots[me.name][-1], f"the newest process of {me.name} is told that it is not"
        for row in table.rows.values():
            about = [event for event in said if event.peer == row.name and event.kind in CHANGES]
            spoken = word if word is not None and word.sender == row.name else None
            view = self.view(process, row.name)
            self._judge_numbers(view, row)
            self._judge_life(process, view, row, about, word, spoken)
            if spoken is not None and self._counts(process, spoken, row):
                self._judge_hearing(view, row, spoken)
            if 0 < row.boot == view.last_words >= view.heard_boot:
                assert row.status in (DEAD, LEFT), f"{row.name} is {row.status} after its last word"
            view.status, view.boot, view.incarnation = row.status, row.boot, row.incarnation
        self.judging = False

    @staticmethod
    def _counts(process: Process, word: Envelope, row: Member) -> bool:
        """Whether it is a word of the process that I know, to me."""
        return word.boot == row.boot and row.accepted and word.to_boot in (0, process.peer.me.boot)

    @staticmethod
    def _judge_hearing(view: View, row: Member, word: Envelope) -> None:
        if isinstance(word.message, Leave):
            view.last_words = row.boot
        elif row.boot != view.last_words and not isinstance(word.message, Refusal):
            assert row.status is ALIVE, f"{row.name} has just spoken, and is {row.status}: {row.reason}"

    def _judge_numbers(self, view: View, row: Member) -> None:
        assert row.boot in (0, *self.boots[row.name]), f"there never was a process {row.boot} of {row.name}"
        assert row.boot >= view.boot, f"back to process {row.boot} of {row.name} from {view.boot}"
        if row.boot > view.boot:
            view.incarnation, view.deceived, view.asked_s = -1, False, None
        level = row.suspicion.incarnation if row.suspicion is not None else -1
        true = self.highest(row.name, row.boot)
        assert view.deceived or max(row.incarnation, level) <= true, f"{row.name} has never said {row.incarnation}"
        assert row.incarnation >= view.incarnation, "a refutation is taken back"

    def _judge_life(
        self,
        process: Process,
        view: View,
        row: Member,
        events: list[Event],
        word: Envelope | None,
        spoken: Envelope | None,
    ) -> None:
        status = view.status
        for event in events:
            assert (status, event.kind) in LIFE, f"{row.name}, {status}, is {event.kind}: {event.reason}"
            own_word = spoken is not None and isinstance(spoken.message, Leave) and spoken.boot == row.boot
            if event.kind in (EventKind.DEAD, EventKind.LEFT) and own_word:
                assert self.ended[row.name, row.boot] == ("crashed" if event.kind is EventKind.DEAD else "left")
            elif event.kind in (EventKind.DEAD, EventKind.LEFT):
                assert status is SUSPECT, f"{row.name}, {status}, is {event.kind} on hearsay: {event.reason}"
                self._judge_verdict(view, row)
            elif event.kind is EventKind.JOINED or row.boot > view.boot:
                greeted = spoken is not None and isinstance(spoken.message, Greeting) and spoken.boot == row.boot
                assert greeted, f"{row.name} is {event.kind} without a greeting"
            elif event.kind is EventKind.SUSPECT:
                self._judge_suspicion(view, row, event.reason)
            elif event.kind is EventKind.RETURNED:
                self._judge_return(view, row, event.reason, word, spoken)
            status = LIFE[status, event.kind]
        if status is not row.status:
            assert row.status is UNHEARD, f"{row.name} is {row.status} without an event, and was {status}"
            assert spoken is not None, f"{row.name}, {status}, is forgotten"
            assert view.heard_boot > view.boot, f"{row.name}, {status}, is forgotten because it spoke"

    def _judge_suspicion(self, view: View, row: Member, reason: str) -> None:
        """By a probe of one's own, or by hearsay about one that has not been heard for a while."""
        silent_s = self.now - view.heard_s if view.heard_boot == row.boot else float("inf")
        assert silent_s >= LIMITS.probe_interval_s - 1e-9, f"{row.name} is suspect, and spoke {silent_s:.3f} s ago"
        if view.status is UNHEARD:
            assert "no answer to me" in reason, f"{row.name} is suspect on hearsay before it was heard"

    def _judge_verdict(self, view: View, row: Member) -> None:
        """Dead, or gone, by what was found and not by its own last word."""
        shortest_s = LIMITS.probe_timeout_s - 1e-9
        heard_s = view.heard_s if view.heard_boot == row.boot else float("-inf")
        assert self.now - heard_s >= shortest_s, f"{row.name} spoke {self.now - heard_s:.3f} s ago, and is {row.status}"
        assert view.asked_s is not None, f"{row.name} is {row.status}, and was never asked"
        assert self.now - view.asked_s >= shortest_s, f"{row.name} is {row.status}, and had no time to answer"

    def _judge_return(
        self, view: View, row: Member, reason: str, word: Envelope | None, spoken: Envelope | None
    ) -> None:
        """The same process lives after all: somebody has had a word of it."""
        if reason.startswith("heard again"):
            assert spoken is not None, f"{row.name} is back, and has not spoken"
            assert spoken.boot == row.boot, f"{row.name} is back by a word of another process"
        elif reason.startswith("has refuted it"):
            number = int(reason.split("(")[1].rstrip(")"))
            assert view.deceived or number <= self.highest(row.name, row.boot), f"{row.name} has refuted nothing"
        else:
            assert word is not None, reason
            assert isinstance(word.message, Ack), reason
            assert reason == f"answers to {word.sender}"
            relay = self.views[word.sender, word.boot, row.name]
            assert relay.heard_boot >= row.boot, f"{word.sender} has never heard that process of {row.name}"
            assert view.asked_s is not None, f"{row.name} is back by an answer to nothing"
            assert relay.heard_s >= view.asked_s, f"{word.sender} has not heard {row.name} since it was asked"


class Membership(RuleBasedStateMachine):
    """Four peers of a roster, each started anew whenever chance wants."""

    @initialize(seed=st.integers(0, 99))
    def begin(self, seed: int) -> None:
        self.world = Twin(seed)
        self.told = 0
        self.world.run(0.5)

    # --- the network ----------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.02, 0.3, 1.0, 4.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.run(seconds)

    @rule(
        loss=st.sampled_from([0.0, 0.1, 0.5]),
        doubled=st.sampled_from([0.0, 0.3]),
        delay_s=st.sampled_from([0.001, 0.1, DELAY_MAX_S]),
    )
    def conditions(self, loss: float, doubled: float, delay_s: float) -> None:
        """From now on; what takes longer than the time between two messages arrives in another order."""
        self.world.loss, self.world.duplication, self.world.delay_s = loss, doubled, (0.0, delay_s)

    @precondition(lambda self: self.world._flying)
    @rule(which=st.integers(0, 99), lost=st.booleans())
    def one_message(self, which: int, lost: bool) -> None:
        """It is lost, or overtakes all others."""
        flying = self.world._flying
        one = flying.pop(which % len(flying))
        heapq.heapify(flying)
        if not lost:
            self.world._land(*one[2:])

    @precondition(lambda self: self.world.past)
    @rule(which=st.integers(0, KEPT))
    def an_old_one_arrives_once_more(self, which: int) -> None:
        """Long after it was sent; its sender may have ended, and its recipient may be another process."""
        self.world._land(*self.world.past[-1 - which % len(self.world.past)])

    @rule(pair=pairs)
    def one_way(self, pair: tuple[PeerName, PeerName]) -> None:
        self.world.cut.add(pair)

    @rule(group=st.sampled_from([NAMES[:1], NAMES[:2], NAMES[1:3], NAMES[3:]]), lasts_s=st.sampled_from([0.0, 8.0]))
    def split(self, group: tuple[PeerName, ...], lasts_s: float) -> None:
        """Long enough for each side to bury the other, or not."""
        self.world.cut |= {(a, b) for a, b in PAIRS if (a in group) != (b in group)}
        self.world.run(lasts_s)

    @rule()
    def heal(self) -> None:
        self.world.cut.clear()

    # --- processes ------------------------------------------------------------------------------------------------

    @rule(name=names, how=st.sampled_from(["killed", "left", "crashed"]))
    def ends(self, name: PeerName, how: str) -> None:
        if name in self.world.living():
            if how != "killed":
                self.world[name].peer.membership.leave("because", crashed=how == "crashed")
                self.world._pump(self.world[name])
            self.world.end(name, how)

    @rule(name=names)
    def starts(self, name: PeerName) -> None:
        self.world.start(name)
        self.world._tick(self.world[name])

    @rule(pair=pairs)
    def has_news(self, pair: tuple[PeerName, PeerName]) -> None:
        if pair[0] in self.world.living():
            self.world.publish(*pair, 1)

    # --- a liar ---------------------------------------------------------------------------------------------------

    @rule(
        pair=pairs,
        kind=st.sampled_from(list(ClaimKind)),
        silent_s=st.sampled_from([0.0, 0.6]),
        number=st.sampled_from([0, 0, 1, JUMP, JUMP + 1, 1 << 40]),
        boot=st.sampled_from([0, 0, 0, -1, 1, 1 << 40]),
    )
    def lies(self, pair: tuple[PeerName, PeerName], kind: ClaimKind, silent_s: float, number: int, boot: int) -> None:
        """A member tells all others what is not so: a death, a life, a number too high, a process that never was. It
        may choose a moment when nobody has heard the one whom it speaks of."""
        world, (by, about) = self.world, pair
        if by not in world.living():
            return
        silenced = {(about, other) for other in NAMES if other != about} - world.cut
        if silent_s:
            world.cut |= silenced
            world.run(silent_s)
        number += world.highest(about)
        if number <= world.highest(about) + JUMP:
            world.lies[about] = max(world.lies[about], number)
        me, claim = world[by].peer, Claim(about, world.boots[about][-1] + boot, number, kind, by)
        for to, to_boot in world.living().items():
            if to != by:
                self.told += 1
                word = Ping(1_000_000 + self.told, 0, False, (claim,), me.membership.probe_messages.incarnation)
                world._land(address_of(NAMES.index(to)), Envelope(by, me.me.boot, to, to_boot, word))
        world.cut -= silenced if silent_s else set()

    # --- the twin -------------------------------------------------------------------------------------------------

    @invariant()
    def the_lists_say_what_the_rows_say(self) -> None:
        for process in self.world.processes.values():
            table = process.peer.membership.table
            rows = table.rows.values()
            called = {row.name for row in rows if row.status is DEAD or (row.status is LEFT and not row.last_word)}
            assert set(table.dead) == called
            assert set(table.suspects) == {row.name for row in rows if row.status is SUSPECT}
            assert set(table.partners) == {row.name for row in rows if row.in_business()}
            for row in rows:
                assert (row.suspicion is None) or row.status in (SUSPECT, DEAD, LEFT)

    def teardown(self) -> None:
        """In calm weather every view becomes the truth."""
        world = self.world
        if world.judging:
            return
        world.cut.clear()
        world.loss = world.duplication = 0.0
        world.delay_s = (0.001, 0.001)
        world.run(DELAY_MAX_S + views_bound_s(LIMITS, len(NAMES)))
        living = world.living()
        for process in world.processes.values():
            for row in process.peer.membership.table.rows.values():
                truth = "lives" if row.name in living else "has ended"
                told = f"{process.peer.me.name} holds {row.name} {row.status} ({row.reason}), which {truth}"
                assert process.peer.view.is_present(row.name) == (row.name in living), told
                assert process.peer.view.is_alive(row.name) == (row.name in living), told
                assert row.status is not SUSPECT, told
                if row.name in living:
                    assert row.boot == living[row.name], told


TestMembership = Membership.TestCase
TestMembership.settings = settings(max_examples=200, stateful_step_count=50, deadline=None, derandomize=True)
