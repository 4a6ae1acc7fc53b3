"""The kinds of faults: the keys of each in a plan, when it lasts, which peers it hits, and its description.

Times are seconds since the start of the run. A window holds from `from_s` up to, not including, `to_s`; without `to_s`
it lasts to the end. A *link fault* affects messages from one process to another; a *process fault* happens to a
process.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Union

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

ANY = "*"
"""This name stands for any peer."""
HALVES = "halves"
"""With this value, the groups of a partition are the first half of the roster and the rest."""


def _names(value: object) -> object:
    """One name, or a list of different ones."""
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list | tuple) or not value or not all(isinstance(name, str) for name in value):
        raise ValueError('must be the name of a peer, a list of names, or "*" for all')
    if len(set(value)) < len(value):
        raise ValueError("names a peer twice")
    return tuple(value)


def _pair(value: object) -> object:
    if not isinstance(value, list | tuple) or len(value) != 2 or not all(isinstance(name, str) for name in value):
        raise ValueError('must be [from, to], two names; "*" is any peer')
    if value[0] == value[1] != ANY:
        raise ValueError("leads from a peer to itself")
    return tuple(value)


def _groups(value: object) -> object:
    if value == HALVES:
        return value
    lists = isinstance(value, list | tuple) and value and all(isinstance(group, list | tuple) for group in value)
    groups = tuple(_names(group) for group in value) if lists else ()  # type: ignore[attr-defined]
    if not groups:
        raise ValueError(f'must be lists of names, such as [["ada", "bo"], ["cy", "dee"]], or "{HALVES}"')
    named = [name for group in groups for name in group]  # type: ignore[attr-defined]
    if len(set(named)) < len(named):
        raise ValueError("names a peer in two groups")
    if ANY in named:
        raise ValueError('cannot hold "*": peers in no group form one more')
    return groups


Names = Annotated[tuple[str, ...], BeforeValidator(_names)]
Seconds = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Probability = Annotated[float, Field(gt=0, le=1)]


class _Entry(BaseModel, ABC):
    """One [[fault]] of a plan."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @property
    @abstractmethod
    def begin_s(self) -> float:
        """The time at which it begins, in seconds."""

    @property
    @abstractmethod
    def end_s(self) -> float:
        """The time at which it is over, in seconds; infinite for what lasts to the end of the run."""

    @abstractmethod
    def words(self) -> str:
        """A description for people: what it does, and to which peers."""

    @abstractmethod
    def named(self) -> Sequence[tuple[str, str]]:
        """(key, name) of every peer that it names."""


class _Windowed(_Entry):
    from_s: Seconds = 0.0
    to_s: Positive | None = None

    @model_validator(mode="after")
    def _forwards(self) -> _Windowed:
        if self.to_s is not None and self.to_s <= self.from_s:
            raise ValueError(f"ends (to_s = {self.to_s:g}) before it begins (from_s = {self.from_s:g})")
        return self

    @property
    def begin_s(self) -> float:
        return self.from_s

    @property
    def end_s(self) -> float:
        return math.inf if self.to_s is None else self.to_s


# --- links ------------------------------------------------------------------------------------------------------------


class LinkFault(_Windowed):
    """Affects messages: on one `link` in this direction, or on all links from and to a `peer`."""

    link: Annotated[tuple[str, str], BeforeValidator(_pair)] | None = None
    peer: Names | None = None

    @model_validator(mode="after")
    def _aimed(self) -> LinkFault:
        if (self.link is None) == (self.peer is None):
            both = "has both link and peer" if self.link is not None else "has no target"
            raise ValueError(f'{both}; give either link = ["from", "to"] ("*" is any peer) or peer = "name"')
        return self

    def named(self) -> Sequence[tuple[str, str]]:
        if self.link is not None:
            return [("link", name) for name in self.link]
        return [("peer", name) for name in self.peer or ()]

    def hits(self, sender: str, to: str, groups: Sequence[frozenset[str]]) -> bool:
        """Whether it affects messages on this link (`groups` matter to a partition only)."""
        if self.link is not None:
            return self.link[0] in (ANY, sender) and self.link[1] in (ANY, to)
        peers = self.peer or ()
        return ANY in peers or sender in peers or to in peers

    def _where(self) -> str:
        if self.link is not None:
            sender, to = ("any peer" if name == ANY else name for name in self.link)
            return "between all peers" if self.link == (ANY, ANY) else f"from {sender} to {to}"
        return "between all peers" if ANY in (self.peer or ()) else f"from and to {_listed(self.peer or ())}"


class Drop(LinkFault):
    """Each message is lost with this probability."""

    kind: Literal["drop"]
    probability: Probability

    def words(self) -> str:
        return f"{_percent(self.probability)} of the messages {self._where()} are lost"


class Delay(LinkFault):
    """Each message takes `seconds` longer."""

    kind: Literal["delay"]
    seconds: Positive

    def words(self) -> str:
        return f"messages {self._where()} take {self.seconds:g} s longer"


class Jitter(LinkFault):
    """Each message takes longer by 0 to `seconds`, drawn uniformly; so some overtake others."""

    kind: Literal["jitter"]
    seconds: Positive

    def words(self) -> str:
        return f"messages {self._where()} take up to {self.seconds:g} s longer, each differently"


class Duplicate(LinkFault):
    """Each message arrives twice with this probability, the copy up to `seconds` later."""

    kind: Literal["duplicate"]
    probability: Probability
    seconds: Seconds = 0.1

    def words(self) -> str:
        return f"{_percent(self.probability)} of the messages {self._where()} come twice"


class Reorder(LinkFault):
    """Each message is held back by `seconds` with this probability, so that later ones overtake it."""

    kind: Literal["reorder"]
    probability: Probability
    seconds: Positive

    def words(self) -> str:
        share = _percent(self.probability)
        return f"{share} of the messages {self._where()} are held back by {self.seconds:g} s, and overtaken"


class Corrupt(LinkFault):
    """One byte of each message is flipped with this probability."""

    kind: Literal["corrupt"]
    probability: Probability

    def words(self) -> str:
        return f"a byte of {_percent(self.probability)} of the messages {self._where()} is flipped"


class OneWay(LinkFault):
    """Nothing passes in this direction; the other one is unaffected."""

    kind: Literal["one_way"]

    @model_validator(mode="after")
    def _directed(self) -> OneWay:
        if self.link is None:
            raise ValueError('needs the direction that is closed: link = ["from", "to"]')
        return self

    def words(self) -> str:
        return f"nothing passes {self._where()}; the other direction is whole"


class RateLimit(LinkFault):
    """Each link carries `bytes_per_s`. A message that would wait longer than `wait_max_s` is lost."""

    kind: Literal["rate_limit"]
    bytes_per_s: Positive
    wait_max_s: Positive = 1.0

    def words(self) -> str:
        return f"each link {self._where()} carries {self.bytes_per_s:g} bytes/s"


class Partition(_Windowed):
    """Messages pass within a group only. Peers that no group names form one more."""

    kind: Literal["partition"]
    groups: Annotated[tuple[tuple[str, ...], ...] | Literal["halves"], BeforeValidator(_groups)]

    def named(self) -> Sequence[tuple[str, str]]:
        return [] if self.groups == HALVES else [("groups", name) for group in self.groups for name in group]

    def sides(self, names: Sequence[str]) -> list[frozenset[str]]:
        """The groups among these peers (names in roster order)."""
        if self.groups == HALVES:
            half = (len(names) + 1) // 2
            return [frozenset(names[:half]), frozenset(names[half:])]
        listed = [frozenset(group) for group in self.groups]
        rest = frozenset(names).difference(*listed)
        return [*listed, rest] if rest else listed

    def hits(self, sender: str, to: str, groups: Sequence[frozenset[str]]) -> bool:
        """Whether the two are on different sides."""
        return not any(sender in group and to in group for group in groups)

    def words(self) -> str:
        if self.groups == HALVES:
            return "the first half of the peers and the rest are cut off from one another"
        sides = " | ".join(", ".join(group) for group in self.groups)
        return f"cut apart: {sides} | the rest" if len(self.groups) == 1 else f"cut apart: {sides}"


# --- processes --------------------------------------------------------------------------------------------------------


class ProcessFault(_Entry):
    """Happens to the process of each `peer`; with `share`, to that share of them (at least one), chosen by the seed."""

    peer: Names
    share: Probability = 1.0

    def named(self) -> Sequence[tuple[str, str]]:
        return [("peer", name) for name in self.peer]

    def _whom(self) -> str:
        whom = "all peers" if ANY in self.peer else _listed(self.peer)
        return whom if self.share == 1.0 else f"{_percent(self.share)} of {whom}"


class Slow(ProcessFault, _Windowed):
    """Each training step takes `factor` times as long."""

    kind: Literal["slow"]
    factor: Annotated[float, Field(gt=1)]

    def words(self) -> str:
        return f"{self._whom()} {_be(self)} {self.factor:g}x slower"


class Pause(ProcessFault, _Windowed):
    """The process is stopped (SIGSTOP), then continued (SIGCONT)."""

    kind: Literal["pause"]
    to_s: Positive  # required: use kill for a process that never continues

    def words(self) -> str:
        return f"{self._whom()} {_be(self)} stopped for {self.end_s - self.begin_s:g} s"


class Kill(ProcessFault):
    """The process is killed (SIGKILL); with `restart_after_s` it is started again that many seconds later."""

    kind: Literal["kill"]
    at_s: Seconds
    restart_after_s: Positive | None = None

    @property
    def begin_s(self) -> float:
        return self.at_s

    @property
    def end_s(self) -> float:
        return math.inf if self.restart_after_s is None else self.at_s + self.restart_after_s

    def words(self) -> str:
        back = "" if self.restart_after_s is None else f", and started again {self.restart_after_s:g} s later"
        return f"{self._whom()} {_be(self)} killed{back}"


class Restart(ProcessFault):
    """The process is asked to end (SIGTERM: it sends its last message and saves), and started again after
    `restart_after_s`."""

    kind: Literal["restart"]
    at_s: Seconds
    restart_after_s: Positive = 0.5

    @property
    def begin_s(self) -> float:
        return self.at_s

    @property
    def end_s(self) -> float:
        return self.at_s + self.restart_after_s

    def words(self) -> str:
        return f"{self._whom()} {_be(self)} asked to end, and started again {self.restart_after_s:g} s later"


class ClockJump(ProcessFault):
    """The clock that the protocol and the learner read jumps, forwards or (negative) backwards."""

    kind: Literal["clock_jump"]
    at_s: Seconds
    seconds: float

    @model_validator(mode="after")
    def _moves(self) -> ClockJump:
        if self.seconds == 0:
            raise ValueError("jumps by nothing (seconds = 0)")
        return self

    @property
    def begin_s(self) -> float:
        return self.at_s

    @property
    def end_s(self) -> float:
        return self.at_s

    def words(self) -> str:
        direction = "forwards" if self.seconds > 0 else "backwards"
        return f"the clock of {self._whom()} jumps {abs(self.seconds):g} s {direction}"


Fault = Annotated[
    Union[  # noqa: UP007 - a union of a dozen reads better so
        Drop,
        Delay,
        Jitter,
        Duplicate,
        Reorder,
        Corrupt,
        OneWay,
        Partition,
        RateLimit,
        Slow,
        Pause,
        Kill,
        Restart,
        ClockJump,
    ],
    Field(discriminator="kind"),
]
KINDS: dict[str, type[Any]] = {
    "drop": Drop,
    "delay": Delay,
    "jitter": Jitter,
    "duplicate": Duplicate,
    "reorder": Reorder,
    "corrupt": Corrupt,
    "one_way": OneWay,
    "partition": Partition,
    "rate_limit": RateLimit,
    "slow": Slow,
    "pause": Pause,
    "kill": Kill,
    "restart": Restart,
    "clock_jump": ClockJump,
}


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _be(fault: ProcessFault) -> str:
    return "is" if len(fault.peer) == 1 and ANY not in fault.peer else "are"
