"""Scenes as transcripts: what is said, in order. A change of behaviour is a change of a text, reviewed as a diff.

python -m pytest tests/sim/test_transcripts.py --regenerate
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from gossipdistill.faults import FaultPlan, LinkFaults
from gossipdistill.faults.kinds import KINDS
from gossipdistill.ids import Boot, PeerName
from gossipdistill.messages import Content, DeliveryClass, Envelope, Parcel, Settlement, arrivals_of
from gossipdistill.presence import Claim, ClaimKind, Ping
from gossipdistill.sim.host import Launch
from gossipdistill.sim.learners import packed
from gossipdistill.sim.network import Network, Quality
from gossipdistill.sim.transcript import Transcript
from gossipdistill.sim.world import World

FOLDER = Path(__file__).parent.parent / "transcripts"
NAMES = ("ada", "bo", "cy", "dee")


class Puppet:
    """A learner that does what the scene says: takes and settles, unless it is `idle`."""

    def __init__(self, launch: Launch) -> None:
        self.mailbox = launch.mailbox
        self.idle = False
        self.refusal = ""
        self.posts: list[Parcel] = []

    def step(self, now: float) -> float | None:
        if not self.idle:
            verdicts = [
                Settlement(a.sender, a.topic, a.version, absorbed=not self.refusal, reason=self.refusal)
                for a in arrivals_of(self.mailbox.take())
                if a.delivery is not DeliveryClass.STATE
            ]
            self.mailbox.settle(verdicts)
        for parcel in self.posts:
            assert self.mailbox.post(parcel)
        self.posts.clear()
        return 0.05


class Stage:
    """Four peers on a good network, and the text of what happens."""

    def __init__(self, *faults: dict[str, object], silent: tuple[str, ...] = ("Ping", "Ack"), peers: int = 4) -> None:
        self.text = Transcript(silent=silent, heard=False)
        names = NAMES[:peers]
        plan = FaultPlan(seed=1, fault=tuple(KINDS[str(one["kind"])].model_validate(one) for one in faults))
        self.puppets: dict[str, Puppet] = {}
        self.world = World(
            names, self._cast, Network(Quality(latency_s=0.01), faults=LinkFaults(plan, names)), observers=[self.text]
        )

    def _cast(self, launch: Launch) -> Puppet:
        self.puppets[launch.name] = Puppet(launch)
        return self.puppets[launch.name]

    def run(self, until_s: float, direction: str = "") -> None:
        if direction:
            self.text.note(self.world.now, direction)
        self.world.run_until(until_s)

    def post_mass(self, sender: str, to: str, weight: float) -> None:
        parcel = Parcel((PeerName(to),), Content("mass", packed([weight]), 1, 1, "", DeliveryClass.MASS, weight))
        self.puppets[sender].posts.append(parcel)


def join() -> Stage:
    stage = Stage(silent=("Nothing",))
    for at_s, name in enumerate(NAMES):
        stage.world.at(0.2 * at_s, lambda name=name: stage.world.start(name))
    stage.run(1.5)
    return stage


def kill_and_detection() -> Stage:
    stage = Stage()
    stage.world.start_all()
    stage.run(3.0)
    stage.world.kill("bo")
    stage.run(12.0)
    stage.world.start("bo")
    stage.run(14.0)
    return stage


def partition_and_heal() -> Stage:
    stage = Stage({"kind": "partition", "groups": [["ada", "bo"], ["cy", "dee"]], "from_s": 3.0, "to_s": 15.0})
    stage.world.start_all()
    stage.run(3.0)
    stage.run(15.0, "ada and bo are cut off from cy and dee")
    stage.run(20.0, "the network is whole again")
    return stage


def mass_parked_and_absorbed() -> Stage:
    stage = Stage(
        {"kind": "partition", "groups": [["ada"], ["bo"]], "from_s": 2.02, "to_s": 14.0},
        peers=2,
    )
    stage.world.start_all()
    stage.run(1.9)
    stage.puppets["bo"].idle = True
    stage.post_mass("ada", "bo", 0.25)
    stage.run(2.02)
    stage.run(14.0, "bo is cut off, and has what ada sent; its learner has not looked yet")
    stage.puppets["bo"].idle = False
    stage.run(18.0, "the network is whole again, and the learner of bo looks")
    return stage


def refused_goes_home() -> Stage:
    stage = Stage(peers=2)
    stage.world.start_all()
    stage.run(2.0)
    stage.puppets["bo"].refusal = "not finite"
    stage.post_mass("ada", "bo", 0.25)
    stage.run(3.0)
    return stage


def lying_member() -> Stage:
    stage = Stage()
    stage.world.start_all()
    stage.run(2.0)
    cy = stage.world.host("cy")
    for kind, jump in ((ClaimKind.DEAD, 0), (ClaimKind.SUSPECT, 1 << 30), (ClaimKind.LEFT, 3)):
        claim = Claim(PeerName("cy"), cy.boot, jump, kind, PeerName("dee"))
        lie = Ping(900, 1, False, (claim,))
        bo, dee = stage.world.host("bo"), stage.world.host("dee")
        stage.text.note(stage.world.now, f"dee lies to bo: cy is {kind.value}, refutation {jump}")
        stage.world.inject("bo", Envelope(dee.name, Boot(dee.boot), bo.name, bo.boot, lie))
        stage.run(stage.world.now + 3.0)
    return stage


SCENES: tuple[Callable[[], Stage], ...] = (
    join,
    kill_and_detection,
    partition_and_heal,
    mass_parked_and_absorbed,
    refused_goes_home,
    lying_member,
)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_a_scene_goes_as_it_is_written(scene: Callable[[], Stage], request: pytest.FixtureRequest) -> None:
    random.seed(0)  # nothing may depend on it
    played, path = scene().text.text(), FOLDER / f"{scene.__name__}.txt"
    if request.config.getoption("--regenerate"):
        path.write_text(played, encoding="utf-8")
    assert played == path.read_text(encoding="utf-8")
