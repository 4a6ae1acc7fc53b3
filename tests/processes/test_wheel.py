"""Names of ready-made files work from an installed wheel, without a clone."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Command

Start = Callable[..., Command]
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """The wheel of this tree, unpacked."""
    pytest.importorskip("hatchling", reason="building the wheel offline needs hatchling in the environment")
    built = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--no-build-isolation",
            "--wheel-dir",
            str(tmp_path / "wheel"),
            str(REPOSITORY),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = (tmp_path / "wheel").iterdir()
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(tmp_path / "installed")
    return tmp_path / "installed"


def test_an_installed_wheel_needs_no_clone(start: Start, unpacked: Path, tmp_path: Path) -> None:
    env = {"PYTHONPATH": str(unpacked)}
    listed = start("topology", "list", env=env)
    assert listed.end() == 0, listed.err
    assert "one_peer_exponential" in listed.out
    run = start("run", "--peers", "1", "--topology", "ring", "--steps", "5", "--format", "json", env=env)
    assert run.end() == 0, run.err
    planned = start("faults", "show", "bad-day", env=env)
    assert planned.end() == 0, planned.err
    assert "bo is killed, and started again 3 s later" in planned.out
    shown = start("topology", "show", "complete", "--peers", "unlike-4", env=env)
    assert shown.end() == 0, shown.err
    assert "4 peers" in shown.out
    located = subprocess.run(
        [sys.executable, "-c", "import gossipdistill, gossipdistill.bundled as s; print(s.ready_made('peers'))"],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=tmp_path,
    )
    assert Path(located.stdout.strip()) == unpacked / "gossipdistill/ready_made/peers"
