"""torch's settings of the whole process: a task may change them, and only its own code is to notice.

A task that works in float64 finds that type in its own model, loss and metrics; our code computes as it always does.
"""

from __future__ import annotations

import sys
from typing import Any, ClassVar, NamedTuple


class Settings(NamedTuple):
    """torch's settings of the process that matter here."""

    gradients: bool
    dtype: Any
    device: Any


class TorchSettings:
    """Theirs inside the user's code, ours outside. torch is not imported for it: without torch there are none."""

    theirs: ClassVar[Settings | None] = None
    """The user's code has set these, where they differ from ours."""
    _inside: ClassVar[bool] = False

    @classmethod
    def enter(cls) -> Settings | None:
        """The user's code begins. Returns ours, for `leave`; None inside of another call of the user's code."""
        if cls._inside:
            return None
        cls._inside = True
        ours = cls._now()
        if cls.theirs is not None:
            cls._set(cls.theirs._replace(gradients=ours.gradients))
        return ours

    @classmethod
    def leave(cls, ours: Settings | None, kept: bool = False) -> None:
        """The user's code has ended; what it has set holds for its next call as well, if `kept`."""
        if ours is None:
            return
        cls._inside = False
        after = cls._now()
        if kept:
            cls.theirs = after if after[1:] != ours[1:] else None
        if after != ours:
            cls._set(ours)

    @classmethod
    def forget(cls) -> None:
        """A new command begins in this process."""
        cls.theirs, cls._inside = None, False

    @staticmethod
    def _now() -> Settings:
        torch: Any = sys.modules.get("torch")
        if not hasattr(torch, "get_default_device"):  # not there yet: what it will begin with
            return Settings(True, None, None)
        return Settings(torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_default_device())

    @staticmethod
    def _set(settings: Settings) -> None:
        torch: Any = sys.modules.get("torch")
        if not hasattr(torch, "get_default_device"):
            return
        torch.set_grad_enabled(settings.gradients)
        torch.set_default_dtype(settings.dtype or torch.float32)
        cpu = settings.device is None or settings.device == torch.device("cpu")
        torch.set_default_device(None if cpu else settings.device)
