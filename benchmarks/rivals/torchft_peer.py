"""A peer of torchft: a replica group of one process, the averaged gradient of every step, and a vote before it is used.

The process group is Gloo; all time-outs are torchft's own (60 s for a collective, for a quorum and for a connection).
Two replicas are enough to go on.
"""

from __future__ import annotations

import os
import sys
import time
from datetime import timedelta
from typing import Any

import torch
from common import Training
from torch.distributed import TCPStore
from torchft import Manager, ProcessGroupGloo

OPERATION_TIMEOUT_S = 60.0
REPLICAS_MIN = 2


def main(spec_file: str) -> None:
    """Train; each step is a round."""
    training = Training(spec_file)
    spec, model = training.spec, training.model
    os.environ["GLOO_SOCKET_IFNAME"] = spec["interface"]
    store = TCPStore(spec["address"], 0, is_master=True, wait_for_workers=False)

    def load(state: dict[str, Any]) -> None:
        model.load_state_dict(state["model"])
        training.optimizer.load_state_dict(state["optimizer"])

    manager = Manager(
        pg=ProcessGroupGloo(timeout=timedelta(seconds=OPERATION_TIMEOUT_S)),
        load_state_dict=load,
        state_dict=lambda: {"model": model.state_dict(), "optimizer": training.optimizer.state_dict()},
        min_replica_size=REPLICAS_MIN,
        rank=0,
        world_size=1,
        store_addr=spec["address"],
        store_port=store.port,
        lighthouse_addr=spec["first"],
        replica_id=training.name,
        hostname=spec["address"],
        init_sync=False,
    )
    training.wait_for_go()
    for number in range(training.rounds * training.steps):
        began_s = time.monotonic()
        committed, problem = False, ""
        training.gradient()
        time.sleep(max(float(spec["step_time_s"]) - (time.monotonic() - began_s), 0.0))
        asked_s = time.monotonic()
        try:
            manager.start_quorum()
            gradient = torch.cat([parameter.grad.reshape(-1) for parameter in model.parameters()])
            if training.nan_from is not None and number >= training.nan_from:
                gradient.fill_(float("nan"))
            manager.allreduce(gradient).wait()
            committed = manager.should_commit()
        except Exception as error:
            problem = f"{type(error).__name__}: {error}".splitlines()[0]
        if committed:
            at = 0
            for parameter in model.parameters():
                parameter.grad.copy_(gradient[at : at + parameter.numel()].view_as(parameter))
                at += parameter.numel()
            training.optimizer.step()
        training.note_step()
        training.say_round(number, committed, asked_s, group=manager.num_participants(), problem=problem[:200])
    training.say_result()
    manager.shutdown(wait=False)
    sys.stdout.flush()
    os._exit(0)  # threads of a broken collective may hang for ever


if __name__ == "__main__":
    main(sys.argv[1])
