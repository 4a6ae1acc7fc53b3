"""How large things are, which words they are called by, and who reaches into them.

`FIGURES` has a line for all that is over a limit or ought not to be there, as it is today. A figure may only fall, and
its line with it: the test fails where one has risen, where one is lower than its line, and where something has none.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "gossipdistill"
OUTSIDE = ("tests", "experiments", "benchmarks")

CLASS_LINES_MAX = 250
PUBLIC_METHODS_MAX = 12
MODULE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
SENTENCE_WORDS_MIN = 3

BANNED = {
    "afflicted",
    "allowance",
    "astray",
    "birth",
    "brief",
    "bury",
    "clockwork",
    "conduct",
    "consignment",
    "consignments",
    "deafen",
    "donation",
    "doorkeeper",
    "enquiry",
    "errand",
    "fate",
    "ghosts",
    "handoff",
    "heir",
    "heirs",
    "hoard",
    "hoards",
    "inlet",
    "introductions",
    "judging",
    "knock",
    "liar",
    "nursery",
    "offence",
    "outflow",
    "parting",
    "patience",
    "purse",
    "refutation",
    "regret",
    "rumour",
    "rumours",
    "shelf",
    "speech",
    "spoil",
    "toll",
    "tolls",
    "unsettled",
    "vouched",
    "weather",
    "wishes",
}
"""Parts of names for which the field has a word of its own."""
SELDOM = ("whoever", "whom")
"""In docstrings, comments and messages: a sentence with them is read twice."""
FRAGMENTS = {
    "Also",
    "And",
    "As",
    "Because",
    "Below",
    "But",
    "By",
    "Else",
    "How",
    "Likewise",
    "Not",
    "Of",
    "Or",
    "Since",
    "So",
    "Who",
    "Whom",
}
"""What begins so is no sentence about a field."""
GIVEN = {"_replace", "_asdict", "_fields", "_make", "_exit"}
"""Names of the standard library that only look private."""
NAMED = re.compile(r"(?<!self\.)(?<!cls\.)(?<!def )\b_[A-Za-z]\w*")
"""A private name that is somebody else's, as far as a look at the text tells."""

FIGURES = {
    "privates read in benchmarks": 1,
    "privates read in tests": 36,
    "times 'whom'": 15,
}


@cache
def nodes_of(source: str) -> list[ast.AST]:
    """All nodes of a module's syntax tree, the module itself first."""
    return list(ast.walk(ast.parse(source)))


# --- what is measured -----------------------------------------------------------------------------------------------


def sizes(name: str, source: str) -> Iterator[tuple[str, int]]:
    """What is too large in this module."""
    lines = len(source.splitlines())
    if lines > MODULE_LINES_MAX:
        yield f"lines of module {name}", lines
    for inner, node in definitions(nodes_of(source)[0], name):
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        if isinstance(node, ast.ClassDef):
            public = {one.name for one in node.body if isinstance(one, FUNCTIONS) and not one.name.startswith("_")}
            if lines > CLASS_LINES_MAX:
                yield f"lines of class {inner}", lines
            if len(public) > PUBLIC_METHODS_MAX:
                yield f"public methods of class {inner}", len(public)
        elif lines > FUNCTION_LINES_MAX:
            yield f"lines of function {inner}", lines


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def definitions(
    tree: ast.AST, name: str
) -> Iterator[tuple[str, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]]:
    """(dotted name, definition) of classes and functions, those within others too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.ClassDef, *FUNCTIONS)):
            yield f"{name}.{node.name}", node
            yield from definitions(node, f"{name}.{node.name}")
        elif isinstance(node, ast.stmt):
            yield from definitions(node, name)


def banned_words(name: str, source: str) -> Iterator[str]:
    """Banned words in the names that this module defines, and in its own."""
    for identifier in [name.rpartition(".")[2], *names_bound(source)]:
        yield from BANNED.intersection(words_of(identifier))


def names_bound(source: str) -> Iterator[str]:
    """Names of classes, functions, arguments, variables and attributes, each time that they are bound."""
    for node in nodes_of(source):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.arg(arg=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name


def words_of(identifier: str) -> list[str]:
    """`_SendQueue` and `send_queue` are both send and queue."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", identifier)]


def field_texts(source: str) -> Iterator[str]:
    """Docstrings of fields and constants."""
    for node in nodes_of(source):
        if isinstance(node, (ast.ClassDef, ast.Module)):
            for field, text in zip(node.body, node.body[1:], strict=False):
                match field, text:
                    case ((ast.Assign() | ast.AnnAssign()), ast.Expr(value=ast.Constant(value=str(said)))):
                        yield said.strip()


def is_sentence(text: str) -> bool:
    """Whether it begins and ends as one, as far as that can be told without a grammar."""
    words = text.split()
    begins = re.match(r"[A-Z0-9`\"]", text) is not None and words[0].strip("`,") not in FRAGMENTS
    return begins and text[-1] in ".?" and len(words) >= SENTENCE_WORDS_MIN


def privates_defined(source: str) -> set[str]:
    """Private names that this module defines."""
    return {name for name in names_bound(source) if re.match(r"_[^_]", name)}


def privates_read(source: str, private: set[str]) -> Iterator[str]:
    """Those of `private` that are read or set from elsewhere: `peer._table`, imports, texts with their names."""
    for node in nodes_of(source):
        if not isinstance(node, ast.Attribute | ast.ImportFrom | ast.Constant):
            continue
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls")):
                pass
            case ast.Attribute(attr=name) if name in private:
                yield name
            case ast.ImportFrom(module=str(module), names=names) if module.startswith("gossipdistill"):
                yield from (one.name for one in names if one.name in private)
            case ast.Constant(value=str(text)) if re.fullmatch(r"(gossipdistill\.[\w.]+\.)?_\w+", text):
                yield from {text.rpartition(".")[2]} & private


def modules(folder: Path) -> Iterator[tuple[str, str]]:
    """(name, source) of every module, the package's own name left out."""
    for path in sorted(folder.rglob("*.py")):
        yield (
            ".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__"),
            path.read_text("utf-8"),
        )


def measured() -> dict[str, int]:
    """Every figure that is not nought."""
    figures: Counter[str] = Counter()
    private: set[str] = set()
    for name, source in modules(PACKAGE):
        figures.update(dict(sizes(name, source)))
        figures.update(f"names with {word}" for word in banned_words(name, source))
        figures.update({f"times {word!r}": len(re.findall(rf"\b{word}\b", source, re.IGNORECASE)) for word in SELDOM})
        figures["exemptions from the formatter"] += len(re.findall(r"# fmt: (?:skip|off)", source))
        figures["fields without a sentence"] += sum(not is_sentence(text) for text in field_texts(source))
        private |= privates_defined(source) - GIVEN
    for folder in OUTSIDE:
        for _, source in modules(ROOT / folder):
            if private.intersection(NAMED.findall(source)):
                own = privates_defined(source)
                figures[f"privates read in {folder}"] += sum(1 for _ in privates_read(source, private - own))
    return {name: figure for name, figure in sorted(figures.items()) if figure}


# --- the tests ------------------------------------------------------------------------------------------------------


def complaints(lines: Mapping[str, int], figures: Mapping[str, int]) -> list[str]:
    """What is not as the lines say, and what is to be done."""
    out = []
    for name in sorted(lines.keys() | figures.keys()):
        line, figure = lines.get(name, 0), figures.get(name, 0)
        if figure > line:
            out.append(f"{name}: {figure}, " + (f"and was {line}" if line else "which is over the limit"))
        elif figure < line:
            out.append(f"{name}: {figure} is better than {line}: " + ("lower its line" if figure else "drop its line"))
    return out


def test_nothing_has_grown_and_what_has_shrunk_stays_so() -> None:
    found = complaints(FIGURES, measured())
    how = "its lines as they would be now: python -m tests.test_tidy"
    assert not found, "\n".join(["FIGURES in tests/test_tidy.py:", *found, how])


def test_a_figure_that_rises_falls_or_is_new_is_told() -> None:
    assert complaints({"a": 3, "b": 3, "c": 3}, {"a": 3, "b": 4, "c": 2, "d": 9}) == [
        "b: 4, and was 3",
        "c: 2 is better than 3: lower its line",
        "d: 9, which is over the limit",
    ]
    assert complaints({"a": 3}, {}) == ["a: 0 is better than 3: drop its line"]


def test_what_is_too_large_is_found() -> None:
    method = "    def method(self):\n" + 70 * "        pass\n"
    methods = "".join(f"    def m{number}(self): ...\n" for number in range(13))
    source = f"class Large:\n{4 * method}{methods}"
    assert dict(sizes("room", source)) == {
        "lines of class room.Large": 298,
        "public methods of class room.Large": 14,
        "lines of function room.Large.method": 71,
    }
    assert dict(sizes("room", 501 * "\n")) == {"lines of module room": 501}
    assert dict(sizes("room", 500 * "\n")) == {}


def test_words_are_found_in_all_kinds_of_names() -> None:
    source = "class TollGate: ...\ndef bury(rumour, *, here): shelf = self.hoard_s = 1\nprint(purse)\nimport regret"
    assert sorted(banned_words("drivers.tolls", source)) == ["bury", "hoard", "rumour", "shelf", "toll", "tolls"]


@pytest.mark.parametrize(
    "text", ["Of sockets.", "seconds of it.", "Never said", "How often none did.", "By name.", "Long ago."]
)
def test_what_is_no_sentence(text: str) -> None:
    assert list(field_texts(f'class A:\n    b: int = 1\n    """{text}"""\n')) == [text]
    assert not is_sentence(text)


@pytest.mark.parametrize("text", ["The number of attempts that were not acknowledged.", "`None` means that all are."])
def test_what_is_one(text: str) -> None:
    assert is_sentence(text)


def test_reads_of_privates_are_found() -> None:
    source = (
        "from gossipdistill.worker import _e, Worker\nself._a\ncls._a\nworker._a\nworker._b._a\nworker.c\n"
        "setattr(worker, '_a', 1)\npatch('gossipdistill.worker._e')\ntuple._replace()\n'_a and more'\n"
    )
    assert sorted(privates_read(source, {"_a", "_e"})) == ["_a", "_a", "_a", "_e", "_e"]
    assert privates_defined("class _A:\n    def _b(self): self._c = __d__ = 1") == {"_A", "_b", "_c"}


if __name__ == "__main__":  # the lines of `FIGURES` as they would be now
    print("".join(f'    "{name}": {figure},\n' for name, figure in measured().items()), end="")
