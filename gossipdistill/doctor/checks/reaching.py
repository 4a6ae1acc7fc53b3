"""Can this machine reach the others?"""

from __future__ import annotations

from gossipdistill.doctor.case import Case, Finding, Meeting, ok, problem, warning
from gossipdistill.presence import NOWHERE
from gossipdistill.roster import PeerEntry


def check(case: Case) -> list[Finding]:
    """One finding per other peer that was called."""
    return [_one(case, case.roster.entry(name), met) for name, met in case.meetings.items()]


def _one(case: Case, entry: PeerEntry, met: Meeting) -> Finding:
    address = entry.address
    if address == NOWHERE:
        if met.reaches_me:
            return ok(entry.name, "dials out only, and has called here")
        advice = f"start there: {case.command_for(entry.name)}"
        return warning(entry.name, "dials out only, and has not called here", advice)
    if met.reached and met.answered_as not in ("", entry.name):
        advice = "two addresses are confused in the roster, or on one of the machines --name is wrong"
        return problem(entry.name, f"at {address} answers {met.answered_as}", advice)
    if met.reached:
        return ok(entry.name, f"a {met.kind} answers at {address}")
    return _not_met(case, entry, met)


def _not_met(case: Case, entry: PeerEntry, met: Meeting) -> Finding:
    address, error = entry.address, met.dial_error
    known = case.look_ups.get(address.host)
    if known is not None and not known.addresses:
        return problem(entry.name, f"was not called: {address.host} is not found", "see the check of names")
    if met.reaches_me:
        text = f"calls here, but cannot be reached at {address}{': ' if error else ''}{error}"
        advice = (
            f"open ports {address.port} and {address.data_port} for this machine in the firewall of {entry.name}; if "
            'it is behind a router, forward them, or give it listen = "none" in the roster'
        )
        return problem(entry.name, text, advice)
    if "refused" in error:
        text = f"its machine answers, but nothing listens at {address}"
        return problem(entry.name, text, f"start there: {case.command_for(entry.name)}")
    if not error and case.sealed:
        text = f"something listens at {address}, but does not have {entry.name}'s key, or does not trust mine"
        advice = f"compare there and here: gossipdistill keys show --peers {case.where}"
        return problem(entry.name, text, advice)
    if not error:
        text = f"something listens at {address}, but it is no gossipdistill"
        return problem(entry.name, text, f"see on that machine who holds the port: {case.command_for(entry.name)}")
    advice = (
        f"is the address right and the machine up? Is a firewall silent? Open ports {address.port} and "
        f"{address.data_port}; then start there: {case.command_for(entry.name)}"
    )
    return problem(entry.name, f"no connection to {address}: {error}", advice)
