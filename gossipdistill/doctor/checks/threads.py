"""Do the CPU threads of the workers on this machine fit its CPUs?"""

from __future__ import annotations

from gossipdistill.doctor.case import Case, Finding, ok, warning


def check(case: Case) -> list[Finding]:
    """Compare OMP_NUM_THREADS times the peers of this machine with its CPUs; where it is not set, workers divide
    them."""
    cpus, said, peers = case.machine.cpus, case.machine.omp_threads, max(1, len(case.here))
    share = max(1, cpus // peers)
    place = f"{cpus} CPUs for {peers} peer{'s' * (peers > 1)} of this machine"
    if said is None:
        return [ok("CPU threads", f"{place}; each worker takes {share}")]
    first = said.split(",")[0].strip()
    if not first.isdigit() or int(first) < 1:
        advice = f"unset it, or set it to {share}"
        return [warning("CPU threads", f"OMP_NUM_THREADS={said!r} is not a number of threads", advice)]
    if int(first) > share:
        text = f"OMP_NUM_THREADS={said} for each of them, {place}: too many threads for the CPUs"
        return [warning("CPU threads", text, f"set it to {share}, or unset it: workers divide the CPUs themselves")]
    if int(first) < share:
        text = f"OMP_NUM_THREADS={said} for each of them, {place}: some are idle"
        return [warning("CPU threads", text, f"unset it, or set it to {share}, if nothing else needs them")]
    return [ok("CPU threads", f"OMP_NUM_THREADS={said}, {place}")]
