"""The command line, called in this process."""

from __future__ import annotations

import sys

import pytest

from gossipdistill.cli import main

Outcome = tuple[int, str, str]
"""Exit code, standard output, standard error."""


def called(monkeypatch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str], *args: str) -> Outcome:
    """`gossipdistill ARGS...`."""
    monkeypatch.setattr(sys, "argv", ["gossipdistill", *args])
    code = 0
    try:
        main()
    except SystemExit as end:
        code = int(end.code or 0)
    captured = capture.readouterr()
    return code, captured.out, captured.err
