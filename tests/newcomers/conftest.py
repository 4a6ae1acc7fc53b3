"""Nothing of the machine or of the environment plays a part."""

from __future__ import annotations

from pathlib import Path

import pytest

from gossipdistill.config.threads import VARIABLES


@pytest.fixture(autouse=True)
def quiet_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty folder, a machine that is idle, and nothing said by the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for key in ("GOSSIPDISTILL_SET", "GOSSIPDISTILL_PEERS", "GOSSIPDISTILL_LISTEN", *VARIABLES):
        monkeypatch.delenv(key, raising=False)
