"""Help in groups with examples that can be typed, completion that can be installed, and what a newcomer tries first."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gossipdistill.cli.help import COMMAND_GROUPS, EXAMPLES, OPTION_GROUPS, OTHERS
from tests.command_line import ROOT, called, parse

Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Say:
    """Runs `gossipdistill ARGS...` in this process and an empty folder: (exit code, output, errors)."""
    monkeypatch.chdir(tmp_path)

    def run(*args: str) -> tuple[int, str, str]:
        return called(monkeypatch, capsys, *args)

    return run


def commands(command: Any = ROOT, words: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """(words after the program's name, command) of all commands and groups."""
    yield " ".join(words), command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*words, name))


def test_newcomer_17_every_command_has_examples_and_every_example_a_command() -> None:
    words = dict(commands())
    assert [name for name in words if name not in EXAMPLES] == []
    # `config` comes with its own commands, where this application has them.
    assert [name for name in EXAMPLES if name not in words and name.split()[0] != "config"] == []


EXAMPLE_LINES = [(name, line) for name, lines in EXAMPLES.items() for line, _ in lines if name in dict(commands())]


@pytest.mark.parametrize(("name", "line"), EXAMPLE_LINES, ids=[line for _, line in EXAMPLE_LINES])
def test_newcomer_17_each_example_can_be_typed_as_it_stands(name: str, line: str, say: Say) -> None:
    assert line == "gossipdistill help run" or line.startswith(f"gossipdistill {name}".strip())
    parse(line)
    shown = say(*name.split(), "--help")[1]
    assert f"\n  {line}\n" in shown


def test_a_wrong_example_would_be_noticed() -> None:
    for line in ("gossipdistill run --stepz 5", "gossipdistill show --wait-s soon", "gossipdistill nothing"):
        with pytest.raises(Exception, match=r"."):
            parse(line)


@pytest.mark.parametrize("name", ["run", "worker", "compare", "simulate"])
def test_newcomer_17_options_stand_in_groups_and_none_is_lost(name: str, say: Say) -> None:
    code, out, _ = say(name, "--help")
    assert code == 0
    titles = re.findall(r"^(\S.*):$", out, re.MULTILINE)
    assert titles[0] == "Arguments"
    assert titles[-2:] == [OTHERS, "Examples"]
    assert len(titles) >= 6
    assert set(titles[1:-2]) <= set(OPTION_GROUPS)
    sections = dict(zip(titles, re.split(r"^\S.*:$", out, flags=re.MULTILINE)[1:], strict=True))
    assert "--peers" in sections["Who takes part"]
    assert "--steps" in sections["What is learned, and for how long"]
    assert "--out" in sections["Files and output"]
    assert sections[OTHERS].split() == ["-h,", "--help", "Show", "this", "message", "and", "exit."]
    for parameter in ROOT.commands[name].params:
        if parameter.param_type_name == "option":
            assert out.count(f"  {parameter.opts[0]} ") == 1, parameter.opts
    assert "range>" not in out
    assert max(map(len, out.splitlines())) <= 80


def test_newcomer_17_commands_stand_in_groups_each_with_a_whole_sentence(say: Say) -> None:
    out = say("--help")[1]
    for title, names in COMMAND_GROUPS.items():
        section = out.partition(f"\n{title}:\n")[2].partition("\n\n")[0]
        for name in names:
            assert name == "config" or re.search(rf"^  {name} +\S", section, re.MULTILINE), (title, name)
    assert "..." not in out.partition("Train:")[2].partition("Others:")[0]


@pytest.mark.parametrize("words", [(), ("-h",), ("--help",), ("help",)])
def test_newcomer_17_whatever_is_tried_first_shows_the_commands(words: tuple[str, ...], say: Say) -> None:
    code, out, err = say(*words)
    assert (code, err) == (0, "")
    assert out.startswith("Usage: gossipdistill [OPTIONS] COMMAND")
    assert "Several peers on this machine" in out


def test_newcomer_17_help_of_a_command_is_found_in_each_way(say: Say) -> None:
    for words in (["topology", "show"], ["run"], ["keys"]):
        wanted = say(*words, "--help")
        assert wanted[0] == 0
        assert wanted == say("help", *words) == say(*words, "-h")
    assert say("topology") == say("topology", "--help")
    code, out, err = say("help", "runn")
    assert (code, out) == (2, "")
    assert "Did you mean 'run'?" in err
    assert re.fullmatch(r"gossipdistill \S+\n", say("--version")[1])


# --- completion ----------------------------------------------------------------------------------------------------


def completed(say: Say, monkeypatch: pytest.MonkeyPatch, line: str) -> list[str]:
    """What bash is told may follow."""
    words = line.split(" ")
    with monkeypatch.context() as patch:
        patch.setenv("_GOSSIPDISTILL_COMPLETE", "complete_bash")
        patch.setenv("COMP_WORDS", line)
        patch.setenv("COMP_CWORD", str(len(words) - 1))
        return say()[1].split()


def test_newcomer_17_commands_and_options_are_completed(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    assert completed(say, monkeypatch, "gossipdistill si") == ["simulate"]
    assert set(completed(say, monkeypatch, "gossipdistill ")) == set(ROOT.commands)
    assert completed(say, monkeypatch, "gossipdistill topology ") == ["list", "show"]
    assert completed(say, monkeypatch, "gossipdistill run --to") == ["--topology"]


INSTALLED = {
    "bash": (".bash_completions/gossipdistill.sh", ".bashrc", "complete -o default"),
    "zsh": (".zfunc/_gossipdistill", ".zshrc", "compdef _gossipdistill_completion gossipdistill"),
    "fish": (".config/fish/completions/gossipdistill.fish", None, "complete --command gossipdistill"),
}


@pytest.mark.parametrize("shell", INSTALLED)
def test_newcomer_17_completion_is_shown_and_installed(
    shell: str, say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, start_file, words = INSTALLED[shell]
    code, script, _ = say("--show-completion", shell)
    assert code == 0
    assert words in script
    assert "_GOSSIPDISTILL_COMPLETE=complete_" in script
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for _ in range(2):
        code, out, _ = say("--install-completion", shell)
        assert code == 0
        assert str(tmp_path / "home" / file) in out
    assert (tmp_path / "home" / file).read_text().strip() == script.strip()
    if start_file is not None:
        kept = [line for line in (tmp_path / "home" / start_file).read_text().splitlines() if line]
        assert len(kept) == len(set(kept)) >= 1  # once, though asked twice


def test_newcomer_17_the_shell_is_found_by_itself_or_asked_for(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gossipdistill.cli.completing._detected", lambda: "zsh")
    assert "compdef" in say("--show-completion")[1]
    monkeypatch.setattr("gossipdistill.cli.completing._detected", lambda: "")
    code, out, err = say("--show-completion")
    assert (code, out) == (2, "")
    assert "which shell? Give one of bash, zsh, fish" in err
    code, _, err = say("--install-completion", "tcsh")
    assert code == 2
    assert "tcsh is not supported" in err


def test_a_home_that_cannot_be_written_is_the_users_error(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").write_text("a file")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    code, _, err = say("--install-completion", "bash")
    assert code == 3
    assert "cannot be written" in err
