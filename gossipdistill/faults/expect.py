"""What must hold in spite of faults: one [[expect]] of a fault plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

UNTOUCHED = "untouched"
ALL = "all"
QUIET_MIN_S = 1.5
"""The seconds before the first fault that are needed as the baseline of a ratio."""

_DEFAULT_PEERS = {"pace_ratio": UNTOUCHED, "exchange_ratio": UNTOUCHED, "rejoin_s": "restarted", "val_accuracy": "mean"}
_ACCEPTED = {
    "pace_ratio": (UNTOUCHED, ALL),
    "exchange_ratio": (UNTOUCHED, ALL),
    "rejoin_s": ("restarted",),
    "val_accuracy": ("mean", UNTOUCHED, ALL),
}

Metric = Literal["pace_ratio", "exchange_ratio", "rejoin_s", "val_accuracy"]


def _listed(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


class Expect(BaseModel):
    """One expectation.

    pace_ratio: steps/s while faults last over steps/s before the first one; the worst of `peers` counts.
    exchange_ratio: the same for exchanges/s on each link between two of `peers`, all links together.
    rejoin_s: from the moment a restarted process is ready until it has used something of a neighbour and a neighbour
    something of it; the worst counts.
    val_accuracy: at the end, 0 to 1; the mean over finished peers, or the worst of `peers`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    metric: Metric
    peers: Annotated[str | tuple[str, ...], BeforeValidator(_listed)] = ""
    at_least: Annotated[float, Field(ge=0)] | None = None
    at_most: Annotated[float, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _bounded(self) -> Expect:
        if self.at_least is None and self.at_most is None:
            raise ValueError("states no bound: give at_least or at_most")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"cannot be met: at_least = {self.at_least:g} is above at_most = {self.at_most:g}")
        if self.peers == ():
            raise ValueError("names no peers")
        return self

    @property
    def whose(self) -> str | tuple[str, ...]:
        """The peers whose figures count: a word, or names."""
        if self.peers == "":
            return _DEFAULT_PEERS[self.metric]
        if isinstance(self.peers, str) and self.peers not in _ACCEPTED[self.metric]:
            return (self.peers,)
        return self.peers

    @property
    def names(self) -> tuple[str, ...]:
        """The peers that it names."""
        return self.whose if isinstance(self.whose, tuple) else ()

    def members(self, names: Sequence[str], touched: frozenset[str], restarted: Sequence[str]) -> tuple[str, ...]:
        """The peers whose figures count, in roster order."""
        if isinstance(self.whose, tuple):
            return tuple(name for name in names if name in self.whose)
        if self.whose == UNTOUCHED:
            return tuple(name for name in names if name not in touched)
        return tuple(restarted) if self.whose == "restarted" else tuple(names)

    def impossible(
        self, names: Sequence[str], touched: frozenset[str], restarted: Sequence[str], begins_s: float | None
    ) -> str | None:
        """Why this plan can never measure it; None if it can."""
        members = self.members(names, touched, restarted)
        if self.metric == "rejoin_s":
            idle = [name for name in members if name not in restarted]
            if idle or not members:
                return (
                    f"the plan never starts {idle[0] if idle else 'a peer'} again (kill with restart_after_s, restart)"
                )
        if not members:
            return "no peer is left untouched by this plan"
        if self.metric == "exchange_ratio" and len(members) < 2:
            return f"an exchange needs two peers, and {members[0]} is the only one meant"
        if self.metric in ("pace_ratio", "exchange_ratio") and (begins_s is None or begins_s < QUIET_MIN_S):
            began = "there is no fault" if begins_s is None else f"the first fault begins at {begins_s:g} s"
            return f"a ratio needs {QUIET_MIN_S:g} quiet seconds first as its baseline, and {began}"
        return None

    def met(self, measured: float) -> bool:
        """Whether this measurement is within the bounds."""
        low = -1.0 if self.at_least is None else self.at_least
        return measured >= low and (self.at_most is None or measured <= self.at_most)

    def worst(self, values: Sequence[float]) -> float:
        """The measurement that comes nearest to breaking a bound, or breaks it most."""
        return min(values) if self.at_least is not None else max(values)

    def bound(self) -> str:
        """The bounds in words."""
        parts = [] if self.at_least is None else [f"at least {self.at_least:g}"]
        parts += [] if self.at_most is None else [f"at most {self.at_most:g}"]
        return " and ".join(parts)
