"""Whether information still reaches all living peers; checked only when a peer has come or gone."""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from typing import NamedTuple

import networkx as nx

from gossipdistill.topology.schedule import Schedule

LINKS_LOOKED_AT_MAX = 20_000
"""Graphs with more links are not checked: it would cost a training thread more than a few milliseconds."""
GROUPS_NAMED_MAX, NAMES_MAX = 4, 8


class Change(NamedTuple):
    """The living peers now form `groups`, between which no information passes in at least one direction; one group
    means that they are connected again. `without` are the peers that were present and are not any more."""

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
    """The strongly connected components of the living peers, over one period, in roster order; None where the graph is
    too large to check. Links to dead peers are dropped or redirected to living ones, as the schedule says."""
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
    """Remembers the peers that were ever present, so that peers that have not come yet cause no alarm."""

    schedule: Schedule
    _ever: set[str] = field(default_factory=set)
    _groups: tuple[tuple[str, ...], ...] = ()

    def look(self, living: Set[str]) -> Change | None:
        """What has changed, now that these peers are living (including me); None means nothing, or that the graph is
        too large."""
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
