"""Are there addresses that other machines cannot use?"""

from __future__ import annotations

import ipaddress

from gossipdistill.doctor.case import Case, Finding, ok, problem, warning
from gossipdistill.presence import NOWHERE, Address
from gossipdistill.roster import PeerEntry, is_loopback


def check(case: Case) -> list[Finding]:
    """Find loopback addresses in a roster with other machines, addresses that cannot be dialled, and a wrong own
    address."""
    everywhere = [entry.address for entry in case.roster.peer if entry.address != NOWHERE]
    far = [address for address in everywhere if not is_loopback(address.host)]
    found = [finding for entry in case.roster.peer for finding in _entry(entry, bool(far))]
    found += _mine(case, bool(far))
    return found or [ok("all peers", "have addresses that the others can use")]


def _entry(entry: PeerEntry, others_are_far: bool) -> list[Finding]:
    address = entry.address
    if address == NOWHERE:
        return []
    if others_are_far and is_loopback(address.host):
        text = f"{address} means the caller's own machine to every caller, and other peers are elsewhere"
        advice = "give the address by which the other machines reach it"
        return [problem(entry.name, text, advice)]
    if _is_link_local(address.host):
        text = f"{address} is a link-local address: it holds on one cable or switch, and may change"
        return [warning(entry.name, text, "give a host name or a fixed address")]
    return []


def _mine(case: Case, others_are_far: bool) -> list[Finding]:
    """The findings on where this peer would listen, and on the address that it would tell others."""
    if not case.name or case.listen == NOWHERE:
        return []
    if case.advertise.host in ("0.0.0.0", "::"):
        text = f"listens on {case.listen} and says so: others cannot dial {case.advertise.host}"
        return [problem(case.name, text, f"say where they can: --advertise HOST:{case.listen.port}")]
    listens_narrowly = bool(case.bound_host) and is_loopback(case.bound_host)
    if others_are_far and listens_narrowly and not is_loopback(case.listen.host):
        text = f"here {case.listen.host} is {case.bound_host}: it would listen where no other machine reaches it"
        advice = (
            f"take {case.listen.host} out of the line {case.bound_host} of this machine's /etc/hosts, or listen with "
            f"{Address('0.0.0.0', case.listen.port)} (--listen), here and for the worker"
        )
        return [problem(case.name, text, advice)]
    return []


def _is_link_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_link_local
    except ValueError:
        return False
