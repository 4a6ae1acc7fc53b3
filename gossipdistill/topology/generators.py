"""The ready-made kinds. Each is a pure function of the peers and of its own keyword options, listed in `KINDS`.

The keyword options of a function are the keys that a topology file of this kind may have; load.py reads them, with
their types and defaults, from the signature. All kinds work for one and two peers, or say why they do not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Annotated

import networkx as nx
from pydantic import Field

from gossipdistill.errors import ConfigError, nearest
from gossipdistill.topology.schedule import Circulant, Listed, Schedule

Edge = Annotated[list[str], Field(min_length=2, max_length=2)]
"""An edge is two peer names: sender, receiver."""

DRAWS_MAX = 100
"""At most this many random graphs are drawn until one is connected."""


def ring(peers: Sequence[str]) -> Schedule:
    """Both neighbours in a circle. Spectral gap O(1/n^2): slow to mix, but a fault is two hops wide."""
    return Circulant(kind="ring", peers=tuple(peers), hops=((1, -1),), replaces_dead=True)


def directed_ring(peers: Sequence[str]) -> Schedule:
    """The next peer in a circle, one way: the least traffic that still reaches every peer."""
    return Circulant(kind="directed_ring", peers=tuple(peers), hops=((1,),), replaces_dead=True)


def complete(peers: Sequence[str]) -> Schedule:
    """Every peer to every other: n-1 messages per exchange, mixes at once."""
    return Circulant(kind="complete", peers=tuple(peers), hops=(tuple(range(1, len(peers))),))


def star(peers: Sequence[str], *, hub: str | None = None) -> Schedule:
    """One hub, both ways with each other peer. When the hub dies no two peers are connected."""
    centre = peers[0] if hub is None and peers else hub
    if centre is not None and centre not in peers:
        raise ConfigError(f"is not in the roster; {nearest(centre, peers)}", key="hub", value=hub)
    spokes = [[str(centre), name] for name in peers if name != centre]
    return Listed(kind="star", peers=tuple(peers), phases=(_links(spokes, both_ways=True),))


def exponential(peers: Sequence[str]) -> Schedule:
    """Static directed exponential graph: hops 2^0, 2^1, ..., 2^floor(log2(n-1)) at once (1811.10792).

    Spectral gap 2 / (1 + ceil(log2 n)) for even n (2110.13363; verified for n = 4 to 32 in the tests).
    """
    return Circulant(kind="exponential", peers=tuple(peers), hops=(_powers(len(peers)),))


def one_peer_exponential(peers: Sequence[str]) -> Schedule:
    """One of the exponential hops per exchange, cyclically (1811.10792 and 2110.13363).

    If n is a power of two, log2 n lockstep exchanges average exactly; for other n they do not.
    """
    hops = tuple((hop,) for hop in _powers(len(peers))) or ((),)
    return Circulant(kind="one_peer_exponential", peers=tuple(peers), hops=hops, replaces_dead=True)


def random_regular(peers: Sequence[str], *, degree: int = 3, seed: int = 0) -> Schedule:
    """A random undirected graph in which every peer has `degree` neighbours; the same for the same seed.

    From degree 2 on, drawn again until it is connected (Steger and Wormald's method, as in networkx).
    """
    n = len(peers)
    if not 0 <= degree < n:
        raise ConfigError(
            f"{n} peers have at most {n - 1} neighbours each", key="degree", value=degree, accepted=f"0 to {n - 1}"
        )
    if n * degree % 2:
        raise ConfigError(
            f"{n} peers x {degree} is odd, and each link has two ends",
            key="degree",
            value=degree,
            accepted=", ".join(str(even) for even in range(2, min(n, 9), 2)),
        )
    for draw in range(DRAWS_MAX):
        graph: nx.Graph[int] = nx.random_regular_graph(degree, n, seed=seed + draw * 1_000_003)
        if degree < 2 or nx.is_connected(graph):
            break
    pairs = [[peers[a], peers[b]] for a, b in graph.edges]
    return Listed(kind="random_regular", peers=tuple(peers), phases=(_links(pairs, both_ways=True),))


def torus(peers: Sequence[str], *, rows: int | None = None) -> Schedule:
    """A grid of rows x columns that wraps at its borders: four neighbours each, row by row in roster order.

    Without `rows` the grid is as square as n allows. Spectral gap O(1/n).
    """
    n = len(peers)
    high = rows if rows is not None else _most_square(n)
    if high < 1 or n % high:
        divisors = ", ".join(str(d) for d in range(1, n + 1) if n % d == 0)
        raise ConfigError(f"{n} peers do not fill {high} rows", key="rows", value=rows, accepted=divisors)
    if rows is None and high == 1 and n > 3:
        raise ConfigError(
            f"{n} peers cannot be a grid, as {n} is prime; take {n - 1} or {n + 1} peers, or another kind",
            key="kind",
            value="torus",
        )
    graph = nx.grid_2d_graph(high, n // high, periodic=True)
    pairs = [[peers[a * (n // high) + b], peers[c * (n // high) + d]] for (a, b), (c, d) in graph.edges]
    unequal = [pair for pair in pairs if pair[0] != pair[1]]  # a row of one peer wraps onto itself
    return Listed(kind="torus", peers=tuple(peers), phases=(_links(unequal, both_ways=True),), columns=n // high)


def edges(peers: Sequence[str], *, edges: list[Edge], both_ways: bool = False) -> Schedule:
    """Exactly these links, [sender, receiver]; with `both_ways` each counts in both directions."""
    _check(edges, peers, "edges", both_ways)
    return Listed(kind="edges", peers=tuple(peers), phases=(_links(edges, both_ways),))


def phases(
    peers: Sequence[str], *, phases: Annotated[list[list[Edge]], Field(min_length=1)], both_ways: bool = False
) -> Schedule:
    """A list of edge lists, one per exchange, repeated for ever."""
    for number, phase in enumerate(phases):
        _check(phase, peers, f"phases[{number}]", both_ways)
    return Listed(kind="phases", peers=tuple(peers), phases=tuple(_links(phase, both_ways) for phase in phases))


KINDS: dict[str, Callable[..., Schedule]] = {
    function.__name__: function
    for function in (
        ring,
        directed_ring,
        complete,
        star,
        exponential,
        one_peer_exponential,
        random_regular,
        torus,
        edges,
        phases,
    )
}
"""The key `kind` of a topology file has one of these values."""


def _powers(n: int) -> tuple[int, ...]:
    # Integer arithmetic: floor(log2(n-1)) + 1 is the bit length of n-1, and 0 for a single peer.
    return tuple(2**k for k in range((n - 1).bit_length()))


def _most_square(n: int) -> int:
    return max((d for d in range(1, math.isqrt(n) + 1) if n % d == 0), default=1)


def _links(pairs: Sequence[Sequence[str]], both_ways: bool) -> tuple[tuple[str, str], ...]:
    forth = [(a, b) for a, b in pairs]
    return tuple(dict.fromkeys(forth + [(b, a) for a, b in forth] if both_ways else forth))


def _check(pairs: Sequence[Sequence[str]], peers: Sequence[str], key: str, both_ways: bool) -> None:
    seen: set[tuple[str, str]] = set()
    for number, (a, b) in enumerate(pairs):
        where, written = f"{key}[{number}]", [a, b]
        for name in written:
            if name not in peers:
                raise ConfigError(
                    f"peer {name!r} is not in the roster; {nearest(name, peers)}", key=where, value=written
                )
        if a == b:
            raise ConfigError("a peer does not send to itself", key=where, value=written)
        if (a, b) in seen:
            again = "twice; with both_ways each link is written once" if both_ways else "twice"
            raise ConfigError(f"this link is listed {again}", key=where, value=written)
        seen |= {(a, b), (b, a)} if both_ways else {(a, b)}
