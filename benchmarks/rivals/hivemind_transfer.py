"""One peer of hivemind that averages 100 MB with the others, round after round; what it prints is for `secured.py`.

Run by a Python that has hivemind: `hivemind_transfer.py PEERS ROUNDS [ADDRESS OF THE FIRST PEER]`. It waits for a line
on its standard input before each round, and prints one line of JSON about each.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import hivemind
import torch

TENSORS, NUMBERS = 25, 1_000_000
_PATIENCE_S = 120.0


def say(what: dict[str, Any]) -> None:
    """One line."""
    print(json.dumps(what), flush=True)


def cpu_s() -> float:
    """CPU seconds of this process and all that it has started, dead ones included."""
    ticks: dict[int, int] = {}
    parent: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            parent[int(folder.name)] = int(fields[1])
            ticks[int(folder.name)] = sum(map(int, fields[11:15]))
    family = {os.getpid()}
    while more := {pid for pid, its in parent.items() if its in family} - family:
        family |= more
    return sum(ticks.get(pid, 0) for pid in family) / os.sysconf("SC_CLK_TCK")


def main(peers: int, rounds: int, first: list[str]) -> None:
    """Average."""
    torch.set_num_threads(1)
    dht = hivemind.DHT(
        host_maddrs=["/ip4/127.0.0.1/tcp/0"],
        initial_peers=first,
        start=True,
        use_relay=False,
        use_auto_relay=False,
        use_ipfs=False,
    )
    say({"address": [str(address) for address in dht.get_visible_maddrs()]})
    averager = hivemind.DecentralizedAverager(
        [torch.full((NUMBERS,), float(number)) for number in range(TENSORS)],
        dht,
        prefix="transfer",
        target_group_size=peers,
        min_matchmaking_time=5.0,
        start=True,
    )
    say({"ready": True})
    for _ in range(rounds):
        sys.stdin.readline()
        before, began_s = cpu_s(), time.monotonic()
        control = averager.step(timeout=_PATIENCE_S, wait=False, require_trigger=True)
        while control.stage.name in ("IDLE", "LOOKING_FOR_GROUP"):
            time.sleep(0.005)
        formed_s = time.monotonic()
        control.allow_allreduce()
        group = control.result(_PATIENCE_S)
        ended_s = time.monotonic()
        say(
            {
                "began_s": began_s,
                "formed_s": formed_s,
                "ended_s": ended_s,
                "cpu_s": cpu_s() - before,
                "group": len(group or ()),
            }
        )
    sys.stdin.readline()
    averager.shutdown()
    dht.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
