"""A worker process as it is, that also notes when each step was over: `python -m benchmarks.kit.timed_worker SPEC`.

Into `steps.f64` of its folder goes one reading of the monotonic clock per step, 8 bytes, written at once. Where that
folder holds `orphans.json`, {"nan_from_step": N}, everything that it sends from step N on is NaN: a peer whose training
has broken, and which does not notice.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

STEPS_FILE, ASTRAY_FILE = "steps.f64", "astray.json"


def _time_steps(folder: Path) -> None:
    # Here, not above: `child` answers its launcher before torch is imported, which takes seconds.
    from gossipdistill.training import worker

    step = worker.Worker.step
    file = os.open(folder / STEPS_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def timed(self: worker.Worker, now: float, progress: float = 0.0) -> None:
        step(self, now, progress)
        os.write(file, struct.pack("d", time.monotonic()))

    worker.Worker.step = timed  # type: ignore[method-assign]


def _go_astray(folder: Path) -> None:
    from_step = int(json.loads((folder / ASTRAY_FILE).read_text())["nan_from_step"])
    import torch

    from gossipdistill.messages import Payload
    from gossipdistill.strategies import base

    pack = vars(base)["pack"]

    def orphans(arrays: Mapping[str, torch.Tensor], encoding: str) -> Payload:
        made = (folder / STEPS_FILE).stat().st_size // 8
        if made >= from_step:
            arrays = {name: torch.full_like(array, float("nan")) for name, array in arrays.items()}
        packed: Payload = pack(arrays, encoding)
        return packed

    vars(base)["pack"] = orphans


def main(spec_file: str) -> int:
    """The worker of this specification, timed."""
    from gossipdistill.runtime import child

    run = child._run

    def timed(*arguments: Any) -> int:
        folder = Path(spec_file).parent
        _time_steps(folder)
        if (folder / ASTRAY_FILE).exists():
            _go_astray(folder)
        return run(*arguments)

    child._run = timed  # type: ignore[assignment]
    return child.main(spec_file)


if __name__ == "__main__":
    code = main(sys.argv[1])
    sys.stdout.flush()
    os._exit(code)
