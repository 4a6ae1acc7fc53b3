"""The README's commands as written. Blocks marked `manual` are not run: they take long, need an engine, or a hand.

`sh` runs line by line in one folder, `sh parallel` all lines at once.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"^```sh([^\n]*)\n(.*?)^```", README.read_text(), flags=re.M | re.S)
LIMIT_S = 120


def _environment() -> dict[str, str]:
    binaries = str(Path(sys.executable).parent)
    return os.environ | {"PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}


def _lines(kind: str) -> list[list[str]]:
    return [body.strip().splitlines() for mark, body in BLOCKS if mark.strip() == kind]


def test_the_readme_has_blocks_of_each_kind_and_no_placeholder() -> None:
    assert _lines("")
    assert _lines("parallel")
    assert {mark.strip() for mark, _ in BLOCKS} <= {"", "parallel", "manual"}
    assert "@@" not in README.read_text()


def test_commands_one_after_another(tmp_path: Path) -> None:
    folder = tmp_path
    for lines in _lines(""):
        for line in lines:
            if line.startswith("cd "):
                folder = folder / line.removeprefix("cd ")
                continue
            done = subprocess.run(
                line,
                shell=True,
                check=False,
                cwd=folder,
                env=_environment(),
                capture_output=True,
                text=True,
                timeout=LIMIT_S,
            )
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
            assert done.stdout.strip(), f"{line} printed nothing"


@pytest.mark.parametrize("lines", _lines("parallel"), ids=lambda lines: f"{len(lines)} terminals")
def test_commands_side_by_side(lines: list[str], tmp_path: Path) -> None:
    running = [
        subprocess.Popen(
            ["bash", "-c", f"exec {line}"], cwd=tmp_path, env=_environment(), stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )
        for line in lines
    ]  # fmt: skip
    try:
        for line, process in zip(lines, running, strict=True):
            output, _ = process.communicate(timeout=LIMIT_S)
            assert process.returncode == 0, f"{line}\n{output}"
            assert "finished" in output, f"{line}\n{output}"
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.communicate()
