"""Training towards the best of the neighbours instead of towards their mean.

Leader SGD: Teng, Gao, Chalus, Choromanska, Goldfarb and Weller 2019 (1905.10395), section 3, without its rounds.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections import Counter, deque
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import NamedTuple, final

import torch
from pydantic import Field
from torch import Tensor, nn

from gossipdistill.errors import NeedsError
from gossipdistill.learning.averaging import mix_in
from gossipdistill.learning.checkpoint import Memory
from gossipdistill.learning.cloning import frozen_clone
from gossipdistill.learning.distillation import age_weight
from gossipdistill.learning.learner import Draws, Learner
from gossipdistill.learning.norms import read_model
from gossipdistill.learning.snapshot import PayloadRefusedError, load_arrays, pack, payload_bytes, unpack
from gossipdistill.learning.words import Words, gain_over, no_words, row_losses
from gossipdistill.messages import Arrival, Parcel
from gossipdistill.strategies import base
from gossipdistill.strategies.base import (
    Exchange,
    Extent,
    Initialisation,
    Needs,
    Publication,
    Strategy,
    View,
)
from gossipdistill.strategies.parcels import state_parcels, weights_parcels

WORDS, CLAIM = "words", "claim"
"""These are the keys of what a peer sends beside its model, each in a slot of its own."""
UNJUDGED_MAX = 20
"""After this number of exchanges without a word about my model, a warning is given."""


class Judge(StrEnum):
    """The way in which a model is judged."""

    OTHERS = "others"
    PROBE = "probe"
    CLAIMS = "claims"


class Options(base.AsynchronousOptions):
    """Keys of `[strategy]` for this strategy."""

    judge: Judge = Judge.OTHERS
    """This judge decides which model is best. others: the peers that do not own it, each on its own examples. probe:
    this peer alone, on examples that it does not train on (`probe_share`). claims: each model's owner, by its training
    loss, as in the paper; a single liar then leads all peers."""
    pull: float = Field(default=0.6, gt=0, le=1)
    """The part of the way to its leader that a model goes when a new version of the leader arrives. 1: it becomes that
    model, and trains on from there."""
    judged_examples: int = Field(default=32, ge=1)
    """The number of examples on which a model that arrives is judged."""
    probe_share: float = Field(default=0.2, gt=0, lt=1)
    """The share of a peer's examples that it judges by and does not train on; with judge = "probe" only."""


@dataclass(slots=True)
class State:
    """`start_loss` is the mean loss of the model before training, over the examples that I judge by, which `rows`
    draws. `losses` are the training losses of the last exchange period. `leader` is (leader at the last look, lead of
    its model). `followed` counts my moves towards each neighbour. `found` holds what is known of each neighbour's
    newest model, with the time and my step: its worth to me or, by claims, what the neighbour claims."""

    start_loss: float
    words: Words
    rows: Draws
    losses: deque[float]
    leader: tuple[str, float] | None = None
    followed: Counter[str] = field(default_factory=Counter)
    found: dict[str, tuple[float, float, int]] = field(default_factory=dict)
    scratch: nn.Module | None = None
    unjudged: int = 0


class Came(NamedTuple):
    """A new model of a neighbour, and the weight of its age."""

    arrays: dict[str, Tensor]
    fresh: float
    age_s: float


@final
class LeaderSgd(Strategy):
    """x_i <- (1 - pull a) x_i + pull a x_j whenever a new version of my leader j arrives; all parameters and buffers.

        a          falls with the version's age, and is 1 when it has just come
        j          of the neighbours that are better than I, d(j, i) > 0, the best
        d(j, i)    others:  the difference of what peers other than i and j have measured of the two models, each on its
                            own examples (learning/words.py)
                   probe:   the same, measured by me alone, on examples that I do not train on
                   claims:  my training loss minus that of j as j says, each the mean over one exchange period

    Nothing pulls the best peer, so the stationary points are those of plain training (section 3 of the paper). In the
    paper a leader pulls in each step, by pull / period; here all at once, so that steps between exchanges cost nothing.
    Where no judge finds any use in any model (no two peers have a label in common), neighbours lead in turn, until what
    was taken over from them shows in the words.

    By `others`, one liar cannot make its model lead a peer that has a better one, as long as a third peer, which is
    heard by me, has measured the two models. Of two peers alone, or where all news comes through one neighbour, that
    neighbour can talk the other's model down. A liar that sends a good model to the judges and a bad one to me is not
    found out. What judges say is passed on, so that it comes round on directed graphs too, of up to about 30 links;
    where none comes round, no peer leads, and the run says so.

    Publishes: all parameters and buffers; 4 P bytes in raw encoding, plus a header. In a slot of their own, its words,
    512 bytes for up to 32 of them, as soon as it has any; by `claims`, 8 bytes; by `probe`, none.
    Conserves: nothing; a lost or doubled version is harmless.
    When stale: the pull of a version falls with its age, to 0 at the horizon; words beyond it do not count.
    """

    name = "leader_sgd"
    clip_norm = "auto"
    needs = Needs(strongly_connected=True, alike_models=True, initialisation=Initialisation.IDENTICAL)
    topic = "weights"
    options_type = Options
    options: Options

    def __init__(self, options: Options, exchange: Exchange) -> None:
        super().__init__(options, exchange)
        self.held_out = options.probe_share if options.judge is Judge.PROBE else 0.0

    def agreed(self) -> dict[str, str]:
        return {"strategy.judge": self.options.judge.value}

    def init(self, learner: Learner) -> State:
        if learner.examples is None or learner.criterion is None:
            raise NeedsError(f"strategy {self.name} judges models by examples, and this loop does not give its own")
        x, _ = learner.held_out or learner.examples
        rows = Draws(len(x), min(self.options.judged_examples, len(x)), learner.seed + learner.place)
        words = Words(learner.name, partial(self._counts, learner))
        state = State(0.0, words, rows, deque(maxlen=max(self.exchange.every_steps, 1)))
        if self.options.judge is not Judge.CLAIMS:
            state.scratch = frozen_clone(learner.model)  # some models are not quite the same after an evaluation
            losses = self._losses(state, learner, state.scratch, 0)
            state.start_loss = float(losses[losses.isfinite()].mean().nan_to_num())
        return state

    def remember(self, state: State) -> Memory:
        return {"start_loss": state.start_loss}

    def recall(self, state: State, learner: Learner, memory: Memory) -> None:
        start_loss = memory.get("start_loss")
        if isinstance(start_loss, int | float):
            state.start_loss = float(start_loss)

    def mix(self, state: State, learner: Learner, arrivals: list[Arrival], view: View) -> list[Parcel]:
        came = self._taken(state, learner, arrivals, view)
        if came:
            state.leader = self._leader(state, learner, view)
        name, _ = state.leader or ("", 0.0)
        if name and not self._known(state, learner, name):
            state.leader = None
        if name in came:
            arrays, fresh, age_s = came[name]
            mix_in(learner.model, [(fresh * self.options.pull, arrays)], learner.shared, learner.chance)
            learner.ledger.applied(name, 0, age_s)
            state.followed[name] += 1
        return []

    def adjust(self, state: State, learner: Learner) -> None:
        super().adjust(state, learner)
        state.losses.append(learner.task_loss)

    def publish(self, state: State, learner: Learner, view: View) -> list[Parcel]:
        state.words.forget(learner.now_s, learner.step)
        self._say_if_unjudged(state, learner)
        parcels = weights_parcels(self, learner, view)
        if parcels and self.options.judge is Judge.OTHERS and any(state.words.known.values()):
            parcels += state_parcels(self, pack({WORDS: state.words.table(learner.now_s)}, "raw"), learner, view, WORDS)
        elif parcels and self.options.judge is Judge.CLAIMS:
            claim = torch.tensor(_mean(state.losses), dtype=torch.float64)
            parcels += state_parcels(self, pack({CLAIM: claim}, "raw"), learner, view, CLAIM)
        return parcels

    def publications(self, extent: Extent) -> list[Publication]:
        if self.options.judge is not Judge.OTHERS:
            return super().publications(extent)
        both = (*super().publications(extent), Publication({WORDS: no_words()}, "raw"))
        return [max(both, key=lambda one: payload_bytes(one.arrays, one.encoding))]

    # --- judging --------------------------------------------------------------------------------------------------

    def _taken(self, state: State, learner: Learner, arrivals: list[Arrival], view: View) -> dict[str, Came]:
        """The new models that are whole and fresh, by sender. The words, and the worth of each model, are in the
        state."""
        came: dict[str, Came] = {}
        for arrival in arrivals:
            age_s = learner.now_s - arrival.arrived_s
            # It arrived between my last step and this one, so its staleness in steps is 0 by definition.
            fresh = self._fresh(learner, arrival.sender, age_s, 0)
            try:
                if arrival.key:
                    self._heard(state, learner, arrival)
                    continue
                arrays = read_model(arrival, learner)
            except PayloadRefusedError as refused:
                learner.ledger.quarantine(arrival.sender, refused.reason, str(refused))
                continue
            if fresh <= 0.0:
                continue
            came[arrival.sender] = Came(arrays, fresh, age_s)
            learner.ledger.exchanged(arrival.sender, learner.now_s)
            if self.options.judge is not Judge.CLAIMS:
                found = (self._worth(state, learner, arrays, view), learner.now_s, learner.step)
                state.found[arrival.sender] = found
                state.words.measured(arrival.sender, *found)
        return came

    def _heard(self, state: State, learner: Learner, arrival: Arrival) -> None:
        """Take in what a neighbour reports of others' models or, by claims, of its own."""
        if self.options.judge is Judge.CLAIMS:
            claim = unpack(arrival.payload, {CLAIM: ()}, {CLAIM: torch.float64})[CLAIM]
            state.found[arrival.sender] = (-float(claim), arrival.arrived_s, learner.step)
            return
        empty = no_words()
        said = unpack(arrival.payload, {WORDS: tuple(empty.shape)}, {WORDS: empty.dtype})[WORDS]
        state.words.heard(arrival.sender, said, arrival.arrived_s, learner.step)

    def _worth(self, state: State, learner: Learner, arrays: dict[str, Tensor], view: View) -> float:
        """The worth of a model: its gain on the examples that I judge by; with a probe, its gain over that of my own
        model."""
        assert state.scratch is not None
        load_arrays(state.scratch, arrays)
        gain = self._gain(state, learner, state.scratch, view)
        return gain - self._gain(state, learner, learner.model, view) if self.held_out else gain

    def _leader(self, state: State, learner: Learner, view: View) -> tuple[str, float] | None:
        """(neighbour, its lead) of the best neighbour that is better than I; of equally useless ones, each in turn."""
        state.words.forget(learner.now_s, learner.step)
        state.found = {name: state.found[name] for name in sorted(state.found) if self._known(state, learner, name)}
        leads: dict[str, float] = {}
        for name, (worth, *_) in state.found.items():
            lead: float | None = worth
            if self.options.judge is Judge.OTHERS:
                lead = state.words.lead(name)
            elif self.options.judge is Judge.CLAIMS:
                lead = worth + _mean(state.losses)
            if lead is not None and lead >= 0.0:
                leads[name] = lead
        best = max(leads.values(), default=0.0)
        if best == 0.0 and not (self.options.judge is Judge.OTHERS and state.words.all_useless):
            return None
        equal = [name for name, lead in leads.items() if lead == best]
        return (equal[(view.exchange + learner.place) % len(equal)], best) if equal else None

    def _known(self, state: State, learner: Learner, name: str) -> bool:
        """Whether what I have found of this neighbour's model still counts."""
        _, at_s, step = state.found[name]
        return self._counts(learner, name, learner.now_s - at_s, learner.step - step)

    def _gain(self, state: State, learner: Learner, model: nn.Module, view: View) -> float:
        return gain_over(state.start_loss, self._losses(state, learner, model, view.exchange))

    def _losses(self, state: State, learner: Learner, model: nn.Module, number: int) -> Tensor:
        """The loss of each row that I judge by in exchange `number`; the rows are the same for all models."""
        assert learner.criterion is not None
        assert learner.examples is not None
        x, y = learner.held_out or learner.examples
        rows = state.rows.at(number).to(x.device)
        return row_losses(model, learner.criterion, x[rows], y[rows])

    def _fresh(self, learner: Learner, sender: str, age_s: float, steps: int) -> float:
        horizon_s = self.exchange.horizon_s(learner, sender)
        return age_weight(age_s, steps, horizon_s, self.exchange.stale_after_steps)

    def _counts(self, learner: Learner, sender: str, age_s: float, steps: int) -> bool:
        return self._fresh(learner, sender, age_s, steps) > 0.0

    def _say_if_unjudged(self, state: State, learner: Learner) -> None:
        """A warning where I hear of other models, and never of mine."""
        if self.options.judge is not Judge.OTHERS or not any(state.words.known.values()):
            return
        state.unjudged = 0 if state.words.about(learner.name, passed_on=True) else state.unjudged + 1
        if state.unjudged == UNJUDGED_MAX:
            learner.ledger.warn(
                "no peer leads me: no word about my model has come back to me; "
                'strategy.judge = "probe" needs no word of others'
            )


def _mean(losses: deque[float]) -> float:
    """The mean, as a number that can be sent: the largest one where there is none."""
    mean = statistics.fmean(losses) if losses else math.nan
    return min(mean, sys.float_info.max) if not math.isnan(mean) else sys.float_info.max
