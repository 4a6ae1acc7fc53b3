"""Durations in words, and the remaining time of a run."""

from __future__ import annotations


def clock_words(seconds: float) -> str:
    """0:07, 12:05 or 2:03:09."""
    whole = max(round(seconds), 0)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def left_s(steps_left: int | None, steps_per_s: float, seconds_left: float | None) -> float | None:
    """Seconds until the nearer of the two limits of a run, at the pace so far; None if not known yet.

    Args:
        steps_left: steps until the limit, or None without one.
        steps_per_s: the pace so far; 0 before the first step.
        seconds_left: seconds until the limit, or None without one.
    """
    known = [seconds_left] if seconds_left is not None else []
    if steps_left is not None and steps_per_s > 0:
        known.append(steps_left / steps_per_s)
    return max(min(known), 0.0) if known else None
