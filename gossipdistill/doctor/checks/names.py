"""Do the host names resolve here, and how long does it take? A worker looks each up once, and again when it has lost a
peer; nothing waits for it."""

from __future__ import annotations

from gossipdistill.doctor.case import Case, Finding, ok, problem, warning
from gossipdistill.machine.lookups import LookUp

SLOW_S = 1.0


def check(case: Case) -> list[Finding]:
    """One finding per host."""
    return [_one(host, looked_up) for host, looked_up in case.look_ups.items()]


def _one(host: str, looked_up: LookUp) -> Finding:
    took = f"{1000 * looked_up.took_s:.0f} ms"
    if not looked_up.addresses:
        advice = "correct the name in the roster, add it to DNS or to this machine's /etc/hosts, or give an IP address"
        return problem(host, f"is not found: {looked_up.error} (after {took})", advice)
    found = ", ".join(looked_up.addresses[:3])
    if looked_up.addresses == (host,):
        return ok(host, "needs no look-up")
    if looked_up.took_s > SLOW_S:
        advice = "a name server is slow or dead: see /etc/resolv.conf, or give an IP address"
        return warning(host, f"is {found}, found after {took}", advice)
    return ok(host, f"is {found}, found in {took}")
