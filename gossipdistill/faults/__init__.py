"""Faults as data: one plan bends simulated links, real sockets and processes. Pure: no socket, clock or thread."""

from gossipdistill.faults.links import Fate, LinkFaults
from gossipdistill.faults.plan import FaultPlan, list_fault_plans, load_fault_plan
from gossipdistill.faults.processes import ActKind, ProcessAct, ProcessFaults

__all__ = [
    "ActKind",
    "Fate",
    "FaultPlan",
    "LinkFaults",
    "ProcessAct",
    "ProcessFaults",
    "list_fault_plans",
    "load_fault_plan",
]
