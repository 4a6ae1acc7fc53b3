"""Which part of the data each peer has, by the roster and the command line; no part goes to two peers."""

from __future__ import annotations

from collections.abc import Mapping

from gossipdistill.errors import ConfigError
from gossipdistill.roster import Roster

Part = tuple[int, int]
"""A part is (index from 0, number of shards)."""


def part_of(roster: Roster, name: str) -> Part:
    """The shard of a peer by its roster: the one that its entry names, or else that of its place."""
    shard = roster.entry(name).shard
    if shard is None:
        return roster.place(name), len(roster.peer)
    index, _, count = shard.partition("/")
    return int(index) - 1, int(count)


def refuse_one_part_twice(parts: Mapping[str, Part], how: str, file: object) -> None:
    """Refuse two peers with one shard: they would train on the same examples, which only `task.shards = "same"` allows.

    Args:
        parts: name -> shard, of all peers of a run.
        how: `task.shards`.
        file: the roster, for the message; None for a counted one.

    Raises:
        ConfigError: naming the two peers and their shard.
    """
    holders: dict[Part, str] = {}
    for name, part in parts.items() if how != "same" else ():
        holder = holders.setdefault(part, name)
        if holder != name:
            raise ConfigError(
                f"{holder} and {name} have the same shard, and would train on the same examples",
                file=file,
                key="shard",
                value=f"{part[0] + 1}/{part[1]}",
                accepted='a shard for one peer only, or task.shards = "same"',
            )
