"""6. Every key of a run is documented, from the schema."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from gossipdistill import errors
from gossipdistill.cli.pages import (
    ENVIRONMENT,
    KEYS_PAGE,
    REFERENCE_PAGE,
    STRATEGIES_PAGE,
    TABLE_HEAD,
    pages,
    strategies_table,
    write,
)
from gossipdistill.config.key_index import accepted_words, keys, type_words
from gossipdistill.config.resolving import known_keys
from gossipdistill.strategies import STRATEGIES
from gossipdistill.tasks import TASKS, task_options
from tests.command_line import called
from tests.newcomers.common import TASK

REPOSITORY = Path(__file__).parent.parent.parent


def test_every_key_is_listed_with_its_type_default_and_a_whole_sentence() -> None:
    listed = keys()
    names = {key.name for key in listed}
    for strategy in STRATEGIES:
        assert set(known_keys({"strategy.name": strategy})) <= names
    for task in TASKS:
        assert {f"task.{option}" for option in task_options(task)} <= names
    for key in listed:
        assert key.type
        assert key.default
        assert len(key.meaning.split()) > 3, key
        assert re.fullmatch(r"[A-Z].*[.]", key.meaning), key
        assert "so many" not in key.meaning
    assert len({(key.name, key.of) for key in listed}) == len(listed)
    durations = [key for key in listed if key.name.endswith(("_s", "seconds")) and not key.name.endswith("per_s")]
    assert {key.unit for key in durations} == {"seconds"}
    assert {key.unit for key in listed if key.name.split("_")[-1] == "steps"} == {"steps"}


@pytest.mark.parametrize("page", [KEYS_PAGE, REFERENCE_PAGE, STRATEGIES_PAGE], ids=str)
def test_a_page_that_is_made_from_the_code_is_current(page: Path) -> None:
    assert (REPOSITORY / page).read_text() == pages(REPOSITORY)[page], "run: python -m gossipdistill.cli.pages"


def test_pages_are_written_anew_by_one_command(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / STRATEGIES_PAGE).write_text(f"before\n{TABLE_HEAD}| `sgp` | nothing | nothing | always |\n\nafter\n")
    assert write(tmp_path) == [tmp_path / page for page in (KEYS_PAGE, REFERENCE_PAGE, STRATEGIES_PAGE)]
    assert (tmp_path / STRATEGIES_PAGE).read_text() == f"before\n{strategies_table()}\nafter\n"
    assert write(tmp_path) == []
    (tmp_path / STRATEGIES_PAGE).write_text("no table\n")
    with pytest.raises(ValueError, match="no single table"):
        write(tmp_path)


def test_every_exit_code_is_documented() -> None:
    kinds = [errors.GossipdistillError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    constants = [value for name, value in vars(errors).items() if name.startswith("EXIT_") and name != "EXIT_CODES"]
    assert {kind.exit_code for kind in kinds} | set(constants) <= set(errors.EXIT_CODES)


def test_every_environment_variable_is_documented() -> None:
    source = "\n".join(file.read_text() for file in (REPOSITORY / "gossipdistill").rglob("*.py"))
    named = set(re.findall(r"(?<!_)GOSSIPDISTILL_[A-Z_]+", source))
    assert named | {"NO_COLOR"} == set(ENVIRONMENT)


@pytest.mark.parametrize(
    ("annotation", "kind", "accepted"),
    [
        (bool, "true or false", ""),
        (int | None, "whole number", ""),
        (Literal["a", "b"], "text", "a, b"),
        (tuple[Annotated[float, Field(gt=0, lt=1)], ...], "list of numbers", "each more than 0 and less than 1"),
        (dict[str, Annotated[float, Field(ge=2)]], "table of numbers", "each 2 or more"),
        (int | tuple[str, ...], "whole number, or list of texts", ""),
        (Any, "any value", ""),
    ],
)
def test_types_are_in_the_words_of_a_run_file(annotation: Any, kind: str, accepted: str) -> None:
    assert (type_words(annotation), accepted_words(annotation)) == (kind, accepted)


def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *args: str) -> tuple[int, str, str]:
    code, out, err = called(monkeypatch, capsys, *args)
    return code, out, " ".join(err.split())


def test_config_show_and_list(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code, out, _ = cli(capsys, monkeypatch, "config", "show", "train.threads")
    assert code == 0
    assert "train.threads  whole number (threads); 1 or more; default unset" in out
    assert "OMP_NUM_THREADS" in out
    code, out, _ = cli(capsys, monkeypatch, "config", "list", "--format", "json")
    assert [entry["name"] for entry in json.loads(out)] == [key.name for key in keys()]
    code, out, err = cli(capsys, monkeypatch, "config", "show", "train.treads")
    assert (code, out) == (3, "")
    assert "KEY = 'train.treads': unknown key; did you mean train.threads" in err
    code, out, _ = cli(capsys, monkeypatch, "config", "show", "sim", "--format", "json")
    assert {entry["name"].partition(".")[0] for entry in json.loads(out)} == {"sim"}
    own = TASK.replace("dealt: bool", 'dealt: Annotated[bool, "Whether to deal."]')
    (tmp_path / "mine_keys.py").write_text(f"from typing import Annotated\n{own}")
    line = ("config", "show", "task.dealt", "--task", "mine_keys:task", "--format", "json")
    code, out, err = cli(capsys, monkeypatch, *line)
    assert (code, err) == (0, "")
    (entry,) = json.loads(out)
    assert (entry["type"], entry["default"], entry["meaning"]) == ("true or false", "true", "Whether to deal.")
