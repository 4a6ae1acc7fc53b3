"""The code blocks of README.md and docs/: what each is, and which of them no test runs here, with the reason.

The mark behind the language says what a block is:

    sh               commands, one after another; a page begins in the folder in which all pages begin
    sh parallel      commands, all at once, each in a terminal of its own
    sh manual        commands that are not run here; each has its reason in MANUAL
    python           code, block after block of a page in one interpreter
    python test      tests that take the fixture `gossip_cluster`
    python manual    code that is not run here; its first line has a reason in MANUAL
    python file NAME the file that `gossipdistill new` writes under this name
    text, toml       no code: output, or a part of a file
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_BED = "between machines: tests/beds/test_network.py::test_three_machines_by_the_readme_in_any_order"
_NEWCOMERS = "between machines; on one: tests/processes/test_workers.py"
_COMPARISONS = "takes minutes; shorter: tests/processes/test_comparisons.py"
_FAULTS = "takes half a minute; shorter: tests/processes/test_faults.py"
MANUAL = {
    "make run": "installs the package and takes two minutes",
    "make test": "is what runs this",
    "python -m pip install /path/to/the/clone": "installs; tests/processes/test_wheel.py installs a wheel",
    "gossipdistill --install-completion": "writes into the home folder; tests/test_help.py does it in another one",
    "gossipdistill run first-light.toml --resume": "tests/processes/test_checkpoints.py",
    "gossipdistill compare --peers unlike-4 --strategies isolated,codistill_predictions,gossip_averaging,pooled "
    "--seeds 0,1,2": _COMPARISONS,
    "gossipdistill compare --peers unlike-4 --steps 750 --strategies codistill_predictions,gossip_averaging "
    "--faults bad-day": _COMPARISONS,
    "gossipdistill compare first-light.toml --strategies isolated,codistill_predictions,gossip_averaging,pooled "
    "--seeds 0,1,2": _COMPARISONS,
    "gossipdistill keys new --peers lab.toml": _BED,
    "scp first-light.toml lab.toml keys/bo.secret bo.lab:": _BED,
    "gossipdistill doctor --peers lab.toml --name bo": _BED,
    "gossipdistill worker first-light.toml --peers lab.toml --name bo": _BED,
    "gossipdistill doctor --peers lab.toml": "tests/beds/test_network.py::"
    "test_the_doctor_names_the_direction_that_is_closed",
    "docker compose up": "tests/beds/test_compose.py::test_compose_up_ends_by_itself_with_a_table",
    "docker compose --profile chaos up": "tests/beds/test_compose.py::"
    "test_under_the_profile_chaos_all_troubles_happen_and_all_finish",
    "gossipdistill keys new --name ada": _NEWCOMERS,
    "gossipdistill keys invite keys/lab.join --run first-light --key keys/ada.secret "
    "--address ada.lab:7400": _NEWCOMERS,
    "gossipdistill worker --name ada --listen ada.lab:7400 --shard 1/3 --join keys/lab.join": _NEWCOMERS,
    "gossipdistill worker --name bo --listen bo.lab:7400 --shard 2/3 --join keys/lab.join": _NEWCOMERS,
    "gossipdistill run --seconds 60 --max-restarts 1": "needs a hand; tests/processes/test_faults.py kills by a plan",
    "kill -9 PID": "needs a hand; tests/processes/test_faults.py kills by a plan",
    "gossipdistill run --faults bad-day": _FAULTS,
    "def test_my_run_survives_a_bad_day(gossip_run):": "takes half a minute; shorter: tests/testing/test_runs.py",
}
"""Command, or first line of code -> why no test runs it as it stands, and where something like it is run."""

_FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", flags=re.M | re.S)


@dataclass(frozen=True)
class Block:
    """A block of code on a page."""

    page: str
    language: str
    mark: str
    text: str

    @property
    def commands(self) -> list[str]:
        """Its lines without comments."""
        return [line.partition("   #")[0].strip() for line in self.text.splitlines() if line.strip()]


def blocks(language: str | None = None, mark: str | None = None) -> list[Block]:
    """The blocks of all pages, in the order of pages and lines; only those of a language, or with a mark."""
    found = [
        Block(page.relative_to(ROOT).as_posix(), *(part.strip() for part in match[:2]), match[2])
        for page in PAGES
        for match in _FENCE.findall(page.read_text("utf-8"))
    ]
    return [one for one in found if language in (None, one.language) and mark in (None, one.mark)]
