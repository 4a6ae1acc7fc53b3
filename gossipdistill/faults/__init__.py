"""Faults as data: one plan applies to simulated links, real sockets and processes. Pure: no socket, clock or thread."""

from gossipdistill.faults.links import LinkFaults, Outcome
from gossipdistill.faults.plan import FaultPlan, list_fault_plans, load_fault_plan
from gossipdistill.faults.processes import ActKind, ProcessAct, ProcessFaults

__all__ = [
    "ActKind",
    "FaultPlan",
    "LinkFaults",
    "Outcome",
    "ProcessAct",
    "ProcessFaults",
    "list_fault_plans",
    "load_fault_plan",
]
