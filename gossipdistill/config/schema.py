"""Every key of a run: its type, its bounds, its default and what it means. `config list` and docs/keys.md show them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from gossipdistill.config.checking import checked
from gossipdistill.learning.gradients import GradientRules
from gossipdistill.messages import Mode
from gossipdistill.strategies import Exchange, Strategy, strategy_of
from gossipdistill.strategies.base import PUSH_BYTES_MAX
from gossipdistill.tasks.shards import CLASSES_PER_PEER, SKEW


class TaskKeys(BaseModel):
    """`[task]`: which task, and how its examples are dealt. The task's own options stand beside these."""

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    name: str = "digits"
    """The task: a ready-made name (`gossipdistill task list`), or `module:function` of your own."""
    shards: Literal["disjoint", "same", "label_skew"] = "disjoint"
    """The labelled examples are dealt in this way. disjoint: each peer has random examples of its own. same: all have
    the same ones. label_skew: each has examples of its own that are mostly of a few main classes."""
    examples_per_peer: int | None = Field(default=None, ge=1)
    """The number of labelled examples that each peer trains on. Unset: a task of your own divides all its examples
    among the peers, and a ready-made one says its number (`gossipdistill task show NAME`)."""
    skew: float = Field(default=SKEW, ge=0, le=1)
    """The share of a peer's examples that is of its main classes, with shards = label_skew."""
    classes_per_peer: int = Field(default=CLASSES_PER_PEER, ge=1)
    """The number of main classes of each peer, with shards = label_skew."""


class TrainKeys(BaseModel):
    """`[train]`: the local optimiser and its pace."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    optimizer: str = "sgd"
    """The optimizer: sgd, adam, adamw, sgd_c or adam_c, or `module:Class` of your own, a torch.optim.Optimizer."""
    optimizer_options: dict[str, Any] = Field(default_factory=dict)
    """Further keyword arguments of the optimizer's class, as in `train.optimizer_options.topc = 5`."""
    lr: float = Field(default=0.05, gt=0)
    """The learning rate at the start of the run."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """The momentum of sgd and sgd_c; for adam, adamw and adam_c it is beta1."""
    weight_decay: float = Field(default=0.0, ge=0)
    """The weight decay of the optimizer."""
    lr_schedule: Literal["constant", "cosine", "drops"] = "cosine"
    """The learning rate changes in this way. cosine: it falls from lr to zero as the run nears its limit, in steps or
    seconds. drops: it falls tenfold at each share of lr_drops. constant: it stays."""
    lr_drops: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.4, 0.84, 0.98)
    """The shares of the run at which the learning rate falls tenfold, with lr_schedule = drops. The default is epochs
    18, 38 and 44 of 45 (Sodhani et al. 2020)."""
    batch_size: int = Field(default=32, ge=1)
    """The number of labelled examples in one batch of a peer."""
    accumulate: int = Field(default=1, ge=1)
    """The number of batches that make one step; the mean of their gradients is the gradient of the step."""
    clip_norm: Annotated[float, Field(gt=0)] | Literal["auto", "off"] | None = None
    """The largest Euclidean norm of a gradient over all parameters; a longer one is shortened. auto: the norm that a
    tenth of the peer's own last 100 gradients do not exceed, and at most 1 for a mean cross-entropy of class logits.
    off: no bound. Unset: as the strategy says."""
    autocast: Literal["off", "bfloat16"] = "off"
    """The number type of forward passes: bfloat16 runs them under torch.autocast. Weights, and what travels, keep their
    type."""
    threads: int | None = Field(default=None, ge=1)
    """The number of CPU threads that a peer computes with. Unset: OMP_NUM_THREADS or MKL_NUM_THREADS of the
    environment, else the free CPUs of the machine divided among its peers, at least one each; 1 in a simulation."""
    step_time_s: float = Field(default=0.0, ge=0)
    """The least time of a step: a shorter one is padded by waiting. 0 is full speed; in a simulation it is
    sim.step_time_s."""
    checkpoint_every_s: float = Field(default=10.0, ge=0)
    """The time between two checkpoints; the first ones come after 1, 2, 4, 8 ... seconds. 0: a checkpoint is written
    only at the end, and when SIGUSR1 asks for one."""
    checkpoints_kept: int = Field(default=3, ge=1)
    """The number of newest checkpoints that are kept; the one with the lowest training loss is kept as well."""

    def rate_drops(self) -> tuple[float, ...]:
        """Where the learning rate falls tenfold, as shares of the run."""
        return self.lr_drops if self.lr_schedule == "drops" else ()


class StrategyKeys(BaseModel):
    """`[strategy]`: which one; its own options stand beside the name (`gossipdistill strategy show NAME`)."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    name: str = "codistill_predictions"
    """The strategy: what is exchanged, and what is made of it (`gossipdistill strategy list`)."""


class ExchangeKeys(BaseModel):
    """`[exchange]`: how often, how large and how long."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    mode: Literal["auto", "push", "pull"] = "auto"
    """Payloads travel in this way. push: the sender sends at once. pull: it announces, and the reader asks when it has
    time. auto: payloads up to push_bytes_max are pushed, larger ones are pulled."""
    every_steps: int | None = Field(default=None, ge=1)
    """The number of a peer's own steps between two exchanges. Unset: as the strategy says."""
    per_second_max: float | None = Field(default=None, ge=0)
    """The most exchanges of a peer in a second; the tighter of this and every_steps holds. 0 is no cap. Unset: as the
    strategy says."""
    encoding: str | None = None
    """Arrays are encoded in this way on the wire: raw, half, bfloat16, int8, or top_k:K, which keeps the K largest
    probabilities of a row. Unset: as the strategy says."""
    stale_after_s: float | None = Field(default=None, ge=0)
    """The age at which the weight of what a peer has received has fallen to zero. 0 is never. Unset: it follows the
    pace. It is 5 times the usual interval between two arrivals from that sender, or between two exchanges of the
    receiver where that is longer, and at least 30 s."""
    stale_after_steps: int = Field(default=0, ge=0)
    """The same as stale_after_s, counted in the receiver's own steps. 0 is never."""
    refuse_unusual: bool = False
    """Whether weights of an unusual norm are refused, and not only counted: more than four times the receiver's own
    norm, or less than a quarter."""
    push_bytes_max: int = Field(default=PUSH_BYTES_MAX, ge=0)
    """The size above which a payload is announced and pulled, with mode = auto."""
    fetch: bool = True
    """Whether a peer that joins late begins with a neighbour's model, where models are averaged; a model that is worse
    on the peer's own examples is not taken."""
    fetch_within_s: float = Field(default=60.0, ge=0)
    """The most time for fetching a model; afterwards a newcomer begins with what it has."""
    fetch_if_older_s: float = Field(default=60.0, ge=0)
    """The age of its own checkpoint above which a restarted peer fetches a model, as a newcomer does."""
    donor_bytes_per_s: float = Field(default=50e6, ge=0)
    """The most bytes per second that a peer gives to all newcomers together. 0 is no limit."""

    @property
    def given_bytes_per_s(self) -> float | None:
        """The most that a peer gives to newcomers; None: nothing."""
        return self.donor_bytes_per_s if self.fetch else None


class SimKeys(BaseModel):
    """`[sim]`: the network and the machines of `gossipdistill simulate`; real runs pass them over."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    latency_s: float = Field(default=0.005, ge=0)
    """The latency of each link, one way."""
    jitter_s: float = Field(default=0.001, ge=0)
    """The mean of an exponential delay on top of the latency, drawn anew for each message."""
    megabytes_per_s: float = Field(default=0.0, ge=0)
    """The bandwidth of each link. 0 is no limit."""
    egress_megabytes_per_s: float = Field(default=0.0, ge=0)
    """The bandwidth of each peer's outgoing side, which its links share. 0 is no limit."""
    loss: float = Field(default=0.0, ge=0, lt=1)
    """The probability that a message is lost, on every link and all the time; a fault plan says more."""
    step_time_s: float = Field(default=0.1, gt=0)
    """The virtual time of a step, where train.step_time_s is 0."""
    step_jitter: float = Field(default=0.1, ge=0)
    """The standard deviation of the logarithm of a step's time."""
    straggler_share: float = Field(default=0.0, ge=0, le=1)
    """The share of the peers that are slower all the time; the seed chooses which."""
    straggler_factor: float = Field(default=10.0, ge=1)
    """The factor by which a step of those peers takes longer."""
    clocks_apart_s: float = Field(default=1000.0, ge=0)
    """The most by which the clocks of two peers differ."""


class RunConfig(BaseModel):
    """Everything that a run file may say."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    name: str = "run"
    """The name of the run and of its folder; all peers of a run have the same."""
    peers: str = "4"
    """The peers that take part: a count of peers on this machine, a ready-made roster, a roster file, or
    `host:port,...`."""
    topology: str = "complete"
    """The topology, which says which peer sends to which: a ready-made one (`gossipdistill topology list`), or a
    file."""
    steps: int | None = Field(default=None, ge=1)
    """The number of its own steps after which a peer ends. With seconds too, the earlier end counts; one of the two is
    needed."""
    seconds: float | None = Field(default=None, gt=0)
    """The time after which a peer ends; in a simulation, virtual time."""
    seed: int = Field(default=0, ge=0, le=2**63 - 1)
    """The seed of initial weights, shards and the order of examples."""
    linger_s: float = Field(default=30.0, ge=0)
    """The most time that a peer which is done serves the others; it ends earlier when all are done."""
    task: TaskKeys = TaskKeys()
    train: TrainKeys = TrainKeys()
    strategy: StrategyKeys = StrategyKeys()
    exchange: ExchangeKeys = ExchangeKeys()
    sim: SimKeys = SimKeys()

    def task_options(self) -> dict[str, Any]:
        """The task's own keys."""
        return dict(self.task.model_extra or {})

    def strategy_class(self) -> type[Strategy]:
        """The strategy, or a ConfigError with the nearest names."""
        return strategy_of(self.strategy.name)

    def gradient_rules(self) -> GradientRules:
        """How the gradient of a step is made."""
        train = self.train
        bound = self.strategy_class().clip_norm if train.clip_norm is None else train.clip_norm
        autocast = None if train.autocast == "off" else torch.bfloat16
        return GradientRules(train.accumulate, None if bound == "off" else bound, autocast)

    def make_strategy(self) -> Strategy:
        """The strategy with its options checked."""
        kind = self.strategy_class()
        given = dict(self.strategy.model_extra or {})
        options = checked(kind.options_type, given, "strategy", {}, list(kind.options_type.model_fields))
        exchange = Exchange(
            every_steps=self.exchange.every_steps or kind.every_steps,
            per_second_max=kind.per_second_max
            if self.exchange.per_second_max is None
            else self.exchange.per_second_max,
            encoding=self.exchange.encoding or kind.encoding,
            mode=None if self.exchange.mode == "auto" else Mode(self.exchange.mode),
            push_bytes_max=self.exchange.push_bytes_max,
            stale_after_s=self.exchange.stale_after_s,
            stale_after_steps=self.exchange.stale_after_steps,
        )
        return kind(options, exchange)
