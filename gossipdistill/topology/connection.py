"""Whether news still gets round among the living, looked at only when somebody has come or gone."""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from typing import NamedTuple

import networkx as nx

from gossipdistill.topology.schedule import Schedule

LINKS_LOOKED_AT_MAX = 20_000
"""Of larger graphs nothing is said: looking would cost a training thread more than a few milliseconds."""
GROUPS_NAMED_MAX, NAMES_MAX = 4, 8


class Change(NamedTuple):
    """The living fall into `groups` now, between which nothing gets round in at least one direction; one group: they
    are connected again. `without` are those who were there, and are not."""

    groups: tuple[tuple[str, ...], ...]
    without: tuple[str, ...]

    @property
    def connected(self) -> bool:
        return len(self.groups) == 1

    def reason(self) -> str:
        """The change in words."""
        if self.connected:
            return "news gets round among all the living again"
        groups = "; ".join(_listed(group) for group in self.groups[:GROUPS_NAMED_MAX])
        more = len(self.groups) - GROUPS_NAMED_MAX
        return (
            f"without {_listed(self.without)} the living are {len(self.groups)} groups, and news does not get round "
            f"between {groups}" + (f"; and {more} more" if more > 0 else "")
        )


def groups_of(schedule: Schedule, living: Set[str]) -> tuple[tuple[str, ...], ...] | None:
    """The strongly connected components of the living, over one period, in roster order; None where the graph is too
    large to be looked at. Links to the dead are dropped or led on to the living, as the schedule says."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    names = [name for name in schedule.peers if name in living]
    if len(names) * schedule.period > LINKS_LOOKED_AT_MAX:
        return None
    graph.add_nodes_from(names)
    looked_at = 0
    for exchange in range(schedule.period):
        for name in names:
            receivers = schedule.living(name, exchange, living)
            looked_at += len(receivers)
            if looked_at > LINKS_LOOKED_AT_MAX:
                return None
            graph.add_edges_from((name, receiver) for receiver in receivers)
    place = schedule.places.__getitem__
    groups = [tuple(sorted(group, key=place)) for group in nx.strongly_connected_components(graph)]
    return tuple(sorted(groups, key=lambda group: place(group[0])))


@dataclass(slots=True)
class Connection:
    """Remembers who was ever there, so that peers that have not come yet are no reason for an alarm."""

    schedule: Schedule
    _ever: set[str] = field(default_factory=set)
    _groups: tuple[tuple[str, ...], ...] = ()

    def look(self, living: Set[str]) -> Change | None:
        """What has changed, now that these are living (me among them); None: nothing, or nothing that could be seen."""
        if len(self.schedule.peers) > LINKS_LOOKED_AT_MAX:
            return None
        self._ever.update(living)
        without = tuple(name for name in self.schedule.peers if name in self._ever and name not in living)
        groups = groups_of(self.schedule, living) if without else ()
        if groups is None or (len(groups) < 2 and len(self._groups) < 2) or groups == self._groups:
            return None
        self._groups = groups
        return Change(groups if len(groups) > 1 else (tuple(n for n in self.schedule.peers if n in living),), without)


def _listed(names: Iterable[str]) -> str:
    listed = list(names)
    more = len(listed) - NAMES_MAX
    return ", ".join(listed[:NAMES_MAX]) + (f" and {more} more" if more > 0 else "")
