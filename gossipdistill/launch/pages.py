"""Pages that are made from the code: `python -m gossipdistill.launch.pages` in a clone writes them anew.

`docs/keys.md` is the whole page of keys; in README.md it is the table of what strategies need. Tests see to it that
both are as the code has them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from gossipdistill.launch.key_index import Key, keys
from gossipdistill.observe.catalogue import needs_words, waits_words
from gossipdistill.strategies import STRATEGIES
from gossipdistill.tasks import TASKS

KEYS_PAGE = Path("docs/keys.md")
README = Path("README.md")
HEAD = """\
# Keys of a run

Every key that a run file, `--set KEY=VALUE`, a roster's `set = {...}` and `GOSSIPDISTILL_SET` may hold. The command
line is stronger than the environment, that than a roster's entry, that than the run file. `config.json` of a run says
for each key its value and where it came from. In a terminal: `gossipdistill config list`, `gossipdistill config show
KEY`.

This page is made from the code (`python -m gossipdistill.launch.pages`).
"""
SECTIONS = {
    "": ("The run", "At the top of a run file, outside of any section."),
    "task": ("`[task]`", "What is learned, and how its examples are dealt. The task's own options stand beside these."),
    "train": ("`[train]`", "The optimizer of each peer, and its pace."),
    "strategy": ("`[strategy]`", "What is exchanged. The strategy's own options stand beside the name."),
    "exchange": ("`[exchange]`", "How often, how large and how long."),
    "sim": ("`[sim]`", "Network and machines of `gossipdistill simulate`; real runs do not use them."),
}
TRAVELS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("isolated",), "nothing: the baseline"),
    (("self_distillation",), "nothing: a control, which learns from its own past predictions"),
    (("codistill_predictions",), "predictions on common inputs"),
    (("codistill_checkpoints",), "stale weights, as teachers"),
    (("codistill_groups",), "weights: averaged inside a group, teachers across groups"),
    (
        ("gossip_averaging",),
        "stale weights, newest wins; `robust = clip`, `trimmed_mean` or `median` against liars",
    ),
    (("sgp", "osgp", "async_gradient_push"), "push-sum mass, exactly once"),
    (("adpsgd",), "differences of pairs, exactly once"),
    (("leader_sgd",), "stale weights; each follows the model that the others find best on their own examples"),
    (("concurrent_adversarial",), "nothing, or stale weights and adversarial examples with `helpers`"),
    (("dpsgd", "dmsgd", "decentlam"), "weights in rounds"),
    (("all_reduce",), "gradients"),
)
"""Rows of README's table, and the one column that nobody has declared."""
TABLE_HEAD = "| strategy | what travels | needs | waits |\n| --- | --- | --- | --- |\n"
_TABLE = re.compile(re.escape(TABLE_HEAD) + r"(?:\|[^\n]*\n)+")


def keys_page() -> str:
    """The whole of `docs/keys.md`."""
    everything = keys()
    parts = [HEAD]
    for section, (title, told) in SECTIONS.items():
        own = [key for key in everything if not key.of and key.name.rpartition(".")[0] == section]
        parts += [f"## {title}\n", f"{told}\n", _table(own)]
    for name in STRATEGIES:
        own = [key for key in everything if name in key.of and key.name.startswith("strategy.")]
        if own:
            parts += [f'## `[strategy]` with `name = "{name}"`\n', _table(own)]
    for name in TASKS:
        own = [key for key in everything if name in key.of and key.name.startswith("task.")]
        parts += [f'## `[task]` with `name = "{name}"`\n', _table(own)]
    return "\n".join(parts)


def strategies_table() -> str:
    """README's table of strategies: what travels as written here, all else as the strategies declare it."""
    lines = []
    for names, travels in TRAVELS:
        needs = {", ".join(needs_words(STRATEGIES[name])) or "nothing" for name in names}
        waits = {waits_words(STRATEGIES[name]) for name in names}
        if len(needs) > 1 or len(waits) > 1:
            raise ValueError(f"{names} declare different needs, so they cannot share a row")
        shown = ", ".join(f"`{name}`" for name in names)
        lines.append(f"| {shown} | {travels} | {needs.pop()} | {waits.pop()} |\n")
    return TABLE_HEAD + "".join(lines)


def with_table(readme: str) -> str:
    """The text of README.md with that table in the place of the one it has."""
    if len(_TABLE.findall(readme)) != 1:
        raise ValueError(f"README.md has no single table that begins with {TABLE_HEAD.splitlines()[0]!r}")
    return _TABLE.sub(lambda _: strategies_table(), readme)


def write(root: Path) -> list[Path]:
    """Write both anew in this clone; returns what has changed."""
    page, readme = root / KEYS_PAGE, root / README
    wanted = {page: keys_page(), readme: with_table(readme.read_text(encoding="utf-8"))}
    changed = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in changed:
        path.write_text(wanted[path], encoding="utf-8")
    return changed


def _table(own: Sequence[Key]) -> str:
    lines = ["| key | type | default | unit | meaning |", "| --- | --- | --- | --- | --- |"]
    for key in own:
        kind = f"{key.type}: {key.accepted}" if key.accepted else key.type
        cells = [f"`{key.name}`", kind, key.default, key.unit or "-", key.meaning]
        lines.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for changed in write(Path.cwd()):
        sys.stdout.write(f"{changed}\n")
