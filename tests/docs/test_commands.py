"""Every command and every line of code of README.md and docs/ is run as it is written, or listed with a reason."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest

from gossipdistill.cli.scaffold import FILES
from gossipdistill.testing import Cluster
from tests.command_line import called, parse
from tests.docs.blocks import MANUAL, PAGES, ROOT, Block, blocks

LIMIT_S = 120
IN_PROCESS = (
    "show",
    "story",
    "new",
    "doctor",
    "topology",
    "strategy",
    "task",
    "faults",
    "config",
    "keys",
    "help",
)
"""Commands that start no process and change no signal: to call them here saves an interpreter each."""


def _environment() -> dict[str, str]:
    binaries = str(Path(sys.executable).parent)
    return os.environ | {"PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}


def test_every_block_is_of_a_known_kind_and_has_no_placeholder() -> None:
    marks = {"sh": ("", "parallel", "manual"), "python": ("", "test", "manual", *(f"file {name}" for name in FILES))}
    for block in blocks():
        assert block.mark in marks.get(block.language, ("",)), f"{block.page}: {block.language} {block.mark}"
        assert block.language in (*marks, "text", "toml"), block.page
    assert not [page.name for page in PAGES if "@@" in page.read_text("utf-8")]


def test_no_command_stands_in_a_block_that_nobody_looks_at() -> None:
    for page in PAGES:
        hidden = re.findall(r"^(?:    |\t)(?:gossipdistill|make|docker|python|pip) .*$", page.read_text("utf-8"), re.M)
        assert hidden == [], page.name
    for block in blocks("text"):
        assert not block.text.startswith(("gossipdistill ", "make ", "docker ")), block.page


def test_what_is_not_run_is_listed_with_its_reason_and_nothing_else_is() -> None:
    commands = [line for block in blocks("sh", "manual") for line in block.commands]
    code = [block.commands[0] for block in blocks("python", "manual")]
    assert {*commands, *code} == set(MANUAL)
    for reason in MANUAL.values():
        for file, _, name in re.findall(r"(tests/[\w/]+\.py)(::(\w+))?", reason):
            assert f"def {name}" in (ROOT / file).read_text("utf-8"), reason


INLINE = sorted({line for page in PAGES for line in re.findall(r"`(gossipdistill [^`]+)`", page.read_text("utf-8"))})
TYPED = sorted(line for line in MANUAL if line.startswith("gossipdistill ") and "completion" not in line)


@pytest.mark.parametrize("line", [*INLINE, *TYPED])
def test_what_is_not_run_can_at_least_be_typed(line: str) -> None:
    parse(line.replace("\n", " "))


def test_a_file_on_a_page_is_the_one_that_new_writes() -> None:
    for block in blocks("python"):
        if block.mark.startswith("file "):
            assert block.text == FILES[block.mark.removeprefix("file ")], block.page


@pytest.mark.parametrize("block", blocks("python", "test"), ids=lambda block: block.page)
def test_tests_of_the_pages_pass(block: Block) -> None:
    names: dict[str, object] = {}
    exec(compile(block.text, block.page, "exec"), names)
    tests = [value for name, value in names.items() if name.startswith("test_")]
    assert tests
    for test in tests:
        assert callable(test)
        test(gossip_cluster=Cluster)


@pytest.fixture
def here() -> Iterator[None]:
    """Puts the search for modules back, and forgets what was imported from the pages' folder."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if not name.startswith("gossipdistill") and "pytest" in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_commands_and_code_one_after_another(
    tmp_path: Path, here: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All pages share a folder. What a page before has done there already is not done again: it is the same line."""
    done: set[tuple[Path, str]] = set()
    to_run = [one for one in blocks() if one.mark == "" and one.language in ("sh", "python")]
    for page, own in groupby(to_run, key=lambda one: one.page):
        folder, names = tmp_path, dict[str, object]()
        for block in own:
            monkeypatch.chdir(folder)
            if block.language == "python":
                monkeypatch.syspath_prepend(str(folder))
                exec(compile(block.text, page, "exec"), names)
                continue
            for line in block.commands:
                if line.startswith("cd "):
                    folder = folder / line.removeprefix("cd ")
                    monkeypatch.chdir(folder)
                elif (folder, line) not in done:
                    done.add((folder, line))
                    _run(page, line, monkeypatch, capsys)


def _run(page: str, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    program, *words = shlex.split(line)
    if program == "gossipdistill" and words[0] in IN_PROCESS:
        code, out, err = called(monkeypatch, capsys, *words)
    else:
        one = subprocess.run(
            line, shell=True, check=False, env=_environment(), capture_output=True, text=True, timeout=LIMIT_S
        )
        code, out, err = one.returncode, one.stdout, one.stderr
    assert code == 0, f"{page}: {line}\n{out}\n{err}"
    assert out.strip(), f"{page}: {line} printed nothing"


PARALLEL = blocks("sh", "parallel")


@pytest.mark.parametrize("block", PARALLEL, ids=[f"{one.page}, {len(one.commands)} terminals" for one in PARALLEL])
def test_commands_side_by_side(block: Block, tmp_path: Path) -> None:
    running = [
        subprocess.Popen(
            ["bash", "-c", f"exec {line}"],
            cwd=tmp_path,
            env=_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for line in block.commands
    ]
    try:
        for line, process in zip(block.commands, running, strict=True):
            output, _ = process.communicate(timeout=LIMIT_S)
            assert process.returncode == 0, f"{line}\n{output}"
            assert "finished" in output, f"{line}\n{output}"
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.communicate()
