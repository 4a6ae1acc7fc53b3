"""Delivery of payloads, of all classes: states, and reliable messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gossipdistill.ids import Boot, PeerName
from gossipdistill.limits import Limits
from gossipdistill.protocol.members import Member
from gossipdistill.protocol.reliable_messages import ReliableMessages
from gossipdistill.protocol.states import States


@dataclass(slots=True)
class Delivery:
    """What is in flight between my learner and those of others. `partners` are the peers that may be sent to now."""

    limits: Limits
    boot: Boot
    partners: Mapping[PeerName, Member]
    states: States = field(init=False)
    reliable_messages: ReliableMessages = field(init=False)

    def __post_init__(self) -> None:
        self.states = States(self.limits, self.partners)
        self.reliable_messages = ReliableMessages(self.limits, self.boot, self.partners)

    def has_something_for(self, name: PeerName) -> bool:
        """Whether something in flight to this peer is not settled or confirmed."""
        return self.reliable_messages.sender.has_something_for(name) or self.states.sender.has_something_for(name)
