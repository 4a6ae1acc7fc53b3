"""Mass against a dumb twin: one link, any order of posts, losses, doubles, deaths, returns and restarts.

The twin keeps no protocol at all, only what must be true of each parcel: its mass ends in exactly one place.
"""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gossipdistill.ids import Boot, PeerName
from gossipdistill.limits import DEFAULT_LIMITS
from gossipdistill.messages import (
    Arrival,
    Content,
    DeliveryClass,
    Message,
    Parcel,
    Receipt,
    ReliableMessage,
    Returned,
    Settlement,
    Slot,
    StatusQuery,
    arrivals_of,
)
from gossipdistill.protocol.reliable_messages import ReliableMessages

from .harness import living, payload, value_of

ADA, BO = PeerName("ada"), PeerName("bo")
LINK = Slot(BO, "m", "")


class OneLink(RuleBasedStateMachine):
    """`ada` sends mass to `bo`. Weights are distinct powers of two, so that sums say which parcels are in them."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.partners = living(10)
        """The process of bo that ada believes alive."""
        self.real_bo_boot = 10
        self.ada = ReliableMessages(DEFAULT_LIMITS, Boot(1), self.partners)
        self.bo = ReliableMessages(DEFAULT_LIMITS, Boot(10), living())
        self.to_bo: list[tuple[int, Message]] = []
        self.to_ada: list[Message] = []
        self.waiting: list[Arrival] = []
        """What bo's learner has not settled."""
        self.posted: list[int] = []
        self.absorbed: Counter[int] = Counter()
        self.refused: Counter[int] = Counter()
        self.returned: Counter[int] = Counter()
        self.on_the_wire: set[int] = set()
        self.free = DEFAULT_LIMITS.in_flight_mass_max

    # --- the learner of ada ---------------------------------------------------------------------------------------

    @precondition(lambda self: self.free > 0 and len(self.posted) < 50)
    @rule(socket=st.booleans())
    def post(self, socket: bool) -> None:
        value = len(self.posted) + 1
        self.posted.append(value)
        self.free -= 1
        parcel = Parcel((BO,), Content("m", payload(value), value, value, "", DeliveryClass.MASS, 2.0**-value))
        self.ada.sender.publish(LINK, parcel, self.now)
        self._pump(socket)

    # --- the learner of bo ----------------------------------------------------------------------------------------

    @precondition(lambda self: self.waiting)
    @rule(absorb=st.booleans())
    def settle(self, absorb: bool) -> None:
        arrival = self.waiting.pop(0)
        (self.absorbed if absorb else self.refused)[value_of(arrival)] += 1
        self.bo.receiver.settle(Settlement(ADA, "m", arrival.version, absorb, "" if absorb else "not now"))
        self.bo.receiver.settle(Settlement(ADA, "m", arrival.version, not absorb, "a second verdict is none"))
        self._pump()

    # --- the network ----------------------------------------------------------------------------------------------

    @precondition(lambda self: self.to_bo)
    @rule(which=st.integers(0, 99), doubled=st.booleans(), lost=st.booleans())
    def carry_to_bo(self, which: int, doubled: bool, lost: bool) -> None:
        index = which % len(self.to_bo)
        to_boot, message = self.to_bo[index] if doubled else self.to_bo.pop(index)
        if lost or to_boot != self.real_bo_boot:
            return
        if isinstance(message, ReliableMessage):
            self.bo.receiver.arrived(ADA, Boot(1), message, self.now)
        elif isinstance(message, StatusQuery):
            self.bo.receiver.enquired(ADA, Boot(1), message)
        self._pump()

    @precondition(lambda self: self.to_ada)
    @rule(which=st.integers(0, 99), doubled=st.booleans(), lost=st.booleans())
    def carry_to_ada(self, which: int, doubled: bool, lost: bool) -> None:
        index = which % len(self.to_ada)
        from_boot, message = self.to_ada[index] if doubled else self.to_ada.pop(index)
        # Membership listens to the process that it knows, and to nobody it holds dead without a greeting.
        if not lost and isinstance(message, Receipt) and from_boot == self._bo_boot():
            self.ada.sender.receipt(BO, message, self.now)
        self._pump()

    @rule(seconds=st.sampled_from([0.01, 1.0, 10.0]), socket=st.booleans())
    def time_passes(self, seconds: float, socket: bool) -> None:
        self.now += seconds
        self.ada.handle_timeout(self.now)
        assert self.ada.next_timeout() > self.now, "a time-out that is always due would spin"
        self._pump(socket)

    # --- what ada's membership says -------------------------------------------------------------------------------

    @precondition(lambda self: self.partners)
    @rule(for_good=st.booleans())
    def bo_seems_gone(self, for_good: bool) -> None:
        # As in membership: business ends first, then the loss is told. One that left comes back as a new process.
        if for_good:
            self._restart_bo()
        self.partners.clear()
        self.ada.sender.lost(BO, self.now, for_good, "left" if for_good else "silent")
        self._pump()
        for _, one in self.ada.sender.in_flight():
            assert one.parcel.step in self.on_the_wire, "never sent, and not returned"

    @rule()
    def bo_is_heard(self) -> None:
        self.partners.update(living(self.real_bo_boot))
        self.ada.sender.returned(BO, self.now)
        self._pump()

    @rule()
    def bo_restarts(self) -> None:
        self._restart_bo()
        self._pump()

    def _restart_bo(self) -> None:
        self.real_bo_boot += 1
        self.bo = ReliableMessages(DEFAULT_LIMITS, Boot(self.real_bo_boot), living())
        self.waiting.clear()

    def _bo_boot(self) -> int | None:
        """The process of bo with which ada has business."""
        return self.partners[BO].boot if self.partners else None

    def _pump(self, socket: bool = True) -> None:
        sent, self.ada.box.out = self.ada.box.out, []
        for _, to_boot, message in sent:
            if socket:
                assert to_boot == self._bo_boot(), "sent to nobody"
                self.to_bo.append((to_boot, message))
                if isinstance(message, ReliableMessage):
                    self.on_the_wire.add(message.step)
            else:
                self.ada.sender.not_sent(BO, message, self.now)
        answered, self.bo.box.out = self.bo.box.out, []
        self.to_ada += [(self.real_bo_boot, message) for _, _, message in answered]  # type: ignore[misc]
        self.waiting += arrivals_of(self.bo.box.received)
        self.bo.box.received = []
        for arrival in self.ada.box.received:
            assert isinstance(arrival, Returned)
            self.returned[value_of(arrival)] += 1
        self.ada.box.received = []
        self.free += len(self.ada.sender.freed)
        self.ada.sender.freed = []

    # --- the twin -------------------------------------------------------------------------------------------------

    @invariant()
    def nothing_is_used_twice(self) -> None:
        for value in self.posted:
            assert self.absorbed[value] + self.returned[value] <= 1, f"{value} counts twice"
            assert self.absorbed[value] + self.refused[value] <= 1, f"{value} was settled twice"
            assert value in self.on_the_wire or not self.refused[value]

    @invariant()
    def weight_is_somewhere(self) -> None:
        never_sent = sum(2.0**-value for value in self.posted if value not in self.on_the_wire)
        assert self.ada.sender.written_off <= 1.0 - never_sent, "written off without having been sent"
        in_flight = {one.parcel.step for _, one in self.ada.sender.in_flight()}
        written_off = self.ada.sender.written_off
        gone = 0.0
        for value in self.posted:
            if value not in in_flight and not self.returned[value]:
                gone += 2.0**-value
        absorbed_and_known = sum(
            2.0**-value for value in self.posted if self.absorbed[value] and value not in in_flight
        )
        # What is neither on its way nor home was absorbed, or written off; some of it both: the dead had absorbed it.
        assert written_off <= gone <= absorbed_and_known + written_off

    @invariant()
    def the_bound_holds(self) -> None:
        in_flight = len(list(self.ada.sender.in_flight()))
        assert in_flight + self.free == DEFAULT_LIMITS.in_flight_mass_max
        assert len(self.waiting) <= DEFAULT_LIMITS.in_flight_mass_max
        for window in self.bo.receiver.windows.values():
            assert len(window.verdicts) <= 2
            assert not window.early

    def teardown(self) -> None:
        """In calm weather everything is settled."""
        self.bo_is_heard()
        for _ in range(30):
            self.now += 10.0
            self.ada.handle_timeout(self.now)
            self._pump()
            while self.to_bo:
                self.carry_to_bo(0, doubled=False, lost=False)
            while self.waiting:
                self.settle(absorb=True)
            while self.to_ada:
                self.carry_to_ada(0, doubled=False, lost=False)
        assert not list(self.ada.sender.in_flight())
        self.nothing_is_used_twice()
        self.weight_is_somewhere()


TestOneLink = OneLink.TestCase
TestOneLink.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
