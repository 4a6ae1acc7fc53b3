"""A worker process as it is, that also notes how much memory it took: `python -m benchmarks.kit.weighed_worker SPEC`.

Into `memory.json` of its folder go the highest resident memory in bytes before the first step, from the first to the
last, and from then to the end, as the kernel counts it (`VmHWM`, Linux only); and the median of what is resident after
each step.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from pathlib import Path

MEMORY_FILE = "memory.json"
_FORGET_PEAK = "5"
"""Written to `clear_refs`, it makes the peak what is resident now (proc(5))."""


def _peak_bytes() -> int:
    """The peak since it was last forgotten."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    raise OSError("/proc/self/status says nothing of VmHWM")


def _peak_of_this_part() -> int:
    """The peak, which is forgotten."""
    peak = _peak_bytes()
    Path("/proc/self/clear_refs").write_text(_FORGET_PEAK)
    return peak


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main(spec_file: str) -> int:
    """The worker of this specification, weighed."""
    from gossipdistill.runtime import child

    run, parts, file = child._run, dict[str, int](), Path(spec_file).parent / MEMORY_FILE

    def weighed(*arguments: object) -> int:
        # Here, not above: `child` answers its launcher before torch is imported, which takes seconds.
        from gossipdistill.runtime.session import Session
        from gossipdistill.training.worker import Worker

        train, step, between = Session._train, Worker.step, list[int]()

        def weighed_step(self: Worker, now: float, progress: float = 0.0) -> None:
            step(self, now, progress)
            between.append(_resident_bytes())

        def weighed_train(self: Session) -> None:
            parts["before"] = _peak_of_this_part()
            train(self)
            parts["training"] = _peak_of_this_part()

        Session._train, Worker.step = weighed_train, weighed_step  # type: ignore[method-assign]
        code = run(*arguments)  # type: ignore[arg-type]
        parts.update(after=_peak_bytes(), between=int(statistics.median(between)))
        file.write_text(json.dumps(parts))
        return code

    child._run = weighed
    return child.main(spec_file)


if __name__ == "__main__":
    code = main(sys.argv[1])
    sys.stdout.flush()
    os._exit(code)
