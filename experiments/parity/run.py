"""Codistillation against all_reduce at equal compute, each with a rate and a weight decay of its own.

    GOSSIPDISTILL_DATA=FOLDER python -m experiments.parity.run [--seeds 0,1,2,3,4] [--tasks adult,fashion,cifar]
    python -m experiments.parity.run --report       the tables again, from the cells that are there

One line of `results/cells.jsonl` for each run, so that an interrupted series goes on where it was. `--full` is the same
with more steps and examples and larger models, kept apart from the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from experiments.common import command
from experiments.common.cells import Cell, NotThereError, Store
from experiments.parity.bench import ALONE, COLLECTIVE, COUNTS, DATA, METHODS, TASKS, Bench, Setting
from experiments.parity.table import Row, comparison

RESULTS = Path(__file__).parent / "results"
SELECTED_AT = 4
"""The number of peers at which changes are chosen."""


def shown(bench: Bench, setting: Setting, seeds: Sequence[int]) -> list[Cell]:
    """The cells of the shown seeds, at the rate and decay that were chosen on the others."""
    near = setting.changes and setting.changes != ("clip off",)  # without a bound, other rates suit
    start = bench.tuned(setting.with_changes()) if near else None
    point = bench.tuned(setting, start)
    return [bench.cell(setting, point, seed, "test") for seed in seeds]


def base_of(setting: Setting, *changes: str) -> Setting:
    """all_reduce beside it. It sees the same pool either way, so its cells serve for both kinds of data."""
    return Setting(setting.task, "disjoint", setting.n, COLLECTIVE, changes, setting.size)


def alone_of(setting: Setting) -> Setting:
    """Training alone beside it; with the same data at all peers their number does not matter."""
    n = setting.n if setting.data == "disjoint" else COUNTS[0]
    return Setting(setting.task, setting.data, n, ALONE, size=setting.size)


def main_rows(
    bench: Bench, task: str, size: str, seeds: Sequence[int], counts: Sequence[int]
) -> Iterator[Callable[[], Row]]:
    """The methods with the settings that they begin with."""
    for data in DATA:
        for method in METHODS:
            for n in counts:
                setting = Setting(task, data, n, method, size=size)
                words = (task, data, method.removeprefix("codistill_"), str(n))
                yield lambda s=setting, w=words: Row(
                    w, shown(bench, base_of(s), seeds), shown(bench, s, seeds), shown(bench, alone_of(s), seeds)
                )


def decay_rows(
    bench: Bench, task: str, size: str, seeds: Sequence[int], counts: Sequence[int]
) -> Iterator[Callable[[], Row]]:
    """Two peers, rates that fall tenfold: constant and decaying weight decay, each tuned for itself."""
    for data in DATA:
        for method in METHODS:
            for name, changes in (("constant", ("drops",)), ("decaying", ("drops", "decaying"))):
                setting = Setting(task, data, 2, method, changes, size)
                words = (task, data, method.removeprefix("codistill_"), name)
                yield lambda s=setting, w=words: Row(
                    w, shown(bench, base_of(s, "drops"), seeds), shown(bench, s, seeds)
                )


def closed_rows(
    bench: Bench, task: str, size: str, seeds: Sequence[int], counts: Sequence[int]
) -> Iterator[Callable[[], Row]]:
    """With the changes that the tuning seeds asked for on disjoint data, of all_reduce as well."""

    def row(setting: Setting) -> Row:
        chosen = bench.closest(Setting(task, "disjoint", SELECTED_AT, setting.method, size=size))
        base = base_of(setting, *bench.closest(base_of(Setting(task, "disjoint", SELECTED_AT, COLLECTIVE, size=size))))
        what = ", ".join(chosen) or "none"
        words = (task, setting.data, setting.method.removeprefix("codistill_"), str(setting.n), what)
        return Row(words, shown(bench, base, seeds), shown(bench, setting.with_changes(*chosen), seeds))

    for data in DATA:
        for method in METHODS:
            for n in counts:
                setting = Setting(task, data, n, method, size=size)
                yield lambda s=setting: row(s)


def update_rows(
    bench: Bench, task: str, size: str, seeds: Sequence[int], counts: Sequence[int]
) -> Iterator[Callable[[], Row]]:
    """Two peers, as many steps as all_reduce makes, whatever they cost: the accounting of Sodhani et al."""
    for data in DATA:
        for method in METHODS:
            setting = Setting(task, data, 2, method, ("equal updates",), size)
            words = (task, data, method.removeprefix("codistill_"))
            yield lambda s=setting, w=words: Row(w, shown(bench, base_of(s), seeds), shown(bench, s, seeds))


def unbounded_rows(
    bench: Bench, task: str, size: str, seeds: Sequence[int], counts: Sequence[int]
) -> Iterator[Callable[[], Row]]:
    """Disjoint data, with gradients of any length."""
    for method in METHODS:
        for n in counts:
            setting = Setting(task, "disjoint", n, method, ("clip off",), size)
            words = (task, setting.data, method.removeprefix("codistill_"), str(n))
            yield lambda s=setting, w=words: Row(w, shown(bench, base_of(s), seeds), shown(bench, s, seeds))


HEADS = ("task", "data", "codistillation by")
TABLES = {
    "parity": ("Equal compute, as it begins", (*HEADS, "peers"), main_rows),
    "unbounded": ("Equal compute, without a bound on the gradient", (*HEADS, "peers"), unbounded_rows),
    "closing": (
        "Equal compute, with what raised the tuning score on disjoint data",
        (*HEADS, "peers", "changes"),
        closed_rows,
    ),
    "decay": ("Constant and decaying weight decay, two peers", (*HEADS, "weight decay"), decay_rows),
    "updates": ("Equal updates, which cost codistillation more, two peers", HEADS, update_rows),
}


def main() -> None:
    """Every missing cell, then the tables."""
    parser = command.parser(__doc__, seeds=range(5))
    parser.add_argument("--tasks", type=command.words, default=list(TASKS))
    parser.add_argument("--counts", type=command.numbers, default=list(COUNTS))
    parser.add_argument("--tables", type=command.words, default=list(TABLES))
    command.add_store(parser)
    asked = command.begin(parser)
    size = "full" if asked.full else "small"
    bench = Bench(Store.of(RESULTS, asked))
    text = ""
    for name in asked.tables:
        title, heads, rows_of = TABLES[name]
        rows, left_out = [], 0
        for task in asked.tasks:
            for row in rows_of(bench, task, size, asked.seeds, asked.counts):
                try:
                    rows.append(row())
                except NotThereError:
                    left_out += 1
        missing = f"\n{left_out} rows are not there yet.\n" if left_out else ""
        text += f"## {title}\n\n{comparison(heads, rows)}{missing}\n"
    whole = (asked.tasks, asked.tables, asked.counts) == (list(TASKS), list(TABLES), list(COUNTS))
    if whole and not asked.full:
        command.write(RESULTS / "table.md", text)
    else:
        print(text)


if __name__ == "__main__":
    main()
