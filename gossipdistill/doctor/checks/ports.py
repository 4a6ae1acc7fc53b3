"""Are the ports of this peer free? If not, which process holds them?"""

from __future__ import annotations

from gossipdistill.doctor.case import Case, Finding, Port, ok, problem, warning

_PRIVILEGED = 1024


def check(case: Case) -> list[Finding]:
    """Findings on the control and the data port; only one where both give the same result, as they mostly do."""
    alike: dict[tuple[str, str, bool], list[Port]] = {}
    for port in case.ports:
        alike.setdefault((port.problem, port.holder, port.by_gossip), []).append(port)
    return [_ports(case, ports) for ports in alike.values()]


def _ports(case: Case, ports: list[Port]) -> Finding:
    one, numbers = ports[0], " and ".join(str(port.number) for port in ports)
    which = f"port{'s' * (len(ports) > 1)} {numbers} of {case.bound_host}"
    if not one.problem:
        return ok(case.name, f"{which} can be listened on")
    held = f"; held by {one.holder}" if one.holder else ""
    if one.by_gossip:
        text = f"{which}: a worker answers there{held}"
        advice = "nothing, if it is this peer's; it was left alone, so how others reach this machine was not tried"
        return warning(case.name, text, advice)
    text = f"{which} cannot be listened on: {one.problem.lower()}{held}"
    if one.holder or "in use" in one.problem.lower():
        advice = "end that program, or give this peer two other ports in the roster, on all machines"
    elif one.number < _PRIVILEGED:
        advice = f"give this peer a port from {_PRIVILEGED} on in the roster, on all machines"
    else:
        advice = f"is this {case.name}'s machine? Else --name; behind a router: --listen 0.0.0.0:{case.listen.port}"
    return problem(case.name, text, advice)
