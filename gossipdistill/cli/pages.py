"""Pages that are generated from the code: `python -m gossipdistill.cli.pages` in a clone writes them.

`docs/keys.md` and `docs/reference.md` are generated as a whole; of `docs/strategies.md`, only the table of needs. Tests
compare all three with the code.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from gossipdistill.config.key_index import Key, keys
from gossipdistill.errors import EXIT_CODES
from gossipdistill.observe.catalogue import needs_words, waits_words
from gossipdistill.strategies import STRATEGIES
from gossipdistill.tasks import TASKS

KEYS_PAGE = Path("docs/keys.md")
REFERENCE_PAGE = Path("docs/reference.md")
STRATEGIES_PAGE = Path("docs/strategies.md")
HEAD = """\
# Keys of a run

Every key that a run file, `--set KEY=VALUE`, a roster's `set = {...}` and `GOSSIPDISTILL_SET` may hold.
[Exit codes and environment](reference.md#environment-variables) says which of them wins. In a terminal: `gossipdistill
config list` and `gossipdistill config show KEY`.

This page is made from the code (`python -m gossipdistill.cli.pages`).
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
        "stale weights, the newest version wins; `robust = clip`, `trimmed_mean` or `median` against false neighbours",
    ),
    (("sgp", "osgp", "async_gradient_push"), "push-sum mass, exactly once"),
    (("adpsgd",), "differences of pairs, exactly once"),
    (("leader_sgd",), "stale weights; each peer follows the model that the others find best on their own examples"),
    (("concurrent_adversarial",), "nothing, or stale weights and adversarial examples with `helpers`"),
    (("dpsgd", "dmsgd", "decentlam"), "weights in rounds"),
    (("all_reduce",), "gradients"),
)
"""The rows of the table of strategies: names, and what travels, the only column that strategies do not declare."""
ENVIRONMENT = {
    "GOSSIPDISTILL_DATA": "The folder with data sets, as `--data-dir`.",
    "GOSSIPDISTILL_CACHE": "The folder that downloads go to.",
    "GOSSIPDISTILL_OUT": "The parent of run folders, as `--out`; by default `runs`.",
    "GOSSIPDISTILL_NAME": "Which peer this is, as `--name` of `worker` and `doctor`.",
    "GOSSIPDISTILL_PEERS": "The peers that take part, as `--peers`.",
    "GOSSIPDISTILL_LISTEN": "Where this peer listens, as `--listen` of `worker` and `doctor`.",
    "GOSSIPDISTILL_ADVERTISE": "Where others reach this peer, as `--advertise` of `worker` and `doctor`.",
    "GOSSIPDISTILL_KEY_FILE": "The path of this peer's secret, as `--key`; never the secret itself.",
    "GOSSIPDISTILL_JOIN_FILE": "The path of the run's join secret, as `--join` of `worker`; never the secret itself.",
    "GOSSIPDISTILL_SET": "Keys of the run, as `--set`: `key=value key=value`.",
    "NO_COLOR": "Plain output.",
}
"""The environment variables, with the meaning of each."""
REFERENCE = """\
# Exit codes and environment

This page is made from the code (`python -m gossipdistill.cli.pages`).

## Exit codes

{exit_codes}
## Environment variables

{environment}
A key of a run may be set in several places. The strongest is the command line; then come the environment, the peer's
entry in the roster, the run file and the default. `config.json` of a peer says for each key where its value came from.
"""
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


def reference_page() -> str:
    """The whole of `docs/reference.md`."""
    codes = [(str(code), meaning) for code, meaning in sorted(EXIT_CODES.items())]
    variables = [(f"`{name}`", meaning) for name, meaning in ENVIRONMENT.items()]
    return REFERENCE.format(
        exit_codes=_rows(("exit code", "meaning"), codes), environment=_rows(("variable", "meaning"), variables)
    )


def strategies_table() -> str:
    """The table of strategies. The column "what travels" is written here; the others come from the strategies."""
    lines = []
    for names, travels in TRAVELS:
        needs = {", ".join(needs_words(STRATEGIES[name])) or "nothing" for name in names}
        waits = {waits_words(STRATEGIES[name]) for name in names}
        if len(needs) > 1 or len(waits) > 1:
            raise ValueError(f"{names} declare different needs, so they cannot share a row")
        shown = ", ".join(f"`{name}`" for name in names)
        lines.append(f"| {shown} | {travels} | {needs.pop()} | {waits.pop()} |\n")
    return TABLE_HEAD + "".join(lines)


def with_table(page: str) -> str:
    """The text of `docs/strategies.md` with its table replaced."""
    if len(_TABLE.findall(page)) != 1:
        raise ValueError(f"{STRATEGIES_PAGE} has no single table that begins with {TABLE_HEAD.splitlines()[0]!r}")
    return _TABLE.sub(lambda _: strategies_table(), page)


def pages(root: Path) -> dict[Path, str]:
    """The generated pages by path in the clone `root`, with the text that they should have."""
    strategies = (root / STRATEGIES_PAGE).read_text(encoding="utf-8")
    return {KEYS_PAGE: keys_page(), REFERENCE_PAGE: reference_page(), STRATEGIES_PAGE: with_table(strategies)}


def write(root: Path) -> list[Path]:
    """Write the pages in this clone; returns those that have changed."""
    wanted = {root / page: text for page, text in pages(root).items()}
    changed = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in changed:
        path.write_text(wanted[path], encoding="utf-8")
    return changed


def _table(own: Sequence[Key]) -> str:
    rows = []
    for key in own:
        kind = f"{key.type}: {key.accepted}" if key.accepted else key.type
        rows.append((f"`{key.name}`", kind, key.default, key.unit or "-", key.meaning))
    return _rows(("key", "type", "default", "unit", "meaning"), rows)


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
    lines += [f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for changed in write(Path.cwd()):
        sys.stdout.write(f"{changed}\n")
