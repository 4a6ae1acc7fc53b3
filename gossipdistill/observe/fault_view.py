"""Shows a fault plan in the terminal: the faults, their times and peers, and what is expected nevertheless."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gossipdistill.faults import FaultPlan

_NAMES_SHOWN_MAX = 8


def render(plan: FaultPlan, names: Sequence[str]) -> RenderableType:
    """The plan applied to these peers (names in roster order)."""
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("")
    table.add_column("from s", justify="right")
    table.add_column("to s", justify="right")
    table.add_column("what")
    processes = dict(plan.process_faults())
    for number, fault in enumerate(plan.fault):
        words = fault.words()
        if number in processes and processes[number].share < 1.0:
            words += f": {_some(plan.whom(number, names))}"
        end = "the end" if math.isinf(fault.end_s) else f"{fault.end_s:g}"
        table.add_row(str(number + 1), f"{fault.begin_s:g}", end, words)
    untouched = [name for name in names if name not in plan.touched(names)]
    parts: list[RenderableType] = [Text(f"{plan.name}: seed {plan.seed}, {len(names)} peers", style="bold"), table]
    parts.append(Text(f"\nprocesses that no fault touches: {_some(untouched) or 'none'}"))
    for expected in plan.expect:
        members = expected.members(names, plan.touched(names), plan.restarted(names))
        parts.append(Text(f"expected: {expected.metric} of {_some(members)}: {expected.bound()}"))
    return Group(*parts)


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMES_SHOWN_MAX
    return ", ".join(names[:_NAMES_SHOWN_MAX]) + (f" and {more} more" if more > 0 else "")
