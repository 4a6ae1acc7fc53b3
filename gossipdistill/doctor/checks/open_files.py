"""May this process open as many files as the roster needs?"""

from __future__ import annotations

from gossipdistill.doctor.case import Case, Finding, ok, problem, warning
from gossipdistill.limits import DEFAULT_LIMITS

FILES_ALONE = 128
"""The open files of Python, torch, the log files, two listening sockets and the event loop."""
FILES_PER_PEER = 8
"""The open files per link: two connections in each direction are four, and ZeroMQ uses one file per socket to wake its
threads. Those sockets are two that dial, and two of the monitor of a link that carries large bodies."""
RESERVE = 256
"""The number of open files that is kept free for callers that are not peers."""


def check(case: Case) -> list[Finding]:
    """One finding. In a large roster links are opened only when they are needed, so fewer files may be enough."""
    others, allowed = len(case.roster.peer) - 1, case.machine.open_files_max
    links = min(others, DEFAULT_LIMITS.links_max)
    needed = FILES_ALONE + FILES_PER_PEER * links
    certain = FILES_ALONE + FILES_PER_PEER * min(links, DEFAULT_LIMITS.greeted_at_start_max)
    peers = f"{links} other{'s' * (links != 1)} need{'s' * (links == 1)} about {needed}"
    if allowed < 0 or allowed >= needed + RESERVE:
        return [ok("open files", f"{'no limit' if allowed < 0 else allowed}; {peers}")]
    advice = f"before the worker: ulimit -n {needed + RESERVE} (or LimitNOFILE= of a service)"
    if allowed >= certain + RESERVE:
        return [warning("open files", f"at most {allowed}; {peers}, if there are exchanges with all", advice)]
    return [problem("open files", f"at most {allowed}; {peers}, and {RESERVE} should be in reserve", advice)]
