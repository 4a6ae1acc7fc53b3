"""States against a dumb twin: one link, any order of publications, losses, doubles, silences and restarts.

The twin keeps the newest value published, and the values that the reader's learner has seen.
"""

from __future__ import annotations

from itertools import pairwise

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gossipdistill.ids import Boot, PeerName
from gossipdistill.limits import DEFAULT_LIMITS
from gossipdistill.messages import Announce, Confirm, Content, Message, Mode, Parcel, Slot, State, Want
from gossipdistill.protocol.states import States

from .harness import living, payload

ADA, BO = PeerName("ada"), PeerName("bo")
LINK = Slot(BO, "x", "")


class OneLink(RuleBasedStateMachine):
    """`ada` publishes, `bo` reads. Values are the publication's own step: 1, 2, 3, ..."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.partners = living()
        self.ada_boot, self.bo_boot = 1, 1
        self.ada = States(DEFAULT_LIMITS, self.partners)
        self.bo = States(DEFAULT_LIMITS, living())
        self.to_bo: list[tuple[int, int, Message]] = []
        self.to_ada: list[tuple[int, int, Message]] = []
        self.published = 0
        self.seen: list[int] = []
        self.taken = True
        self.mode = Mode.PUSH

    @initialize(mode=st.sampled_from(list(Mode)))
    def choose(self, mode: Mode) -> None:
        self.mode = mode

    # --- the two learners -----------------------------------------------------------------------------------------

    @rule(socket=st.booleans())
    def publish(self, socket: bool) -> None:
        self.published += 1
        parcel = Parcel((BO,), Content("x", payload(self.published), self.published, self.published), self.mode)
        self.ada.sender.publish(LINK, parcel, self.now)
        self._pump(socket)

    @precondition(lambda self: not self.taken)
    @rule()
    def take(self) -> None:
        self.taken = True
        self.bo.receiver.taken(Slot(ADA, "x", ""), self.now)
        self._pump()

    # --- the network ----------------------------------------------------------------------------------------------

    @rule(fates=st.lists(st.tuples(st.integers(0, 9), st.sampled_from([0, 1, 1, 1, 2])), min_size=1, max_size=4))
    def conditions(self, fates: list[tuple[int, int]]) -> None:
        """Messages of either direction arrive so many times, in any order."""
        for which, times in fates:
            if self.to_bo:
                self._to_bo(self.to_bo.pop(which % len(self.to_bo)), times)
            if self.to_ada:
                self._to_ada(self.to_ada.pop(which % len(self.to_ada)), times)

    @precondition(lambda self: self.to_bo)
    @rule(which=st.integers(0, 9))
    def an_old_one_arrives_too(self, which: int) -> None:
        """A copy of what is still to come, far ahead of it."""
        self._to_bo(self.to_bo[which % len(self.to_bo)], 1)

    def _to_bo(self, sent: tuple[int, int, Message], times: int) -> None:
        from_boot, to_boot, message = sent
        for _ in range(times if (from_boot, to_boot) == (self.ada_boot, self.bo_boot) else 0):
            if isinstance(message, State):
                for confirm in message.confirms:
                    self.bo.sender.confirmed(ADA, confirm, self.now)
                self.bo.receiver.arrived(ADA, Boot(from_boot), message, self.now)
            elif isinstance(message, Announce):
                self.bo.receiver.announced(ADA, Boot(from_boot), message, self.now)
            self._pump()

    def _to_ada(self, sent: tuple[int, int, Message], times: int) -> None:
        from_boot, to_boot, message = sent
        for _ in range(times if (from_boot, to_boot) == (self.bo_boot, self.ada_boot) else 0):
            if isinstance(message, Confirm):
                self.ada.sender.confirmed(BO, message, self.now)
            elif isinstance(message, Want):
                self.ada.sender.wanted(BO, message, self.now)
            self._pump()

    @rule(seconds=st.sampled_from([0.01, 0.3, 3.0]), socket=st.booleans())
    def time_passes(self, seconds: float, socket: bool) -> None:
        self.now += seconds
        self.bo.handle_timeout(self.now)
        self.ada.handle_timeout(self.now)
        assert self.ada.next_timeout() > self.now, "a time-out that is always due would spin"
        self._pump(socket)

    @rule(what=st.sampled_from(["silent", "heard", "heard", "bo restarts", "ada restarts"]))
    def upheaval(self, what: str) -> None:
        match what:
            case "silent":
                self.partners.clear()
                return
            case "heard":
                pass
            case "bo restarts":
                self.bo_boot += 1
                self.bo = States(DEFAULT_LIMITS, living())
                self.taken = True
                self.seen.clear()
            case "ada restarts":
                self.ada_boot += 1
                self.ada = States(DEFAULT_LIMITS, self.partners)
                self.bo.sender.returned(ADA, True, self.now)
        self.partners.update(living())
        self.ada.sender.returned(BO, what == "bo restarts", self.now)
        self._pump()

    def _pump(self, socket: bool = True) -> None:
        sent, self.ada.box.out = self.ada.box.out, []
        for _, message in sent:
            assert self.partners, "sent to somebody who is silent"
            if socket:
                self.to_bo.append((self.ada_boot, self.bo_boot, message))
            else:
                self.ada.sender.not_sent(BO, message, self.now)
        answered, self.bo.box.out = self.bo.box.out, []
        self.to_ada += [(self.bo_boot, self.ada_boot, message) for _, message in answered]
        for arrival in self.bo.box.arrivals:
            self.taken = False
            self.seen.append(arrival.step)
        self.bo.box.arrivals = []

    # --- the twin -------------------------------------------------------------------------------------------------

    @invariant()
    def no_version_goes_backwards(self) -> None:
        assert all(a < b for a, b in pairwise(self.seen)), self.seen

    @invariant()
    def no_more_is_on_the_wire_than_allowed(self) -> None:
        known = self.ada.sender.outgoing.get(LINK)
        if known is not None:
            assert len(known.unconfirmed) <= (1 if self.mode is Mode.PULL else DEFAULT_LIMITS.unconfirmed_max)

    def teardown(self) -> None:
        self.calm()

    @rule()
    def calm(self) -> None:
        """In calm weather the newest arrives, if this process of ada has published any."""
        self.upheaval("heard")
        for _ in range(12):
            self.now += 3.0
            self.bo.handle_timeout(self.now)
            self.ada.handle_timeout(self.now)
            self._pump()
            for _ in range(12):
                while self.to_bo:
                    self._to_bo(self.to_bo.pop(0), 1)
                if not self.taken:
                    self.take()
                while self.to_ada:
                    self._to_ada(self.to_ada.pop(0), 1)
        known = self.ada.sender.outgoing.get(LINK)
        if known is not None:
            assert self.seen, "nothing arrived"
            assert self.seen[-1] == known.parcel.step == self.published
            assert known.confirmed == known.number
            assert not known.unconfirmed


TestOneLink = OneLink.TestCase
TestOneLink.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
