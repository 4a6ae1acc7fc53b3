"""Topologies: which peers send to which. Schedules, ready-made kinds, files, mixing matrices. Pure: no clock, no
socket, no torch."""

from __future__ import annotations

from gossipdistill.topology.connection import Change, Connection, groups_of
from gossipdistill.topology.generators import KINDS
from gossipdistill.topology.load import kind_options, list_topologies, load_topology
from gossipdistill.topology.mixing import Judgement, adjacency, judge, metropolis, uniform_column, uniform_row
from gossipdistill.topology.schedule import APERIODIC_EXCHANGES, Circulant, Computed, Listed, Schedule

__all__ = [
    "APERIODIC_EXCHANGES",
    "KINDS",
    "Change",
    "Circulant",
    "Computed",
    "Connection",
    "Judgement",
    "Listed",
    "Schedule",
    "adjacency",
    "groups_of",
    "judge",
    "kind_options",
    "list_topologies",
    "load_topology",
    "metropolis",
    "uniform_column",
    "uniform_row",
]
