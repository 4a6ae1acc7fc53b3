"""What the rivals' peers share: the same data, model, steps and records as ours. Nothing of gossipdistill is imported:
each runs under a Python of its own, which has torch, numpy and the system in question.

A peer is told everything by one JSON file. It says `ready`, waits for a line on standard input, trains, notes the
monotonic clock after each step in `steps.f64`, and says what became of each round.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

POOL, VALIDATION_FROM = 800, 1400


class Training:
    """Digits, an MLP 64-512-512-10, SGD with momentum, every step padded by sleep."""

    def __init__(self, spec_file: str) -> None:
        self.spec: dict[str, Any] = json.loads(Path(spec_file).read_text())
        self.name, self.place, self.count = self.spec["name"], int(self.spec["place"]), int(self.spec["count"])
        self.rounds, self.steps = int(self.spec["rounds"]), int(self.spec["steps_per_round"])
        self.nan_from = self.spec.get("nan_from_round")
        torch.set_num_threads(1)
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9)
        with np.load(self.spec["digits"], allow_pickle=False) as stored:
            images, labels = stored["images"], stored["labels"]
        order = np.random.RandomState(1998).permutation(len(labels))
        x = torch.tensor((images[order].reshape(-1, 64) / 16 - 0.3053) / 0.3760, dtype=torch.float32)
        y = torch.tensor(labels[order].astype(np.int64))
        mine = slice(self.place * POOL // self.count, (self.place + 1) * POOL // self.count)
        self.x, self.y = x[:POOL][mine], y[:POOL][mine]
        self.validation = x[VALIDATION_FROM:], y[VALIDATION_FROM:]
        self.draws = torch.Generator().manual_seed(self.place)
        self._file = os.open(Path(spec_file).parent / "steps.f64", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def wait_for_go(self) -> None:
        """Say that all is ready, and go when told; this process ends when whoever launched it is gone."""
        say({"type": "ready", "step": 0})
        os.read(0, 4096)
        threading.Thread(target=_until_launcher_is_gone, daemon=True).start()

    def gradient(self) -> float:
        """Gradients of one batch of 32; the loss."""
        rows = torch.randint(len(self.x), (32,), generator=self.draws)
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.model(self.x[rows]), self.y[rows])
        loss.backward()
        return loss.item()

    def local_steps(self) -> None:
        """Those of one round."""
        for _ in range(self.steps):
            began_s = time.monotonic()
            self.gradient()
            self.optimizer.step()
            time.sleep(max(float(self.spec["step_time_s"]) - (time.monotonic() - began_s), 0.0))
            self.note_step()

    def note_step(self) -> None:
        """One more step is over."""
        os.write(self._file, struct.pack("d", time.monotonic()))

    def corrupt(self, number: int) -> bool:
        """Make the model NaN when it is time for that; whether it is."""
        if self.nan_from is None or number < self.nan_from:
            return False
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.fill_(float("nan"))
        return True

    def nan_share(self) -> float:
        """Of the model's parameters."""
        return float(torch.cat([p.detach().reshape(-1) for p in self.model.parameters()]).isnan().float().mean())

    def accuracy(self) -> float:
        """On the digits that nobody trains on."""
        x, y = self.validation
        with torch.no_grad():
            return float((self.model(x).argmax(1) == y).float().mean())

    def say_round(self, number: int, ok: bool, began_s: float, **more: Any) -> None:
        """What its own system reports about a round of averaging that began so."""
        at_s = time.monotonic()
        figures = {"at_s": at_s, "took_s": at_s - began_s, "nan_share": self.nan_share()}
        say({"type": "round", "round": number, "ok": ok, **figures, **more})

    def say_result(self) -> None:
        """The last word."""
        result = {"accuracy": self.accuracy(), "nan_share": self.nan_share()}
        say({"type": "result", "result": result})


def say(record: dict[str, Any]) -> None:
    """One line for the launcher."""
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


def say_to(file: str, record: dict[str, Any]) -> None:
    """One line at the end of a file, where standard output is somebody else's."""
    with open(file, "a", encoding="utf-8") as lines:
        lines.write(json.dumps(record) + "\n")


def _until_launcher_is_gone() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)
