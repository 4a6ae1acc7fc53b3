"""The example files that `gossipdistill new` writes."""

from __future__ import annotations

from pathlib import Path

from gossipdistill import bundled
from gossipdistill.errors import ConfigError

FIRST_LIGHT = """\
# What and how. Every key, its default and what it means: gossipdistill config list
name = "first-light"
peers = "unlike-4.toml"
topology = "complete"                    # or a file such as two-desks.toml
seconds = 15
seed = 0

[task]
name = "digits"                          # or a function of your own: "moons:task"
shards = "label_skew"                    # disjoint | same | label_skew
examples_per_peer = 100
transfer_examples = 600                  # unlabelled, the same for all; compared at first contact

[train]
optimizer = "sgd"                        # sgd | adam | adamw | sgd_c | adam_c | module:Class
lr = 0.05
momentum = 0.9
lr_schedule = "cosine"                   # cosine | constant | drops
batch_size = 32
step_time_s = 0.02                       # pads a step that is shorter; 0 = full speed

[strategy]
name = "codistill_predictions"
weight = 1.0
temperature = 1.0
burn_in_steps = 0
ramp_steps = 0

[exchange]
mode = "auto"                            # auto | push | pull
every_steps = 10
per_second_max = 20.0                    # the tighter of the two holds
encoding = "half"                        # raw | half | bfloat16 | int8 | top_k:K
# stale_after_s = 30.0                   # the weight of a teacher falls with age, to zero here; unset: by the pace
"""

UNLIKE_4 = """\
# Two MLPs and two CNNs on this machine. The order is the index that shards and topologies use.
[[peer]]
name = "ada"
address = "127.0.0.1:7400"               # control on this port, data on the next
set = { "task.model" = "mlp" }

[[peer]]
name = "bo"
address = "127.0.0.1:7402"
set = { "task.model" = "cnn" }           # another architecture: fine where predictions travel

[[peer]]
name = "cy"
address = "127.0.0.1:7404"
set = { "task.model" = "mlp" }

[[peer]]
name = "dee"
address = "127.0.0.1:7406"
set = { "task.model" = "cnn" }
# also: slowdown = 10.0, device = "cuda:1", shard = "3/8"
"""

TWO_DESKS = """\
# The links of this topology: two pairs, and one link between them.
kind = "edges"
both_ways = true
edges = [["ada", "bo"], ["cy", "dee"], ["bo", "cy"]]
"""

MOONS = '''\
"""Two interleaved half circles: a task of my own in thirty lines."""
import math

import torch
from torch import nn

from gossipdistill import Task


def moons(count: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)               # the same world for every peer
    y = torch.randint(2, (count,), generator=generator)
    angle = math.pi * (torch.rand(count, generator=generator) + y)
    x = torch.stack([angle.cos() + y, angle.sin() + 0.5 * y], dim=1)
    return x + noise * torch.randn(count, 2, generator=generator), y


def task(shard, noise: float = 0.2, width: int = 32) -> Task:  # options: --set task.noise=0.3
    x, y = moons(2000, noise)
    mine = shard.deal(y[:400])                                 # indices of this peer, as task.shards says
    return Task(
        model=lambda: nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 2)),
        train=(x[:400][mine], y[:400][mine]),
        transfer=x[400:1000],                                  # unlabelled, in the same order everywhere
        validation=(x[1000:], y[1000:]),
        loss=nn.functional.cross_entropy,
        metrics={"accuracy": lambda out, y: (out.argmax(1) == y).float().mean().item()},
    )
'''

BAD_DAY = "bad-day"
"""The name of the ready-made fault plan that is written as an example."""
FILES = {
    "first-light.toml": FIRST_LIGHT,
    "unlike-4.toml": UNLIKE_4,
    "two-desks.toml": TWO_DESKS,
    "moons.py": MOONS,
}


def write_examples(folder: Path) -> list[Path]:
    """Write the example files into `folder`, which is made if needed.

    Raises:
        ConfigError: when one of them exists already; then nothing is written.
    """
    paths = [folder / name for name in (*FILES, f"{BAD_DAY}.toml")]
    for path in paths:
        if path.exists():
            raise ConfigError("is there already, and nothing is overwritten; choose another folder", file=path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in paths:
            path.write_text(
                FILES.get(path.name) or bundled.read_text(bundled.find("faults", BAD_DAY)), encoding="utf-8"
            )
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror}", file=folder) from None
    return paths
