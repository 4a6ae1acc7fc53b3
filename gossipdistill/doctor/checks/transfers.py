"""How fast are small and large bodies transferred? They go to the data port in pieces, and each is acknowledged."""

from __future__ import annotations

from gossipdistill.doctor.case import Case, Finding, Meeting, ok, problem, warning
from gossipdistill.roster import PeerEntry

SLOW_BYTES_PER_S = 2.5e6
"""A link below this rate in bytes per second (20 Mbit/s) counts as slow."""
_MB = 1e6


def check(case: Case) -> list[Finding]:
    """One finding per other doctor; no bodies are sent to workers."""
    return [
        _one(case.roster.entry(name), met)
        for name, met in case.meetings.items()
        if met.kind == "doctor" and met.reached and met.round_trips_s
    ]


def _one(entry: PeerEntry, met: Meeting) -> Finding:
    if met.small_s is None:
        text = f"its control port {entry.address.port} answers, its data port {entry.address.data_port} does not"
        advice = f"open and forward both ports of {entry.name}: data travels on the one after control"
        return problem(entry.name, text, advice)
    small = f"1 kB in {1000 * met.small_s:.1f} ms"
    if not met.large_wanted:
        return ok(entry.name, f"{small}; no large one, there are many peers")
    if not met.large_s or not met.large_bytes:
        return warning(entry.name, f"{small}; of the large one nothing arrived in time", "see whether the link loses")
    rate = met.large_bytes / met.large_s
    text = f"{small}; {met.large_bytes / _MB:.0f} MB in {met.large_s:.2f} s, {rate / _MB:.1f} MB/s"
    if rate < SLOW_BYTES_PER_S:
        advice = (
            "fine for predictions; where weights travel, exchange seldom (exchange.every_steps) or with encoding int8"
        )
        return warning(entry.name, text, advice)
    return ok(entry.name, text)
