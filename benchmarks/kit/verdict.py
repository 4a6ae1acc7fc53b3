"""What was to be reached, and whether it was: a line of PASS or FAIL."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verdict:
    """One target with what was found; `passed` None: not measured."""

    target: str
    found: str
    passed: bool | None

    def line(self) -> str:
        """For a table."""
        word = {True: "PASS", False: "**FAIL**", None: "not measured"}[self.passed]
        return f"| {self.target} | {self.found} | {word} |"


def at_least(target: str, value: float | None, bound: float, shape: str) -> Verdict:
    """Passed where the value is no smaller; not measured without one."""
    text = shape.format(value) if value is not None else "-"
    return Verdict(f"{target}; at least {bound:g}", text, None if value is None else value >= bound)


def at_most(target: str, value: float | None, bound: float, shape: str) -> Verdict:
    """Passed where the value is no larger; not measured without one."""
    text = shape.format(value) if value is not None else "-"
    return Verdict(f"{target}; at most {bound:g}", text, None if value is None else value <= bound)
