"""What no peer would accept is refused before the first step, with both sizes and what helps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gossipdistill.assembly.publishing import problem_of
from gossipdistill.config.plan import Asked, plan_local
from gossipdistill.errors import NeedsError
from gossipdistill.launchers.preflight import check
from gossipdistill.learning.snapshot import layout_of, pack
from gossipdistill.limits import Limits
from gossipdistill.runtime.release import Release
from gossipdistill.runtime.stopping import StopRequest
from gossipdistill.runtime.worker_process import WorkerProcess
from gossipdistill.simulation.run import Simulation, plan_simulation
from gossipdistill.strategies import Publication

TASK = """
import numpy as np
import torch
from torch import nn
from gossipdistill import Task

class Wide(nn.Module):
    def __init__(self, numbers):
        super().__init__()
        self.used = nn.Linear(2, 2)
        # Pages of zeros that nobody has written to take no memory.
        self.rest = nn.Parameter(torch.from_numpy(np.zeros(numbers, np.float32)))

    def forward(self, x):
        return self.used(x) + self.rest[:2]

def task(shard, numbers: int = 84_000_000) -> Task:
    x = torch.randn(64, 2)
    y = (x[:, 0] > 0).long()
    loss = nn.functional.cross_entropy
    return Task(model=lambda: Wide(numbers), train=(x, y), validation=(x, y), loss=loss, transfer=x)
"""


def arrays(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    return {f"layer{n}": torch.empty(shape, dtype=dtype, device="meta") for n, shape in enumerate(shapes)}


LIMITS = Limits(payload_bytes_max=1 << 20, arrays_max=40, header_bytes_max=20_000)


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (
            Publication(arrays((1000, 300)), "raw"),
            ("300,000 numbers in encoding raw are 1.2 MB (1.1 MiB)", "half (0.6 MB", "at most 1.0 MB (1.0 MiB)"),
        ),
        (Publication(arrays((1000, 900)), "half"), ("in encoding half are 1.8 MB", "int8 (1.0 MB")),
        (Publication(arrays((4000, 1000)), "half"), ("even int8 needs 4.2 MB", "codistill_predictions")),
        (Publication(arrays(*[(1,)] * 41), "raw"), ("41 arrays, and one payload has at most 40",)),
        (Publication(arrays((1,) * 9), "raw"), ("'layer0' has 9 dimensions", "at most 8")),
        (Publication({"a" * 1025: torch.empty(1)}, "raw"), ("has 1,025 characters", "at most 1,024")),
        (Publication({"a\nb": torch.empty(1)}, "raw"), (r"the name 'a\nb' cannot be printed",)),
        (Publication({f"{n}" + "a" * 200: torch.empty(1) for n in range(30)}, "raw"), ("names and shapes of its 30",)),
        (Publication(arrays((512, 512)), "raw"), ()),  # to the byte
        (Publication(arrays(*[(1,)] * 40), "raw"), ()),
        (Publication({"a" * 1024: torch.empty((1,) * 8)}, "raw"), ()),
    ],
)
def test_each_bound_is_named_with_what_was_found(sent: Publication, words: tuple[str, ...]) -> None:
    problem = problem_of(sent, LIMITS)
    assert all(word in problem for word in words), problem
    assert bool(problem) == bool(words)


@pytest.mark.parametrize("encoding", ["raw", "half", "bfloat16", "int8", "top_k:2"])
def test_the_layout_is_that_of_the_payload(encoding: str) -> None:
    model = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3))
    held = dict(model.state_dict())
    payload = pack(held, encoding)
    assert payload.layout == layout_of(held, encoding)
    assert payload.layout == layout_of({name: tensor.to("meta") for name, tensor in held.items()}, encoding)
    assert sum(array.nbytes for array in payload.layout) == payload.nbytes


@pytest.fixture
def wide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    (tmp_path / "wide_model.py").write_text(TASK)
    monkeypatch.chdir(tmp_path)
    return Asked(task="wide_model:task", peers="2", steps=4, strategy="gossip_averaging", out=tmp_path / "runs")


@pytest.mark.parametrize("strategy", ["gossip_averaging", "codistill_checkpoints", "sgp", "adpsgd", "dpsgd"])
def test_a_model_of_84_million_parameters_is_refused_before_anything_starts(wide: Asked, strategy: str) -> None:
    with pytest.raises(NeedsError, match=r"336\.0 MB \(320\.4 MiB\).* at most 268\.4 MB \(256\.0 MiB\); set .*half"):
        check(plan_local(replace(wide, strategy=strategy)))
    check(plan_local(replace(wide, strategy=strategy, settings=("exchange.encoding=half",))))


def test_predictions_of_a_large_model_are_small(wide: Asked) -> None:
    check(plan_local(replace(wide, strategy="codistill_predictions")))
    check(plan_local(replace(wide, strategy="isolated")))


def test_a_single_worker_and_a_simulation_refuse_it_too(wide: Asked) -> None:
    with pytest.raises(NeedsError, match="one payload has at most"):
        WorkerProcess(plan_local(wide)[0], lambda record: None, StopRequest(), Release()).run()
    with pytest.raises(NeedsError, match="one payload has at most"):
        Simulation(plan_simulation(replace(wide, steps=None, seconds=1.0)))
