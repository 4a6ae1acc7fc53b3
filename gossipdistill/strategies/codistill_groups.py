"""Weight gossip inside a group, codistillation across groups.

The layout of Anil et al. 2018 (1804.03235), section 2: groups of workers, each with one model that its workers train
together, learn from one another's stale checkpoints. There a group goes in lockstep (all_reduce); here its members
average what arrives (GALA, Assran et al. 2019, 1906.04585, section 3), and no peer waits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Self, final

from pydantic import Field, model_validator
from torch import Tensor

from gossipdistill.errors import ConfigError, nearest
from gossipdistill.learning.averaging import at_most_the_plain_mean, mix_in
from gossipdistill.learning.distillation import age_weight
from gossipdistill.learning.learner import Learner
from gossipdistill.learning.model_teachers import ModelTeachers
from gossipdistill.learning.norms import read_model
from gossipdistill.learning.robust import Defence
from gossipdistill.learning.snapshot import PayloadRefusedError
from gossipdistill.messages import Arrival, Parcel
from gossipdistill.strategies.base import (
    NOTHING,
    Initialisation,
    LossTerm,
    Needs,
    RobustOptions,
    Strategy,
    TeacherOptions,
    View,
)
from gossipdistill.strategies.parcels import weights_parcels

Names = Annotated[tuple[str, ...], Field(min_length=1)]


class Options(TeacherOptions, RobustOptions):
    """Keys of `[strategy]` for this strategy."""

    groups: Annotated[int, Field(ge=2)] | Annotated[tuple[Names, ...], Field(min_length=2)] = 2
    """The number of groups, each of peers next to one another in the roster; or their members by name, as in
    [["ada", "bo"], ["cy", "dee"]]."""

    @model_validator(mode="after")
    def _each_in_one_group(self) -> Self:
        if not isinstance(self.groups, int):
            members = [name for group in self.groups for name in group]
            twice = sorted({name for name in members if members.count(name) > 1})
            if twice:
                raise ValueError(f"groups: {', '.join(twice)} is named twice")
        return self


@dataclass(slots=True)
class State:
    """My group, the newest checkpoint of each other group, and the defence against liars inside mine."""

    group: int
    teachers: ModelTeachers
    defence: Defence | None


@final
class CodistillGroups(Strategy):
    """Average weights with those of my group, and learn from stale models of the other groups.

    For arrivals j of my own group: x_i <- (1 - sum_j W_ij) x_i + sum_j W_ij x_j, as in gossip_averaging. Of every other
    group g the newest checkpoint, of whichever member, is the teacher f_g on my own batch x [B, ...]:

        L = task loss + alpha * ramp(step) * max_g w_g
            * T^2 KL( sum_g w_g softmax(f_g(x) / T) / sum_g w_g  ||  softmax(f(x) / T) )

    One forward pass per other group and step, however large the groups are. Members of a group begin alike and groups
    apart: weights are averaged only where they mean the same, and teachers that begin alike have nothing to teach. The
    members of a group must reach one another without the other groups. A parcel's key says which group it is of.

    Publishes: all parameters and buffers, to both kinds of neighbours; 4 P bytes in raw encoding, plus a header.
    Conserves: nothing; each version stands for itself, newest wins.
    When stale: the weight of either use falls with age, to 0 at the horizon.
    """

    name = "codistill_groups"
    clip_norm = "auto"
    needs = Needs(alike_models=True, initialisation=Initialisation.GROUPS, class_outputs=True)
    topic = "weights"
    options_type = Options
    options: Options

    def init(self, learner: Learner) -> State:
        group = self.start_of(learner.name, learner.place, learner.count)
        horizon_of = partial(self.exchange.horizon_s, learner)
        teachers = ModelTeachers(horizon_of, self.exchange.stale_after_steps)
        return State(group, teachers, self.options.defence(horizon_of))

    def mix(self, state: State, learner: Learner, arrivals: list[Arrival], view: View) -> list[Parcel]:
        own: dict[str, tuple[float, Mapping[str, Tensor]]] = {}
        for arrival in arrivals:
            try:
                group = self._group_told(arrival.key)
                arrays = read_model(arrival, learner)
            except PayloadRefusedError as refused:
                learner.ledger.quarantine(arrival.sender, refused.reason, str(refused))
                continue
            if group != state.group:
                state.teachers.put(arrival.key, arrival, arrays, learner)
                continue
            age_s = learner.now_s - arrival.arrived_s
            horizon_s = self.exchange.horizon_s(learner, arrival.sender)
            fresh = age_weight(age_s, 0, horizon_s, self.exchange.stale_after_steps)
            weight = fresh * view.in_weights.get(arrival.sender, 0.0)
            if weight > 0.0:
                own[arrival.sender] = (weight, arrays)
                learner.ledger.applied(arrival.sender, 0, age_s)
                learner.ledger.exchanged(arrival.sender, learner.now_s)
        if own:
            scaled = at_most_the_plain_mean(own)
            if state.defence is None:
                mix_in(learner.model, list(scaled.values()), learner.shared, learner.chance)
            else:
                state.defence.mix_in(learner.model, scaled, learner.now_s, learner.shared, learner.chance)
        return []

    def loss(self, state: State, learner: Learner) -> LossTerm:
        factor = self.options.factor(learner.step)
        if learner.step < self.options.burn_in_steps:
            state.teachers.burn_in(learner, self.options.burn_in_steps)
        term = state.teachers.term(learner, self.options.distillation, self.options.choice) if factor > 0.0 else None
        return NOTHING if term is None else LossTerm(factor * term)

    def publish(self, state: State, learner: Learner, view: View) -> list[Parcel]:
        return weights_parcels(self, learner, view, key=str(state.group))

    def start_of(self, name: str, place: int, count: int) -> int:
        """My group from 1, which is also what its members begin with alike.

        Raises:
            ConfigError: when the groups are given by names, and mine is not among them.
        """
        groups = self.options.groups
        if isinstance(groups, int):
            return 1 + min(place * groups // max(count, 1), groups - 1)
        for number, members in enumerate(groups, start=1):
            if name in members:
                return number
        names = [member for members in groups for member in members]
        raise ConfigError(f"has no group for {name}; {nearest(name, names)}", key="strategy.groups", value=groups)

    def agreed(self) -> dict[str, str]:
        groups = self.options.groups
        return {"groups": str(groups) if isinstance(groups, int) else "; ".join(" ".join(group) for group in groups)}

    def _group_told(self, key: str) -> int:
        count = self.options.groups if isinstance(self.options.groups, int) else len(self.options.groups)
        if not (key.isascii() and key.isdecimal() and len(key) < 6 and 1 <= int(key) <= count):
            raise PayloadRefusedError("group", f"is of group {key[:20]!r}, of which there is none")
        return int(key)
