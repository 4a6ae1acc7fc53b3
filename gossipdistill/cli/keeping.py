"""The commands for keys: new, invite, show, trust, revoke. Their arguments and output never contain a secret."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydantic import Field
from rich.table import Table

from gossipdistill.cli.options import Format, FormatOption, out_console, print_result
from gossipdistill.observe.record import Record

keys_app = typer.Typer(help="Who may take part: a pair of keys per peer.", no_args_is_help=True)

RosterOption = Annotated[
    str, typer.Option("--peers", metavar="FILE", envvar="GOSSIPDISTILL_PEERS", help="The roster; a .toml file.")
]


class KeyRecord(Record):
    """The facts known on this machine about one peer's keys."""

    name: str
    public_key: str | None
    state: str
    secret: str | None


class KeysRecord(Record):
    """The output of `keys show --format json`."""

    version: int = Field(1, validation_alias="schema")
    peers: str
    keys: list[KeyRecord]


@keys_app.command("new")
def keys_new(
    peers: Annotated[
        str | None,
        typer.Option(
            "--peers", metavar="FILE", envvar="GOSSIPDISTILL_PEERS", help="The roster; without: secrets only."
        ),
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only for this peer (may be repeated).")
    ] = None,
    keys: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where secrets go. Default: `keys`, beside the roster.")
    ] = None,
    renew: Annotated[bool, typer.Option("--renew", help="Make new pairs also where there are some.")] = False,
    wait_s: Annotated[
        float,
        typer.Option(
            min=0, metavar="S", help="Wait so many seconds for the keys that others write into the same roster."
        ),
    ] = 0.0,
) -> None:
    """Make a pair of keys per peer: public keys into the roster, one secret file per peer. What is there is kept."""
    from gossipdistill.keys.issuing import await_all, new, new_secrets, roster_file

    if peers is None:
        _print([(one.name, one.public, one.what) for one in new_secrets(name or (), keys, renew)])
        return
    file = roster_file(peers)
    issued = new(file, name or (), keys, renew)
    _print([(one.name, one.public, one.what) for one in issued])
    if wait_s > 0:
        await_all(file, wait_s, lambda line: out_console.print(line, markup=False, soft_wrap=True))
    out_console.print(f"Public keys are in {file}: copy it to every machine.", markup=False, soft_wrap=True)
    out_console.print("A secret goes to its own peer's machine only (scp), and nowhere else.", soft_wrap=True)


@keys_app.command("invite")
def keys_invite(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The join file that is made.")],
    run: Annotated[str, typer.Option(metavar="RUN", help="The run's name, as in its run file.")],
    key: Annotated[Path, typer.Option(metavar="FILE", help="Secret of the peer with whom newcomers enrol.")],
    address: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where that peer is reached.")],
    renew: Annotated[bool, typer.Option("--renew", help="Make a new secret also where there is one.")] = False,
) -> None:
    """Make a run's join file: who has it may enrol with a key of its own. All who take part need it."""
    from gossipdistill.keys.joining import make_join
    from gossipdistill.keys.secrets import read_secret
    from gossipdistill.roster import parse_address

    host = read_secret(key)
    make_join(file, run, host.name, parse_address(address), host.public, renew)
    _say(f"{file}: newcomers enrol in {run} with {host.name} at {address}")
    _say("It is a secret: copy it (scp) to those who take part, and nowhere else.")


@keys_app.command("show")
def keys_show(peers: RosterOption, output: FormatOption = Format.TABLE) -> None:
    """Each peer's public key, whether it is trusted, and whether its secret lies here."""
    from gossipdistill.bundled import find
    from gossipdistill.keys.issuing import show

    file = find("peers", peers)
    listed = show(file)
    keys = [
        KeyRecord(name=one.name, public_key=one.public or None, state=one.state, secret=one.secret or None)
        for one in listed
    ]
    summary = KeysRecord(version=1, peers=str(file), keys=keys)
    print_result(summary, output, lambda _: _table([(one.name, one.public, one.state, one.secret) for one in listed]))


@keys_app.command("trust")
def keys_trust(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    key: Annotated[str, typer.Argument(metavar="KEY", help="Its public key, as `keys show` shows it there.")],
    peers: RosterOption,
    replace: Annotated[bool, typer.Option("--replace", help="Also if it has another key now.")] = False,
) -> None:
    """From now on this is the public key of NAME; a revocation of NAME ends."""
    from gossipdistill.keys.issuing import roster_file, trust

    file = roster_file(peers)
    trust(file, name, key, replace)
    _say(f"{name} is trusted by {key}")
    _say(f"Written to {file}: copy it to every machine. Workers that run notice within a few seconds.")


@keys_app.command("revoke")
def keys_revoke(name: Annotated[str, typer.Argument(metavar="NAME")], peers: RosterOption) -> None:
    """From now on nobody is NAME: its connections are not listened to any more, until a key of it is trusted again."""
    from gossipdistill.keys.issuing import revoke, roster_file

    file = roster_file(peers)
    revoke(file, name)
    _say(f"{name} is revoked")
    _say(f"Written to {file}: copy it to every machine. Workers that run notice within a few seconds.")


def _say(text: str) -> None:
    out_console.print(text, markup=False, soft_wrap=True, highlight=False)


def _print(rows: list[tuple[str, ...]]) -> None:
    out_console.print(_table(rows))


def _table(rows: list[tuple[str, ...]]) -> Table:
    from rich.text import Text

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    for number in range(len(rows[0])):
        table.add_column(no_wrap=number < 3, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # a key may contain what looks like markup
    return table
