"""Can the others reach this machine? For peers that were not met see `reaching`."""

from __future__ import annotations

from gossipdistill.doctor.case import Case, Finding, ok, problem
from gossipdistill.presence import NOWHERE


def check(case: Case) -> list[Finding]:
    """One finding per other that was met."""
    if not case.listens or case.listen == NOWHERE:
        return []
    found = []
    for name, met in case.meetings.items():
        if met.reaches_me:
            found.append(ok(name, f"has called {case.advertise}"))
        elif met.reached:
            text = f"answers, but has not reached {case.advertise}"
            ports = f"{case.advertise.port} and {case.advertise.port + 1}"
            advice = (
                f"does {name}'s roster give the same address? Open ports {ports} in this machine's firewall; behind a "
                'router, forward them, or give this peer listen = "none" in the roster'
            )
            found.append(problem(name, text, advice))
    return found
