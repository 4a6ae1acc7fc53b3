"""Digits by Flower's FedAvg at its defaults. A node is told by the file that SURVIVAL_SPEC names; RIVALS is the folder
of the rivals' common code, for Flower copies this file elsewhere."""

import os
import sys
import time

sys.path.insert(0, os.environ["RIVALS"])

from common import Training, say_to
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

client = ClientApp()
server = ServerApp()


@client.train()
def train(message: Message, context: Context) -> Message:
    """The steps of one round, from the weights that came."""
    training = Training(os.environ["SURVIVAL_SPEC"])
    training.model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    number = int(message.content["config"]["server-round"])
    training.draws.manual_seed(1000 * number + training.place)
    training.local_steps()
    training.corrupt(number)
    answer = RecordDict(
        {
            "arrays": ArrayRecord(training.model.state_dict()),
            "metrics": MetricRecord({"num-examples": len(training.x)}),
        }
    )
    return Message(content=answer, reply_to=message)


@server.main()
def main(grid: Grid, context: Context) -> None:
    """All rounds; after each, what came out of it."""
    training = Training(os.environ["SURVIVAL_SPEC"])
    began_s = time.monotonic()

    def judge(number: int, arrays: ArrayRecord) -> MetricRecord:
        nonlocal began_s
        training.model.load_state_dict(arrays.to_torch_state_dict())
        at_s = time.monotonic()
        figures = {"accuracy": training.accuracy(), "nan_share": training.nan_share()}
        record = {"type": "round", "round": number, "ok": True, "at_s": at_s, "took_s": at_s - began_s, **figures}
        say_to(os.environ["SURVIVAL_ROUNDS"], record)
        began_s = at_s
        return MetricRecord(figures)

    strategy = FedAvg(fraction_evaluate=0.0)
    strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(training.model.state_dict()),
        num_rounds=training.rounds,
        evaluate_fn=judge,
    )
    say_to(os.environ["SURVIVAL_ROUNDS"], {"type": "result"})
