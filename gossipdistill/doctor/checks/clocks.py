"""How far are the clocks apart? It matters only when logs are compared: no peer subtracts the clocks of two machines,
so no difference is a problem."""

from __future__ import annotations

from gossipdistill.doctor.case import Case, Finding, ok, warning

MUCH_S = 2.0


def check(case: Case) -> list[Finding]:
    """One finding per other doctor."""
    found = []
    for name, met in case.meetings.items():
        ahead_s = met.clock_ahead_s
        if ahead_s is None:
            continue
        text = f"its clock is {abs(ahead_s):.3f} s {'ahead of' if ahead_s >= 0 else 'behind'} this one"
        if abs(ahead_s) > MUCH_S:
            found.append(warning(name, text, "training is not affected; to compare logs, synchronise the clocks (NTP)"))
        else:
            found.append(ok(name, text))
    return found
