"""Shows a topology as a table in the terminal, and as a drawing of its links."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import TYPE_CHECKING

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gossipdistill.errors import ConfigError
from gossipdistill.topology import Judgement, Listed, Schedule

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS_MAX = 8
"""At most this many exchanges are drawn or listed."""
LINKS_LISTED_MAX = 24
"""At most this many links per exchange are listed in the terminal."""
DRAWN_PEERS_MAX = 200
NAMED_PEERS_MAX = 40

_INK, _NODE, _LINK = "#22303c", "#1f6f8b", "#5b8fa8"
_INCHES_PER_PANEL = 3.6

Point = tuple[float, float]


def render(schedule: Schedule, judgement: Judgement) -> RenderableType:
    """The links of each visited exchange, and the judgement, for a rich console."""
    who = "1 peer" if judgement.peers == 1 else f"{judgement.peers} peers"
    if not judgement.periodic:
        repeats = f"never repeats ({judgement.period} exchanges judged)"
    elif judgement.period == 1:
        repeats = "the same at every exchange"
    else:
        repeats = f"repeats after {judgement.period} exchanges"
    links = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    different = _different(schedule, judgement)
    for label, exchange in different[:PANELS_MAX]:
        links.add_row(Text(label, style="dim"), _written(schedule, exchange))
    if len(different) > PANELS_MAX:
        links.add_row(Text(f"and {len(different) - PANELS_MAX} more", style="dim"))
    facts = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value, good in _facts(schedule, judgement):
        facts.add_row(Text(name, style="dim"), Text(value, style="" if good else "bold red"))
    return Group(Text(f"{schedule.kind}: {who}, {repeats}", style="bold"), "", links, "", facts)


def _facts(schedule: Schedule, judgement: Judgement) -> list[tuple[str, str, bool]]:
    """(property, finding, whether it is good) for each property."""
    at = "" if judgement.visited_every == 1 else f" (visited every {judgement.visited_every} exchanges)"
    if judgement.strongly_connected:
        each = "in every single exchange" if judgement.connected_each else f"over {judgement.period} exchanges"
        connected = f"yes, {each}{at}"
    else:
        groups = [", ".join(group) for group in judgement.groups[:PANELS_MAX]]
        more = ["..."] if len(judgement.groups) > PANELS_MAX else []
        one_way = "; links between them go one way only" if judgement.weakly_connected else ""
        connected = f"no: {' | '.join(groups + more)}{one_way}{at}"
    if judgement.column_stochastic:
        weights = f"{judgement.weights}, doubly stochastic: plain averaging keeps the mean"
    else:
        weights = f"{judgement.weights}, rows only: averaging drifts to a weighted mean; push-sum finds the true one"
    return [
        ("paths from each peer to each", connected, judgement.strongly_connected),
        ("each link both ways", "yes" if judgement.symmetric else "no", True),
        ("weights", weights, True),
        ("spectral gap", _gap(judgement), judgement.spectral_gap != 0.0),
        ("neighbours to send to", _between(judgement.out_degree), True),
        ("neighbours to receive from", _between(judgement.in_degree), True),
        (
            "when a neighbour dies",
            "the next living one takes its place" if schedule.closes_gaps else "its links rest",
            True,
        ),
    ]


def _gap(judgement: Judgement) -> str:
    if judgement.spectral_gap is None:
        return f"not computed for {judgement.peers} peers"
    if judgement.exact_after is not None:
        plural = "exchange" if judgement.exact_after == 1 else "exchanges"
        return f"1: averages exactly after {judgement.exact_after} {plural} in lock step"
    return f"{judgement.spectral_gap:.3g} per exchange (1: averaged at once, 0: never)"


def _between(degrees: tuple[int, int]) -> str:
    return str(degrees[0]) if degrees[0] == degrees[1] else f"{degrees[0]} to {degrees[1]}"


def _different(schedule: Schedule, judgement: Judgement) -> list[tuple[str, int]]:
    """(label, first exchange) of each run of visited exchanges with the same links."""
    runs = [list(run) for _, run in itertools.groupby(judgement.exchanges, schedule.edges)]
    if len(runs) == 1:
        return [("links", runs[0][0])]
    return [(f"exchange {run[0]}" if len(run) == 1 else f"exchanges {run[0]} to {run[-1]}", run[0]) for run in runs]


def _split(schedule: Schedule, exchange: int) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The links in both directions (each once), and the links in one direction."""
    links = schedule.edges(exchange)
    known, places = set(links), schedule.places
    both = [(a, b) for a, b in links if (b, a) in known and places[a] < places[b]]
    return both, [(a, b) for a, b in links if (b, a) not in known]


def _written(schedule: Schedule, exchange: int) -> RenderableType:
    both, one_way = _split(schedule, exchange)
    written = [f"{a} <-> {b}" for a, b in both] + [f"{a} -> {b}" for a, b in one_way]
    more = [f"and {len(written) - LINKS_LISTED_MAX} more"] if len(written) > LINKS_LISTED_MAX else []
    # Columns, because a line must be broken between links and not within a link.
    return Columns([Text(link, no_wrap=True) for link in written[:LINKS_LISTED_MAX] + more or ["none"]], padding=(0, 3))


def plot(schedule: Schedule, judgement: Judgement, path: Path) -> None:
    """Draw the visited exchanges, at most `PANELS_MAX`, one panel each, into `path`, whose suffix is the format."""
    # Imported here: only this drawing needs matplotlib, which is slow to import.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if judgement.peers > DRAWN_PEERS_MAX:
        raise ConfigError(f"a drawing of {judgement.peers} peers would be black", accepted=f"up to {DRAWN_PEERS_MAX}")
    different = _different(schedule, judgement)
    drawn = different[:PANELS_MAX]
    columns = min(len(drawn), 4)
    rows = math.ceil(len(drawn) / columns)
    inches = _INCHES_PER_PANEL * (1.4 if len(drawn) == 1 else 1.0)
    figure = Figure(figsize=(inches * columns, inches * rows + 0.7), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, (label, exchange) in zip(panels, drawn, strict=False):
        _draw(panel, schedule, exchange)
        if len(drawn) > 1:
            panel.set_title(label, fontsize=10, color=_INK)
    for panel in panels[len(drawn) :]:
        panel.set_axis_off()
    more = f", first {len(drawn)} of {len(different)} panels" if len(different) > len(drawn) else ""
    figure.suptitle(_title(schedule, judgement) + more, fontsize=12, color=_INK)
    try:
        figure.savefig(path, dpi=150, facecolor="white")
    except (OSError, ValueError) as error:
        raise ConfigError(f"the drawing cannot be written: {error}", file=path) from None


def _title(schedule: Schedule, judgement: Judgement) -> str:
    if judgement.exact_after is not None:
        mixing = f"exact average after {judgement.exact_after} exchange{'s' * (judgement.exact_after > 1)} in lock step"
    elif judgement.spectral_gap is None:
        mixing = "spectral gap not computed"
    else:
        mixing = f"spectral gap {judgement.spectral_gap:.3g}"
    cut = "" if judgement.strongly_connected else ", NOT connected"
    return f"{schedule.kind}, {judgement.peers} peer{'s' * (judgement.peers > 1)}{cut}\n{mixing}"


def _draw(panel: Axes, schedule: Schedule, exchange: int) -> None:
    """Draw one exchange: lines for both directions, arrows for one. Peers are placed on a circle, or in rows if rows
    have a meaning."""
    from matplotlib.collections import LineCollection
    from matplotlib.patches import FancyArrowPatch

    n = len(schedule.peers)
    columns = schedule.columns if isinstance(schedule, Listed) else 0
    at = _grid(schedule.peers, columns) if columns else _circle(schedule.peers)
    both, one_way = _split(schedule, exchange)
    lines = [line for a, b in both for line in (_line_or_stubs(at[a], at[b]) if columns else [(at[a], at[b])])]
    faint = min(0.9, 0.25 + 12 / (1 + len(both) + len(one_way)))
    size = max(20.0, 260.0 - 9.0 * n)
    panel.add_collection(LineCollection(lines, colors=_LINK, linewidths=1.8, alpha=faint, zorder=1))
    for a, b in one_way:
        panel.add_patch(
            FancyArrowPatch(
                at[a],
                at[b],
                arrowstyle="-|>",
                mutation_scale=13,
                shrinkA=math.sqrt(size) / 2 + 1,
                shrinkB=math.sqrt(size) / 2 + 2,
                connectionstyle="arc3,rad=0.12",
                color=_LINK,
                alpha=faint,
                linewidth=1.5,
                zorder=1,
            )
        )
    points = list(at.values())
    panel.scatter([x for x, _ in points], [y for _, y in points], s=size, color=_NODE, edgecolors="white", zorder=2)
    if n <= NAMED_PEERS_MAX:
        for name, (x, y) in at.items():
            side = "left" if columns or x > 0.3 else "right" if x < -0.3 else "center"
            where = (x + 0.09, y + 0.13) if columns else (1.14 * x, 1.14 * y)
            panel.text(*where, name, ha=side, va="center", fontsize=9 if n <= 16 else 7, color=_INK)
    if columns:
        panel.set(xlim=(-0.9, columns - 0.1), ylim=(-(n // columns) + 0.1, 0.9), aspect="equal")
    else:
        panel.set(xlim=(-1.5, 1.5), ylim=(-1.25, 1.25), aspect="equal")
    panel.set_axis_off()


def _circle(peers: tuple[str, ...]) -> dict[str, Point]:
    """Clockwise from the top, radius 1."""
    turns = [2 * math.pi * place / len(peers) for place in range(len(peers))]
    return {name: (math.sin(turn), math.cos(turn)) for name, turn in zip(peers, turns, strict=True)}


def _grid(peers: tuple[str, ...], columns: int) -> dict[str, Point]:
    """Row by row from the top, one unit apart."""
    return {name: (float(place % columns), -float(place // columns)) for place, name in enumerate(peers)}


def _line_or_stubs(a: Point, b: Point) -> list[tuple[Point, Point]]:
    """A link of a torus: a line between next neighbours; a link that wraps leaves the grid at both ends."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    if abs(dx) + abs(dy) == 1.0:
        return [(a, b)]
    out = (0.45 * math.copysign(1.0, dx) if dx else 0.0, 0.45 * math.copysign(1.0, dy) if dy else 0.0)
    return [(a, (a[0] - out[0], a[1] - out[1])), (b, (b[0] + out[0], b[1] + out[1]))]
