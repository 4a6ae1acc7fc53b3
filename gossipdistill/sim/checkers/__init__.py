"""Checkers: one duty each. They watch a simulated world and say what was violated, when and by whom."""

from gossipdistill.sim.checkers.arrivals import OnceSettled, VersionsRise
from gossipdistill.sim.checkers.base import Checker, Violation, Weather
from gossipdistill.sim.checkers.bounds import MailboxBounded, NobodyWaits
from gossipdistill.sim.checkers.deaths import DeathsProbed
from gossipdistill.sim.checkers.mass import MassConserved
from gossipdistill.sim.checkers.processes import NewestLives, StartsBounded
from gossipdistill.sim.checkers.recovery import FaultsRecover
from gossipdistill.sim.checkers.views import NobodyHeldDead, ViewsConverge

__all__ = [
    "Checker",
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
    "Weather",
    "all_checkers",
]


def all_checkers(weather: Weather) -> list[Checker]:
    """One of each, for one run."""
    return [
        VersionsRise(weather),
        OnceSettled(weather),
        MassConserved(weather),
        MailboxBounded(weather),
        NobodyWaits(weather),
        NobodyHeldDead(weather),
        NewestLives(weather),
        StartsBounded(weather),
        DeathsProbed(weather),
        ViewsConverge(weather),
        FaultsRecover(weather),
    ]
