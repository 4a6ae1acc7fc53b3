"""Mixing matrices of a schedule, and the analysis of what they can do.

Convention: W has shape [n, n], float64; row i is the receiver, column j the sender, in roster order. One lockstep
exchange is x <- W x with x of shape [n, ...]. Asynchronous peers do not multiply by these matrices, but whether
information can get from every peer to every other, and roughly how fast, is derived from them all the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from gossipdistill.errors import ConfigError
from gossipdistill.topology.schedule import Schedule

Matrix = NDArray[np.float64]

EXACT = 1e-12
"""Two matrices closer than this in every entry are the same."""
CONVERGED = 1e-6
"""The spread of the weights at which a long product has converged. Its rate is taken there, before rounding errors
dominate."""
SPECTRUM_PEERS_MAX = 512
"""Above this many peers the spectral gap (cubic in n) is not computed."""


@dataclass(frozen=True)
class Judgement:
    """The properties of a schedule over the exchanges that are really visited. Made by `judge`."""

    peers: int
    period: int
    """The number of different exchanges visited before they repeat (or judged, if they never do)."""
    periodic: bool
    visited_every: int
    """The stride of the visited exchanges: 1 for a schedule that advances per exchange, as it should."""
    exchanges: range
    """The visited exchanges, until they repeat."""
    strongly_connected: bool
    """Information from every peer reaches every peer, over the union of the visited exchanges."""
    weakly_connected: bool
    """This is the same when the direction of links is ignored."""
    connected_each: bool
    """Every visited exchange is strongly connected by itself."""
    groups: tuple[tuple[str, ...], ...]
    """The strongly connected components of the union: one group if the schedule is connected; otherwise no information
    passes between groups in at least one direction."""
    symmetric: bool
    """In every visited exchange each link has its reverse."""
    weights: Literal["metropolis", "uniform"]
    """The natural weights are `metropolis` if the schedule is symmetric, else `uniform_row`. The next four fields are
    about them."""
    row_stochastic: bool
    """Every receiver averages: rows sum to 1."""
    column_stochastic: bool
    """Nothing is gained or lost: columns sum to 1. If not, plain averaging drifts to a weighted mean, and push-sum
    (`uniform_column`) finds the true one."""
    doubly_stochastic: bool
    spectral_gap: float | None
    """The gap per exchange is 1 - |lambda_2(W_T ... W_1)|^(1/T): 1 means averaged at once, 0 means never. None above
    `SPECTRUM_PEERS_MAX` peers."""
    exact_after: int | None
    """The number of lockstep exchanges after which the product is 11^T/n; None if that does not happen within a
    period."""
    in_degree: tuple[int, int]
    """The smallest and largest number of senders to a peer in a visited exchange."""
    out_degree: tuple[int, int]
    """The smallest and largest number of receivers of a peer in a visited exchange."""


def adjacency(schedule: Schedule, exchange: int, alive: frozenset[str] | None = None) -> NDArray[np.bool_]:
    """[n, n]; entry (i, j) says whether j sends to i. With `alive`, dead peers have no links."""
    links = np.zeros((len(schedule.peers), len(schedule.peers)), dtype=np.bool_)
    for j, name in enumerate(schedule.peers):
        if alive is None:
            receivers = schedule.out_neighbours(name, exchange)
        else:
            receivers = schedule.living(name, exchange, alive) if name in alive else ()
        links[[schedule.places[receiver] for receiver in receivers], j] = True
    return links


def uniform_row(schedule: Schedule, exchange: int, alive: frozenset[str] | None = None) -> Matrix:
    """Row-stochastic: receiver i averages itself and its senders, w_ij = 1 / (in_degree_i + 1)."""
    with_self = _with_self(adjacency(schedule, exchange, alive))
    weights: Matrix = with_self / with_self.sum(axis=1, keepdims=True)
    return weights


def uniform_column(schedule: Schedule, exchange: int, alive: frozenset[str] | None = None) -> Matrix:
    """Column-stochastic: sender j splits its mass, w_ij = 1 / (out_degree_j + 1) (push-sum; 1811.10792)."""
    with_self = _with_self(adjacency(schedule, exchange, alive))
    weights: Matrix = with_self / with_self.sum(axis=0, keepdims=True)
    return weights


def metropolis(schedule: Schedule, exchange: int, alive: frozenset[str] | None = None) -> Matrix:
    """Symmetric and doubly stochastic: w_ij = 1 / (1 + max(d_i, d_j)), the rest on the diagonal (Metropolis-Hastings;
    Xiao, Boyd and Kim 2007). Requires that each link of the exchange has its reverse."""
    links = adjacency(schedule, exchange, alive)
    if not np.array_equal(links, links.T):
        raise ConfigError(
            f"metropolis weights need both directions of each link, and exchange {exchange} of the "
            f"{schedule.kind} topology lacks some; both_ways = true, or uniform weights"
        )
    degree = links.sum(axis=0)
    weights = np.where(links, 1.0 / (1.0 + np.maximum.outer(degree, degree)), 0.0)
    np.fill_diagonal(weights, 1.0 - weights.sum(axis=1))
    return weights


def visited(schedule: Schedule, visited_every: int = 1, starting_at: int = 0) -> range:
    """The exchanges visited when only every `visited_every`-th is used, until they repeat."""
    stride = max(1, visited_every)
    count = schedule.period // math.gcd(schedule.period, stride) if schedule.periodic else schedule.period
    return range(starting_at, starting_at + count * stride, stride)


def judge(schedule: Schedule, visited_every: int = 1, starting_at: int = 0) -> Judgement:
    """Analyse the schedule as it will be visited: at `starting_at`, `starting_at + visited_every`, ...

    `visited_every` > 1 is for schedules that are indexed by step. One_peer_exponential on four peers (period 2),
    visited every 10 steps, meets one neighbour for ever: hop 1 from step 0 on (a slow directed ring instead of an exact
    average), hop 2 from step 9 on (two pairs that never exchange with one another).
    """
    exchanges = visited(schedule, visited_every, starting_at)
    links = [adjacency(schedule, exchange) for exchange in exchanges]
    symmetric = all(np.array_equal(one, one.T) for one in links)
    natural: Callable[[Schedule, int], Matrix] = metropolis if symmetric else uniform_row
    matrices = [natural(schedule, exchange) for exchange in exchanges]
    rows = all(_ones(matrix.sum(axis=1)) for matrix in matrices)
    columns = all(_ones(matrix.sum(axis=0)) for matrix in matrices)
    union = _graph(np.logical_or.reduce(links))
    groups = sorted(sorted(group) for group in nx.strongly_connected_components(union))
    exact_after, gap = _mixing_speed(matrices)
    senders = [one.sum(axis=1) for one in links]
    receivers = [one.sum(axis=0) for one in links]
    return Judgement(
        peers=len(schedule.peers),
        period=len(exchanges),
        periodic=schedule.periodic,
        visited_every=max(1, visited_every),
        exchanges=exchanges,
        strongly_connected=len(groups) == 1,
        weakly_connected=nx.is_weakly_connected(union),
        connected_each=all(nx.is_strongly_connected(_graph(one)) for one in links),
        groups=tuple(tuple(schedule.peers[place] for place in group) for group in groups),
        symmetric=symmetric,
        weights="metropolis" if symmetric else "uniform",
        row_stochastic=rows,
        column_stochastic=columns,
        doubly_stochastic=rows and columns,
        spectral_gap=gap,
        exact_after=exact_after,
        in_degree=(int(np.min(senders)), int(np.max(senders))),
        out_degree=(int(np.min(receivers)), int(np.max(receivers))),
    )


def _with_self(links: NDArray[np.bool_]) -> Matrix:
    return links.astype(np.float64) + np.eye(len(links))


def _ones(sums: Matrix) -> bool:
    return bool(np.abs(sums - 1.0).max() < EXACT)


def _graph(links: NDArray[np.bool_]) -> nx.DiGraph[int]:
    return nx.from_numpy_array(links.T, create_using=nx.DiGraph)  # networkx: row sends to column


def _mixing_speed(matrices: list[Matrix]) -> tuple[int | None, float | None]:
    """(exchanges until the product is 11^T/n, spectral gap per exchange)."""
    n = len(matrices[0])
    if n == 1:
        return 1, 1.0
    if n > SPECTRUM_PEERS_MAX:
        return None, None
    product = np.eye(n)
    for number, matrix in enumerate(matrices, start=1):
        product, before = matrix @ product, float(np.ptp(product, axis=0).max())
        spread = float(np.ptp(product, axis=0).max())  # 0 when all receivers hold the same average
        if before > CONVERGED and np.abs(product - 1.0 / n).max() < EXACT:
            return number, 1.0  # a jump, not the slow convergence of a long period
        if spread < CONVERGED:
            break  # further products would only add rounding
    second = float(np.sort(np.abs(np.linalg.eigvals(product)))[-2]) ** (1.0 / number)
    return None, 0.0 if second > 1.0 - EXACT else 1.0 - second
