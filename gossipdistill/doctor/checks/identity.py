"""Which of the peers is this machine?"""

from __future__ import annotations

from gossipdistill.doctor.case import Case, Finding, ok, problem, warning


def check(case: Case) -> list[Finding]:
    """By `--name`, else by the addresses of this machine."""
    if not case.name:
        if case.here:
            text = f"{len(case.here)} peers are on this machine: {', '.join(case.here[:8])}"
            return [problem("this machine", text, f"say which: --name {case.here[0]}")]
        text = "none of the roster's addresses is one of this machine's"
        return [problem("this machine", text, "say which peer it is: --name NAME; or correct its address")]
    entry = case.roster.entry(case.name)
    if not case.named:
        return [ok(case.name, f"is this machine, by its address {entry.address}")]
    looked_up = case.look_ups.get(entry.address.host)
    if looked_up is not None and looked_up.addresses and not looked_up.mine and case.listen.host == entry.address.host:
        where = f"{entry.address.host} ({looked_up.addresses[0]})"
        text = f"is given as this machine, but {where} is not one of its addresses"
        advice = (
            f"on the right machine: --name NAME; behind a router that forwards the ports: --listen 0.0.0.0:"
            f"{entry.address.port} here and for the worker; else correct the address in {case.where}"
        )
        return [warning(case.name, text, advice)]
    return [ok(case.name, f"is this machine, at {entry.address}" if entry.address.host else "is this machine")]
