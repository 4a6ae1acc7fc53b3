"""The one shape of a strategy.

A strategy decides what is sent to the neighbours, and how what they send is used. It sees a `Learner`, arrivals and an
immutable `View`; it knows no network, no clock and no thread. The worker calls its verbs once a step, in this order:

    parcels = strategy.mix(state, learner, arrivals, view)       before the forward pass: absorb what came
    term = strategy.loss(state, learner)                         before backward: the strategy's term of the loss
    strategy.adjust(state, learner)                              after backward, before the optimiser's step
    parcels = strategy.publish(state, learner, view)             after the step, whenever an exchange is due; before
                                                                 the forward pass, if `overlapped`

The optimizer's step itself belongs to the owner of the loop, unless a strategy declares that it `owns_step`. `loss` and
`adjust` have a default: nothing is added, and what the options ask for is done. Every strategy is a final class.
Strategies share functions (learning/) and options; those of push-sum share one parent class (push_sum.py).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from gossipdistill.ids import PeerName
from gossipdistill.learning.checkpoint import Memory
from gossipdistill.learning.decay import schedule_weight_decay
from gossipdistill.learning.distillation import Average, Divergence, ramp
from gossipdistill.learning.flat import parameter_arrays
from gossipdistill.learning.learner import Learner
from gossipdistill.learning.mass import STRETCH_MAX
from gossipdistill.learning.robust import Defence, Rule
from gossipdistill.learning.snapshot import model_arrays
from gossipdistill.learning.teachers import Choice, Distillation
from gossipdistill.messages import Arrival, Mode, Parcel, Returned


class Rounds(StrEnum):
    """Whether a step may wait for neighbours."""

    FREE = "free"
    LOCKSTEP = "lockstep"


class Delivery(StrEnum):
    """What the network promises for the strategy's payloads."""

    NONE = "none"
    STATE = "state"
    MASS = "mass"
    STREAM = "stream"
    COLLECTIVE = "collective"

    @property
    def settled(self) -> bool:
        """Whether each arrival is to be absorbed or refused, once."""
        return self in (Delivery.MASS, Delivery.STREAM)

    @property
    def gossips(self) -> bool:
        """Whether anything is exchanged with neighbours through the mailbox."""
        return self is Delivery.STATE or self.settled


class Initialisation(StrEnum):
    """The required relation between the initial models of different peers."""

    ANY = "any"
    IDENTICAL = "identical"
    DISTINCT = "distinct"
    GROUPS = "identical inside a group, distinct across groups"


@dataclass(frozen=True, slots=True)
class Needs:
    """What a run must offer; otherwise it is refused, with the reason. `symmetric`: each link of a topology has its
    reverse in the same exchange. `class_outputs`: class logits. `float_inputs`: inputs that are floating-point
    numbers."""

    strongly_connected: bool = False
    symmetric: bool = False
    alike_models: bool = False
    initialisation: Initialisation = Initialisation.ANY
    class_outputs: bool = False
    transfer_set: bool = False
    float_inputs: bool = False


class Options(BaseModel):
    """A strategy's own keys under `[strategy]`, with defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    def adjust(self, exchange: Exchange, learner: Learner) -> None:
        """Change gradients as these keys ask, between backward and the optimizer's step."""
        return None


class TeacherOptions(Options):
    """Keys that all strategies with teachers share."""

    weight: float = Field(default=1.0, ge=0)
    """The factor alpha of the distillation term in the loss."""
    temperature: float = Field(default=1.0, gt=0)
    """The temperature that softens teacher and student alike; it must be equal on all peers."""
    temperature_of: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Other temperatures, by the name of the teacher that a student is compared with."""
    burn_in_steps: int = Field(default=0, ge=0)
    """The number of its own steps before a peer listens to teachers."""
    teacher_burn_in_steps: int = Field(default=0, ge=0)
    """The number of its own steps that a peer waits after the first word of a teacher's process before it listens to
    that teacher: a newcomer learns first."""
    ramp_steps: int = Field(default=0, ge=0)
    """The number of its own steps, after burn_in_steps, over which the weight rises to its full value."""
    divergence: Divergence = Divergence.FORWARD_KL
    """This divergence between teachers and student is minimised. forward_kl: KL(teacher || student), the standard.
    reverse_kl: KL(student || teacher), which seeks modes. cross_entropy: of the teacher's probabilities. mse: of
    logits."""
    average: Average = Average.PROBABILITIES
    """This quantity is averaged over several teachers: their probabilities, or their logits."""
    quality_margin: float | None = Field(default=None, ge=0)
    """The most by which the loss of a teacher may exceed the student's own; a teacher above that is not listened to.
    Unset: all are."""
    best_k: int | None = Field(default=None, ge=1)
    """The number of teachers that are listened to: those of the lowest loss. With 1, and quality_margin = 0, it is the
    leader alone. Unset: all."""
    weight_decay_schedule: tuple[Annotated[float, Field(ge=0)], ...] = ()
    """Factors of the weight decay: the first at the start, the next one at each tenfold drop of the learning rate, as
    in [1.0, 0.1, 0.0]. Empty: the weight decay stays."""

    def adjust(self, exchange: Exchange, learner: Learner) -> None:
        schedule_weight_decay(learner.optimizer, self.weight_decay_schedule)

    def factor(self, step: int) -> float:
        """alpha * ramp(step): the weight of the distillation term at the receiver's own step."""
        return self.weight * ramp(step, self.burn_in_steps, self.ramp_steps)

    @property
    def choice(self) -> Choice:
        """The rules by which teachers are left out."""
        return Choice(self.quality_margin, self.best_k, self.teacher_burn_in_steps)

    @property
    def distillation(self) -> Distillation:
        """The comparison of teachers and student."""
        return Distillation(self.temperature, self.divergence, self.average, self.temperature_of)


class AsynchronousOptions(Options):
    """Keys that all strategies share that mix weights without rounds (learning/delays.py)."""

    delay_adaptive: bool = False
    """Whether a peer shortens its steps while what it receives is older than usual. The silence of a single neighbour
    does not count."""

    def adjust(self, exchange: Exchange, learner: Learner) -> None:
        if self.delay_adaptive:
            learner.step_scale.factor = exchange.shortened(learner)


class RobustOptions(Options):
    """Keys that all strategies share that mix the weights of neighbours as states (learning/robust.py)."""

    robust: Rule = Rule.NONE
    """Models are averaged by this rule. none: a plain weighted mean. clip, trimmed_mean and median bound what a few
    liars can do, and keep the newest model of every neighbour."""
    liars_max: int = Field(default=1, ge=1)
    """The number of neighbours that may lie; with no more neighbours than that, none is believed."""

    def defence(self, horizon_of: Callable[[str], float]) -> Defence | None:
        """The defence against liars; None where every neighbour is believed."""
        return None if self.robust is Rule.NONE else Defence(self.robust, self.liars_max, horizon_of)


class MassOptions(AsynchronousOptions):
    """Keys that all strategies share that send shares of push-sum mass (learning/mass.py)."""

    push_sum_weight_min: float = Field(default=1e-3, gt=0, lt=0.5)
    """The least push-sum weight that a peer keeps: a split that would leave less does not take place, because noise in
    the model is magnified by 1 / weight. All peers must agree on it: no parcel weighs less than half of it."""
    stretch_max: float = Field(default=STRETCH_MAX, ge=1)
    """The most steps of the optimizer by which one step moves a peer's model; without a bound (inf) it is 1 / weight.
    The part beyond the bound is not lost: the neighbours get their shares of it, and the model gets the rest as soon as
    weight arrives."""


class RoundOptions(Options):
    """Keys that all strategies in lockstep share."""

    round_timeout_s: float = Field(default=5.0, gt=0)
    """The most time that a round waits for a living neighbour. A neighbour that is later is not awaited again until it
    is heard."""


EVERY_STEPS, PER_SECOND_MAX, ENCODING, PUSH_BYTES_MAX = 10, 20.0, "raw", 64 * 1024
"""These are defaults of keys under `[exchange]`; a strategy may have others."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """The keys under `[exchange]`, resolved for this strategy."""

    every_steps: int = EVERY_STEPS
    per_second_max: float = PER_SECOND_MAX
    encoding: str = ENCODING
    mode: Mode | None = None
    push_bytes_max: int = PUSH_BYTES_MAX
    stale_after_s: float | None = None
    stale_after_steps: int = 0

    def horizon_s(self, learner: Learner, sender: str | None = None, words: int = 1) -> float:
        """The age in seconds at which the weight of what `sender` has sent is zero; 0 is never. It is `stale_after_s`,
        or, where that is unset, it follows from the pace of both peers (learning/pace.py). Without a sender, it is the
        horizon for the silence of all."""
        if self.stale_after_s is not None:
            return self.stale_after_s
        return learner.paces.horizon_s(self.every_steps, sender, words)

    def shortened(self, learner: Learner) -> float:
        """The factor of the step in progress where steps adapt to delays (learning/delays.py)."""
        exchanges, horizon_s = learner.ledger.exchanges, self.horizon_s(learner)
        return learner.delays.factor(exchanges, learner.step, learner.now_s, horizon_s, self.stale_after_steps)


@dataclass(frozen=True, slots=True)
class View:
    """The neighbourhood of one exchange. `exchange` is the number of my publication. `out_neighbours` are the living
    neighbours of this exchange (where mass or a stream is sent, those that still train). `in_weights` are the mixing
    weights of the living senders of states; mine is 1 minus their sum. `busy` are links that take no more mass, or no
    more of the stream, until an earlier parcel is settled. A peer splits its mass among the `free` neighbours and keeps
    the rest."""

    exchange: int = 0
    now_s: float = 0.0
    out_neighbours: tuple[PeerName, ...] = ()
    in_weights: Mapping[str, float] = field(default_factory=dict)
    busy: frozenset[PeerName] = frozenset()
    two_way: Set[str] = frozenset()
    """Where mass is published, these neighbours get mass from me and send to me in some exchange of the schedule."""
    under_way: Mapping[PeerName, float] = field(default_factory=dict)
    """Where mass is published, this is the weight of the parcels to each neighbour that are not settled yet."""
    returned: tuple[Returned, ...] = ()
    """These parcels of mine were not absorbed; their mass is mine again."""

    @property
    def degree(self) -> int:
        """The number of neighbours that I send to in this exchange; symmetric mixing weights follow from it."""
        return len(self.out_neighbours)

    @property
    def free(self) -> tuple[PeerName, ...]:
        """The neighbours of this exchange whose links can take a parcel now."""
        return tuple(name for name in self.out_neighbours if name not in self.busy)


@dataclass(frozen=True, slots=True)
class Extent:
    """What the size of a publication depends on, known before the first step: the `model`, the number of rows of the
    transfer set, the number of `classes` (0: none), and the shape [B, ...] of the `inputs` of one step."""

    model: nn.Module
    transfer_rows: int
    classes: int
    inputs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Publication:
    """The largest payload of one kind, for its size alone: of `arrays` only names, shapes and types count, so that they
    may be `meta` tensors."""

    arrays: Mapping[str, Tensor]
    encoding: str


@dataclass(frozen=True, slots=True)
class LossTerm:
    """What a strategy adds to the task's loss; None adds nothing and costs nothing.

    `apart` says that the term comes from a forward pass of its own. Then it is sent backward by itself: gradients add
    up in place, and its graph is freed first. A term that shares `learner.outputs` must not be apart.

    `task_share` is the factor of the task's own loss of this batch, of the whole step if the term is `apart`. A term of
    weight w that must not lengthen the step is scaled by w / (1 + w), and `task_share` is then 1 / (1 + w).
    """

    value: Tensor | None = None
    apart: bool = False
    task_share: float = 1.0


NOTHING = LossTerm()


class Strategy(ABC):
    """See the head of this file. `State` is any dataclass of the strategy's own."""

    name: ClassVar[str]
    rounds: ClassVar[Rounds] = Rounds.FREE
    delivery: Delivery = Delivery.STATE
    """The attribute of the class holds for the options that ask for most. A strategy that exchanges nothing under some
    options declares that on its instance. The same goes for `needs`."""
    needs: Needs = Needs()
    held_out: float = 0.0
    """The share of its examples that a peer is not trained on, because its strategy judges models by them."""
    fuller_with: ClassVar[str] = ""
    """This option asks for all of these needs, where the defaults of the options ask for less."""
    topic: ClassVar[str] = ""
    other_topics: ClassVar[tuple[str, ...]] = ()
    """Neighbours send other content under these topics. Content of a topic that the strategy neither names nor posts
    itself is not kept."""
    every_steps: ClassVar[int] = EVERY_STEPS
    """Default of `exchange.every_steps`."""
    per_second_max: ClassVar[float] = PER_SECOND_MAX
    """Default of `exchange.per_second_max`; 0 is no cap."""
    encoding: ClassVar[str] = ENCODING
    """Default of `exchange.encoding`."""
    clip_norm: ClassVar[Literal["auto", "off"]] = "off"
    """Default of `train.clip_norm`. It is "auto" wherever a peer has a teacher, and where it trains alone, which is the
    baseline of those. Where weights are averaged there is no bound: the gradients of all peers have to cancel at the
    consensus, and shortened gradients would cancel elsewhere."""
    overlapped: ClassVar[bool] = False
    """Whether `publish` comes before the step, right after `mix`, so that the payload travels while the step is
    computed."""
    owns_step: ClassVar[bool] = False
    """Whether the paper defines the local step: then `adjust` makes it, and the owner of the loop does not. Where that
    cannot be, as in a loop of the user's own, or with an optimiser that does not fit, the strategy is refused."""
    options_type: ClassVar[type[Options]] = Options

    def __init__(self, options: Any, exchange: Exchange) -> None:
        self.options, self.exchange = options, exchange

    @abstractmethod
    def init(self, learner: Learner) -> Any:
        """The strategy's state at the start of a process."""

    @abstractmethod
    def mix(self, state: Any, learner: Learner, arrivals: list[Arrival], view: View) -> list[Parcel]:
        """Absorb what the neighbours sent; may change the model. Returns answers that cannot wait for the next
        exchange.

        Each arrival of mass or of a stream is settled here, once: `learner.absorb` or `learner.refuse`. `view.returned`
        holds my own parcels that no neighbour has absorbed: their mass is added back as it is.
        """

    def loss(self, state: Any, learner: Learner) -> LossTerm:
        """The strategy's own term of the loss of the step in progress; None by default."""
        return NOTHING

    def adjust(self, state: Any, learner: Learner) -> None:
        """Change gradients, between backward and the optimizer's step; by default as the options ask."""
        self.options.adjust(self.exchange, learner)

    @abstractmethod
    def publish(self, state: Any, learner: Learner, view: View) -> list[Parcel]:
        """The parcels for the neighbours of this exchange."""

    def presses(self, state: Any) -> bool:
        """Whether to publish before the period is over, as soon as a link is free; `exchange.per_second_max` holds."""
        return False

    def hand_over(self, state: Any, learner: Learner, view: View) -> list[Parcel]:
        """For a peer that leaves while others go on: one parcel for one of `view.free`, with all that is conserved,
        `view.returned` included. The model is saved already, and is not changed any more."""
        return []

    def remember(self, state: Any) -> Memory:
        """The parts of the state that a checkpoint keeps, by name: my own past. No state of a link is kept: a restarted
        peer has a new boot, its mass begins with weight 1, and the neighbours send again."""
        return {}

    def recall(self, state: Any, learner: Learner, memory: Memory) -> None:  # noqa: B027 - to remember nothing is usual
        """Put what `remember` gave back into the state that `init` made; what does not fit any more is left out."""

    def start_of(self, name: str, place: int, count: int) -> int:
        """Peers of equal number, of `count` in all, begin with the same weights; 0 is the run's own start."""
        return 0 if self.needs.initialisation is Initialisation.IDENTICAL else 1 + place

    def agreed(self) -> dict[str, str]:
        """Further settings, by name, that must be equal on all peers of this strategy; compared at first contact."""
        return {}

    def publications(self, extent: Extent) -> list[Publication]:
        """The publications to come, for their sizes. By default, where models are alike, a state is all parameters and
        buffers, and mass or a stream is all parameters."""
        if not (self.delivery.gossips and self.needs.alike_models):
            return []
        state = self.delivery is Delivery.STATE
        return [
            Publication(model_arrays(extent.model) if state else parameter_arrays(extent.model), self.exchange.encoding)
        ]
