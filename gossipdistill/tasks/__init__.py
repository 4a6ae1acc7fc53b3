"""What peers learn: the shape of a task, how examples are dealt, and the ready-made tasks."""

from __future__ import annotations

from gossipdistill.tasks.base import About, Task, accuracy, fingerprint
from gossipdistill.tasks.checking import figures, odd_label
from gossipdistill.tasks.load import (
    TASKS,
    TaskDescription,
    describe_task,
    examples_per_peer_of,
    list_tasks,
    load_task,
    task_annotations,
    task_options,
)
from gossipdistill.tasks.options import DEALING_KEYS, REQUIRED, Option
from gossipdistill.tasks.shards import SHARD_KINDS, Shard

__all__ = [
    "DEALING_KEYS",
    "REQUIRED",
    "SHARD_KINDS",
    "TASKS",
    "About",
    "Option",
    "Shard",
    "Task",
    "TaskDescription",
    "accuracy",
    "describe_task",
    "examples_per_peer_of",
    "figures",
    "fingerprint",
    "list_tasks",
    "load_task",
    "odd_label",
    "task_annotations",
    "task_options",
]
