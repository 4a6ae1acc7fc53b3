"""Help for newcomers: options and commands in groups, and examples that can be copied.

`dress` gives these classes to all commands of an application. The groups of options and the examples are defined here,
in one place. Tests check that every command has examples, and that each can be typed as it is.
"""

from __future__ import annotations

import re
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

OPTION_GROUPS: dict[str, tuple[str, ...]] = {
    "What is learned, and for how long": (
        "task",
        "strategy",
        "steps",
        "seconds",
        "virtual_seconds",
        "strategies",
        "seeds",
        "seed",
        "settings",
    ),
    "Who takes part": (
        "peers",
        "topology",
        "name",
        "listen",
        "advertise",
        "shard",
        "start_when",
        "start_within",
        "device",
    ),
    "What goes wrong": ("faults", "max_restarts", "resume", "fresh", "storm", "shrink"),
    "Keys": ("key", "join", "secure", "insecure", "keys", "renew", "replace", "run", "address"),
    "Files and output": ("data_dir", "out", "output", "plot", "wait_s", "visited_every"),
}
"""The titles with the names of their parameters. Parameters in no group come last, under `OTHERS`."""
OTHERS = "Other options"

COMMAND_GROUPS: dict[str, tuple[str, ...]] = {
    "Train": ("run", "worker", "compare", "simulate"),
    "Look at what happened": ("show", "story"),
    "Prepare": ("new", "doctor", "keys"),
    "What there is to choose from": ("task", "strategy", "topology", "faults", "config"),
}

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "": (
        ("gossipdistill run", "four peers on handwritten digits, 15 seconds, and a table"),
        ("gossipdistill new mine", "the files of a run of your own, ready to edit"),
        ("gossipdistill help run", "all about one command"),
    ),
    "run": (
        ("gossipdistill run", "four peers on handwritten digits, 15 seconds, and a table"),
        ("gossipdistill run --peers 8 --topology ring --steps 500 --set train.lr=0.1", "other values of a few keys"),
        ("gossipdistill run --task moons:task", "a task of your own: the function task in moons.py"),
        ("gossipdistill run first-light.toml --faults bad-day", "and what goes wrong by a plan"),
    ),
    "worker": (
        ("gossipdistill worker --name ada --listen 127.0.0.1:7400 --shard 1/2", "the first peer of a run"),
        ("gossipdistill worker --name bo --peers 127.0.0.1:7400 --shard 2/2", "another one, which calls it"),
        ("gossipdistill worker run.toml --peers lab.toml --name bo --key bo.secret", "one of a roster, on its machine"),
    ),
    "compare": (
        ("gossipdistill compare --strategies isolated,gossip_averaging --seeds 0,1,2", "two strategies, three times"),
        ("gossipdistill compare first-light.toml --faults bad-day", "what gossips, also on a bad day"),
    ),
    "simulate": (
        ("gossipdistill simulate --peers 1000 --virtual-seconds 60", "a thousand peers on one core"),
        ("gossipdistill simulate first-light.toml --virtual-seconds 60 --plot run.png", "a run file, and a drawing"),
    ),
    "show": (
        ("gossipdistill show", "the newest run"),
        ("gossipdistill show first-light-2 --format json", "a run by its name, for a program"),
    ),
    "story": (
        ("gossipdistill story first-light bo", "what happened to bo"),
        ("gossipdistill story runs/first-light ada/predictions/7", "what became of a parcel"),
    ),
    "new": (("gossipdistill new mine", "a folder with a run file, a roster, a topology, a fault plan and a task"),),
    "doctor": (
        ("gossipdistill doctor --peers lab.toml --name bo", "on bo's machine, and likewise on the others"),
        ("gossipdistill doctor --peers lab.toml --seconds 0", "this machine only"),
    ),
    "topology": (
        ("gossipdistill topology list", "the ready-made ones"),
        ("gossipdistill topology show ring --peers 8", "one of them, for eight peers"),
    ),
    "topology list": (("gossipdistill topology list", "names, and what each is"),),
    "topology show": (
        ("gossipdistill topology show ring --peers 8", "a ready-made one, for eight peers"),
        ("gossipdistill topology show two-desks.toml --peers unlike-4 --plot desks.png", "your own, and a drawing"),
    ),
    "faults": (
        ("gossipdistill faults list", "the ready-made plans"),
        ("gossipdistill faults show bad-day", "one of them, in words"),
    ),
    "faults list": (("gossipdistill faults list", "names, and what each is"),),
    "faults show": (("gossipdistill faults show bad-day", "what goes wrong when, and what must hold"),),
    "strategy": (
        ("gossipdistill strategy list", "all of them"),
        ("gossipdistill strategy show codistill_predictions", "what one sends and needs, and its keys"),
    ),
    "strategy list": (("gossipdistill strategy list", "names, and what each is"),),
    "strategy show": (("gossipdistill strategy show gossip_averaging", "what it sends and needs, and its keys"),),
    "task": (
        ("gossipdistill task list", "the ready-made ones"),
        ("gossipdistill task show digits", "one of them, with its options"),
    ),
    "task list": (("gossipdistill task list", "names, and what each is"),),
    "task show": (("gossipdistill task show digits", "its data, licence and options"),),
    "config": (
        ("gossipdistill config list", "every key of a run file"),
        ("gossipdistill config show train.lr", "one key: type, default, unit and meaning"),
    ),
    "config list": (("gossipdistill config list", "every key with its default"),),
    "config show": (("gossipdistill config show train.lr", "type, default, unit and meaning"),),
    "keys": (
        ("gossipdistill keys new --peers lab.toml", "a pair per peer: public keys into the roster, secrets beside it"),
        ("gossipdistill keys show --peers lab.toml", "who is trusted"),
    ),
    "keys new": (
        ("gossipdistill keys new --peers lab.toml", "for all peers of a roster"),
        ("gossipdistill keys new --name bo", "one secret, without a roster"),
    ),
    "keys invite": (
        (
            "gossipdistill keys invite lab.join --run first-light --key keys/ada.secret --address 192.0.2.17:7400",
            "the join file of a run whose newcomers enrol with ada",
        ),
    ),
    "keys show": (("gossipdistill keys show --peers lab.toml", "public keys, and whether they are trusted"),),
    "keys trust": (
        (
            "gossipdistill keys trust bo '=4zk8k#wQDZ&7%*h?R7QnJ1^q)-Y3vTfUs(NxK2p' --peers lab.toml",
            "the key that `keys show` shows on bo's machine",
        ),
    ),
    "keys revoke": (("gossipdistill keys revoke bo --peers lab.toml", "from now on nobody is bo"),),
    "help": (("gossipdistill help topology show", "the same as: gossipdistill topology show --help"),),
}
"""The words after `gossipdistill`, with pairs (line to type, what it does)."""


class Command(TyperCommand):
    """A command whose options are listed in groups, with examples below them."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, then groups of options."""
        _write_groups(self, ctx, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Examples."""
        _write_examples(ctx, formatter)


class Group(TyperGroup):
    """Commands in groups; without arguments it shows its help."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse as usual, but treat `gossipdistill` (or `gossipdistill topology`) without arguments as a request for
        help, not as an error."""
        if not args and self.no_args_is_help and not ctx.resilient_parsing:
            print(ctx.get_help())
            ctx.exit(0)
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write commands first, since they are what users look for."""
        self.format_commands(ctx, formatter)
        _write_groups(self, ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write each command with its whole first sentence."""
        names = [name for name in self.list_commands(ctx) if not self.commands[name].hidden]
        grouped = COMMAND_GROUPS if ctx.parent is None else {}
        placed = {name for group in grouped.values() for name in group}
        sections = {title: [name for name in group if name in names] for title, group in grouped.items()}
        sections["Commands" if not grouped else "Others"] = [name for name in names if name not in placed]
        width = max(map(len, names), default=0)
        for title, members in sections.items():
            if members:
                with formatter.section(title):
                    formatter.write_dl(
                        [(f"{name:{width}}", first_sentence(self.commands[name].help)) for name in members]
                    )

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Examples."""
        _write_examples(ctx, formatter)


def dress(app: typer.Typer) -> None:
    """Make all commands and groups of an application show their help this way; call it once all are registered."""
    app.info.cls = Group
    app.info.context_settings = {"help_option_names": ["-h", "--help"]}
    for command in app.registered_commands:
        command.cls = Command
    for group in app.registered_groups:
        group.cls = Group
        if group.typer_instance is not None:
            dress(group.typer_instance)


def words_of(ctx: Any) -> str:
    """The words after the program's name that lead to this command, such as `topology show`."""
    words: list[str] = []
    while ctx is not None and ctx.parent is not None:
        words.insert(0, str(ctx.info_name))
        ctx = ctx.parent
    return " ".join(words)


def first_sentence(text: str | None) -> str:
    """The first sentence of a help text, on one line."""
    return re.split(r"(?<=[.?!]) ", " ".join((text or "").split()), maxsplit=1)[0]


def _write_groups(command: Any, ctx: Any, formatter: Any) -> None:
    titles = {name: title for title, names in OPTION_GROUPS.items() for name in names}
    rows: dict[str, list[tuple[str, str]]] = {"Arguments": [], **{title: [] for title in OPTION_GROUPS}, OTHERS: []}
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is not None:
            is_argument = parameter.param_type_name == "argument"
            rows["Arguments" if is_argument else titles.get(parameter.name, OTHERS)].append(record)
    for title, records in rows.items():
        if records:
            with formatter.section(title):
                formatter.write_dl(records)


def _write_examples(ctx: Any, formatter: Any) -> None:
    examples = EXAMPLES.get(words_of(ctx), ())
    if examples:
        with formatter.section("Examples"):
            for line, what in examples:  # a line to be copied is not wrapped
                formatter.write(f"{'':{formatter.current_indent}}{line}\n{'':{formatter.current_indent + 4}}{what}\n")
