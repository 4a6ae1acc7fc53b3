"""Checkers, of one duty each. They watch a simulated world and report each violation with its time and its peers."""

from gossipdistill.sim.checkers.arrivals import OnceSettled, VersionsRise
from gossipdistill.sim.checkers.base import Checker, Conditions, Violation
from gossipdistill.sim.checkers.bounds import MailboxBounded, NobodyWaits
from gossipdistill.sim.checkers.deaths import DeathsProbed
from gossipdistill.sim.checkers.mass import MassConserved
from gossipdistill.sim.checkers.processes import NewestLives, StartsBounded
from gossipdistill.sim.checkers.recovery import FaultsRecover
from gossipdistill.sim.checkers.views import NobodyHeldDead, ViewsConverge

__all__ = [
    "Checker",
    "Conditions",
    "DeathsProbed",
    "FaultsRecover",
    "MailboxBounded",
    "MassConserved",
    "NewestLives",
    "NobodyHeldDead",
    "NobodyWaits",
    "OnceSettled",
    "StartsBounded",
    "VersionsRise",
    "ViewsConverge",
    "Violation",
    "all_checkers",
]


def all_checkers(conditions: Conditions) -> list[Checker]:
    """One of each, for one run."""
    return [
        VersionsRise(conditions),
        OnceSettled(conditions),
        MassConserved(conditions),
        MailboxBounded(conditions),
        NobodyWaits(conditions),
        NobodyHeldDead(conditions),
        NewestLives(conditions),
        StartsBounded(conditions),
        DeathsProbed(conditions),
        ViewsConverge(conditions),
        FaultsRecover(conditions),
    ]
