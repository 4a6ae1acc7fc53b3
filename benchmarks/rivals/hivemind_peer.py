"""A peer of hivemind: local steps, then `DecentralizedAverager.step`, with the time-outs of its Optimizer.

Those are 60 s for a round and for its all-reduce, and 15 s for a peer that sends nothing more; a group is looked for
during 5 s (the averager's own default; the Optimizer's is 15), but forms as soon as all are there.
"""

from __future__ import annotations

import sys
import time

import hivemind
import torch
from common import Training, say

ROUND_TIMEOUT_S, CHUNK_TIMEOUT_S, MATCHMAKING_S = 60.0, 15.0, 5.0


def main(spec_file: str) -> None:
    """Train and average."""
    training = Training(spec_file)
    spec = training.spec
    dht = hivemind.DHT(
        host_maddrs=[f"/ip4/{spec['address']}/tcp/0"],
        initial_peers=spec["first"],
        start=True,
        use_relay=False,
        use_auto_relay=False,
        use_ipfs=False,
    )
    say({"type": "address", "address": [str(address) for address in dht.get_visible_maddrs()]})
    tensors = [parameter.detach().clone() for parameter in training.model.parameters()]
    averager = hivemind.DecentralizedAverager(
        tensors,
        dht,
        prefix="survival",
        target_group_size=training.count,
        min_matchmaking_time=MATCHMAKING_S,
        allreduce_timeout=ROUND_TIMEOUT_S,
        next_chunk_timeout=CHUNK_TIMEOUT_S,
        start=True,
    )
    training.wait_for_go()
    for number in range(training.rounds):
        training.local_steps()
        training.corrupt(number)
        with averager.get_tensors() as shared, torch.no_grad():
            for held, parameter in zip(shared, training.model.parameters(), strict=True):
                held.copy_(parameter)
        began_s, report, problem = time.monotonic(), None, ""
        try:
            report = averager.step(timeout=ROUND_TIMEOUT_S)
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        with averager.get_tensors() as shared, torch.no_grad():
            for held, parameter in zip(shared, training.model.parameters(), strict=True):
                parameter.copy_(held)
        training.say_round(number, report is not None, began_s, group=len(report or ()), problem=problem[:200])
    training.say_result()
    averager.shutdown()
    dht.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
