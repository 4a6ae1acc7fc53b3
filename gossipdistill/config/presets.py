"""The run that is meant where no run file is given."""

from __future__ import annotations

from gossipdistill.config.tables import Dotted

FIRST_LIGHT: Dotted = {
    "name": "first-light",
    "seconds": 15.0,
    "task.name": "digits",
    "task.shards": "label_skew",
    "task.examples_per_peer": 100,
    "train.step_time_s": 0.02,
}
"""This run is meant when no run file is given. `gossipdistill new` writes it out, commented."""
