"""The files of a run read back: what each must hold so that it can be shown. All of them may be anybody's, or damaged.

Only what is shown is checked; other keys may follow, and keys that releases before this one did not write may be
missing. Numbers are finite and texts may hold anything: they are made printable where they are shown.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, RootModel
from safetensors.numpy import load

from gossipdistill.errors import ConfigError
from gossipdistill.files import Shape, UnusableError, check_shape, read_bytes, read_object

OUTPUTS_BYTES_MAX = 4 * 1024**3
"""Of the outputs for the validation set."""

Count = Annotated[int, Field(ge=0)]


class Record(BaseModel):
    """A JSON object of which some keys are known."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class Age(Record):
    """Of what was used of others, in seconds."""

    median: float | None


class ExamplesRecord(Record):
    """How much data a peer trains on, and out of how much."""

    used: Count
    pool: int | None
    asked: int | None
    transfer: Count


class PeerRecord(Record):
    """`result.json`, and an entry of the `peers` of `summary.json`."""

    name: str
    status: str
    incarnations: Count
    steps: Count
    steps_per_s: float
    cpu_s_per_step: float | None
    val_loss: float | None
    val_accuracy: float | None
    metrics: dict[str, float | None]
    bytes_sent: float | None
    bytes_received: float | None
    parcels_used: Count
    age_s: Age | None
    quarantined: dict[str, int]
    warnings: list[str]
    reason: str = ""
    """Why its training has not ended well."""
    troubles: list[str] = []
    """Why it is no success all the same that it has finished; they are among the warnings."""
    push_sum_weight: float | None = None
    unusual_norms: dict[str, int] = {}
    out_of_range: dict[str, int] = {}
    turned_away: dict[str, int] = {}
    waited_s: float | None = None
    wall_s: float | None = None
    serving: bool = False
    bytes_are_computed: bool = False
    links: list[dict[str, Any]] = []
    examples: ExamplesRecord | None = None
    unwritten: list[str] = []


class FaultRecord(Record):
    """What became of one fault of a plan."""

    what: str
    began_s: float | None
    ended_s: float | None
    fired: int | None


class FaultsRecord(Record):
    """`faults.json`."""

    faults: list[FaultRecord]


class Verdict(Record):
    """Whether an expectation of a plan was met."""

    line: str
    met: bool


class Scores(Record):
    """Accuracy over the peers that finished, as a comparison shows it."""

    mean: float
    worst: float


class AllScores(Scores):
    """And as a run does."""

    ensemble: float | None
    over: Count


class SummaryRecord(Record):
    """`summary.json`."""

    name: str
    task: str
    strategy: str
    topology: str
    seed: int
    wall_s: float
    val_accuracy: AllScores | None
    peers: list[PeerRecord]
    push_sum_weight: float | None = None
    faults: list[FaultRecord] = []
    expectations: list[Verdict] = []
    data: str | None = None
    unwritten: list[str] = []


class SettingRecord(Record):
    """One key of `config.json`."""

    value: Any


class ConfigRecord(RootModel[dict[str, SettingRecord]]):
    """`config.json`: each key with its value."""


class CompareRow(Record):
    """One run of a comparison."""

    strategy: str
    seed: int = 0
    exit_code: int | None = None
    faults: str | None = None
    peers: Count
    finished: Count
    troubles: list[str]
    warnings: list[str]
    models: list[str]
    val_accuracy: Scores | None
    val_loss: float | None
    bytes_sent_per_peer: float | None
    bytes_are_computed: bool
    cpu_s_per_step: float | None
    expectations: list[Verdict] = []


class Budget(Record):
    """When the runs of a comparison end."""

    steps: int | None
    seconds: float | None


class CompareRecord(Record):
    """`compare.json`."""

    task: str
    peers: Count
    budget: Budget
    step_time_s: float
    examples_per_peer: int | None
    transfer_examples: Count
    classes: bool
    seeds: Annotated[list[int], Field(min_length=1)]
    exit_code: int = 0
    examples: ExamplesRecord | None = None
    strategies: list[str] = []
    config: dict[str, SettingRecord]
    runs: list[CompareRow]


class EventRecord(Record):
    """One line of `events.jsonl`."""

    at_s: float
    kind: str
    peer: str
    reason: str
    detail: dict[str, str | int | float] = {}


def read_record(path: Path, shape: type[Shape]) -> dict[str, Any]:
    """The JSON object in a file of a run, which has this shape; as it is written there.

    Raises:
        ConfigError: naming the file, the key and what is wrong with it.
    """
    try:
        value = read_object(path)
        check_shape(shape, value)
    except UnusableError as reason:
        raise ConfigError(f"is damaged: {reason}", file=path) from None
    return value


def read_outputs(path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """(outputs [V, ...], labels [V, ...]) of a `validation.safetensors`.

    Raises:
        UnusableError: when there is no such file, or it holds something else.
    """
    content = read_bytes(path, OUTPUTS_BYTES_MAX)
    try:
        held = load(content)
        return held["outputs"].astype(np.float64), held["labels"]
    except KeyError as error:
        raise UnusableError(f"holds no {error.args[0]!r}") from None
    except Exception as error:  # whatever the parser of another library raises: it is about this file
        raise UnusableError(f"is no safetensors file ({type(error).__name__}: {error})") from None


def read_setting(path: Path, key: str) -> Any:
    """The value of a key in a `config.json`; None where it has none.

    Raises:
        ConfigError: when the file is damaged.
    """
    return read_record(path, ConfigRecord).get(key, {}).get("value")
