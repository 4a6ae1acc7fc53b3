"""How long is the round-trip time of a message?"""

from __future__ import annotations

from gossipdistill.doctor.case import Case, Finding, ok, warning
from gossipdistill.limits import DEFAULT_LIMITS


def check(case: Case) -> list[Finding]:
    """Compare round-trip times with the time limit of a probe."""
    return [
        _one(name, met.round_trips_s, trip_s)
        for name, met in case.meetings.items()
        if (trip_s := met.round_trip_s) is not None
    ]


def _one(name: str, trips_s: tuple[float, ...], median_s: float) -> Finding:
    text = f"{1000 * median_s:.1f} ms"
    if len(trips_s) > 1:
        text = f"median {text}, worst {1000 * max(trips_s):.1f} ms of {len(trips_s)}"
    if median_s > DEFAULT_LIMITS.probe_timeout_s:
        bound_ms = 1000 * DEFAULT_LIMITS.probe_timeout_s
        advice = f"probes wait {bound_ms:.0f} ms before they ask others to ask: expect it to be suspect now and then"
        return warning(name, text, advice)
    return ok(name, text)
