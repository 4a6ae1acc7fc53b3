"""The number of examples that each peer trains on, and the size of the pool, in words."""

from __future__ import annotations

from collections.abc import Iterable

from gossipdistill.observe.records import ExamplesRecord

_HOW = {"same": ", the same for all"}


def data_words(entries: Iterable[ExamplesRecord | None], how: str = "disjoint", classes: int | None = None) -> str:
    """One phrase for all peers of a run; "" if nothing is known.

    Args:
        entries: the object `examples` of each peer's `result.json`; None is skipped.
        how: `task.shards`.
        classes: `task.classes_per_peer`, if labels are classes.
    """
    known = [entry for entry in entries if entry]
    if not known:
        return ""
    used, pools = sorted({entry.used for entry in known}), {entry.pool for entry in known}
    asked, shared = {entry.asked for entry in known}, {entry.transfer for entry in known}
    text = f"{used[0]:,}" if len(used) == 1 else f"{used[0]:,} to {used[-1]:,}"
    if len(pools) == 1 and (pool := pools.pop()) is not None:
        text += f" of {pool:,}"
    text += f" labelled example{'s' * (used != [1])} each"
    text += f", mostly of {classes} classes" if how == "label_skew" and classes else _HOW.get(how, "")
    wanted = max((number for number in asked if number is not None), default=0)
    if wanted > used[0] and len(asked) == 1:
        text += f" ({wanted:,} were asked for: there are too few)"
    if len(shared) == 1 and (count := shared.pop()):
        text += f"; {count:,} unlabelled ones shared"
    return text
