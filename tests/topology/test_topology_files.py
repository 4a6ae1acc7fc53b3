"""Names and files, and what is said about a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from gossipdistill.errors import ConfigError
from gossipdistill.topology import Schedule, list_topologies, load_topology

HEAD = "def out_neighbours(peer, exchange, peers):\n"
PEERS = ("ada", "bo", "cy", "dee")


def written(folder: Path, text: str, name: str = "mine.toml") -> Schedule:
    (folder / name).write_text(text, encoding="utf-8")
    return load_topology(name, PEERS, base=folder)


def test_a_bare_name_is_ready_made() -> None:
    assert load_topology("two-desks", PEERS).edges(0) == (
        ("ada", "bo"),
        ("bo", "ada"),
        ("bo", "cy"),
        ("cy", "bo"),
        ("cy", "dee"),
        ("dee", "cy"),
    )


def test_an_unknown_name_gets_the_nearest_ones(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="'exponental' is not a ready-made name in topologies: did you mean exponential"
    ):
        load_topology("exponental", PEERS)
    (tmp_path / "mine.toml").write_text('kind = "ring"')
    with pytest.raises(ConfigError, match=r"For the file that lies here write mine\.toml"):
        load_topology("mine", PEERS, base=tmp_path)


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ring\.toml: no such file; the ready-made one is called 'ring'"):
        load_topology("ring.toml", PEERS, base=tmp_path)
    (tmp_path / "some").mkdir()
    with pytest.raises(ConfigError, match="is a folder"):
        load_topology("./some", PEERS, base=tmp_path)
    (tmp_path / "graph.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"accepted: a \.toml or a \.py file"):
        load_topology("graph.json", PEERS, base=tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("edges = []", "kind: is missing; accepted: ring, directed_ring"),
        ('kind = "rings"', "kind = 'rings': unknown kind; did you mean ring"),
        ("kind = 3", "kind = 3: unknown kind"),
        ('kind = "star"\nhubb = "ada"', "hubb: unknown key; did you mean hub"),
        ('kind = "ring"\nhub = "ada"', "hub: unknown key; known: none"),
        ('kind = "star"\nhub = "adda"', "hub = 'adda': is not in the roster; did you mean ada"),
        ('kind = "random_regular"\ndegree = "3"', "degree = '3': it should be a valid integer"),
        ('kind = "random_regular"\ndegree = 5', "degree = 5: 4 peers have at most 3"),
        ('kind = "edges"', "edges: is missing"),
        ('kind = "edges"\nedges = [["ada"]]', r"edges\[0\] = \['ada'\]: List should have at least 2 items"),
        ('kind = "edges"\nedges = [["ada", "boo"]]', "peer 'boo' is not in the roster; did you mean bo"),
        ('kind = "phases"\nphases = []', "at least 1 item"),
        ("kind = ", "is not valid TOML: Invalid value"),
    ],
)
def test_messages_about_toml(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=r"mine\.toml: .*" + message) as caught:
        written(tmp_path, text)
    assert caught.value.exit_code == 3


def test_not_text(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        load_topology("mine.toml", PEERS, base=tmp_path)


def test_python_with_and_without_period(tmp_path: Path) -> None:
    rule = HEAD + "    return {peers[(peers.index(peer) + 1 + exchange) % 4]} - {peer}\n"
    open_ended = written(tmp_path, rule, "turn.py")
    assert (open_ended.period, open_ended.periodic) == (64, False)
    assert [open_ended.out_neighbours("dee", k) for k in range(4)] == [("ada",), ("bo",), ("cy",), ()]
    assert open_ended.in_neighbours("ada", 1) == ("cy",)
    repeating = written(tmp_path, "period = 2\n" + rule, "turn.py")
    assert (repeating.period, repeating.periodic) == (2, True)
    assert repeating.out_neighbours("dee", 2) == ("ada",)
    assert not list(tmp_path.glob("__pycache__"))


def test_python_may_use_networkx() -> None:
    schedule = load_topology("small_world", [f"p{k}" for k in range(10)])
    assert schedule.period == 40
    assert schedule.edges(0) == schedule.edges(9) != schedule.edges(10)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "defines no function out_neighbours"),
        ("def f(:", "line 1: "),
        ("import no_such_module_at_all", r"ModuleNotFoundError: .*no_such_module_at_all.* \(line 1\)"),
        (HEAD + "    return [1 / 0]", r"out_neighbours\('ada', 0, peers\): ZeroDivisionError: .* \(line 2\)"),
        (HEAD + "    return ['boo']", "names 'boo', which is not in the roster; did you mean bo"),
        (HEAD + "    return [7]", "names 7, which is not in the roster"),
        (HEAD + "    return [peer]", "names the peer itself"),
        (HEAD + "    return ['bo', 'bo'] if peer == 'ada' else []", "names a peer twice"),
        (HEAD + "    return 'bo'", "answers the text 'bo'"),
        (HEAD + "    return None", "TypeError"),
        ("period = 0\n" + HEAD + "    return []", "period = 0: must be a whole number"),
        ("period = 2.5\n" + HEAD + "    return []", r"period = 2\.5: must be a whole number"),
        ("def out_neighbours(peer):\n    return []", "TypeError"),
        (
            "asked = []\n" + HEAD + "    asked.append(1)\n    return ['cy'] * (peer == 'bo' and len(asked) % 2)",
            "answers differently when asked twice",
        ),
    ],
)
def test_messages_about_python(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=r"mine\.py: .*" + message) as caught:
        written(tmp_path, text, "mine.py")
    assert (
        caught.value.__suppress_context__ or caught.value.__context__ is None
    )  # no traceback of the user's file on the screen


def test_python_that_fails_later_is_a_config_error_then(tmp_path: Path) -> None:
    schedule = written(tmp_path, HEAD + "    assert exchange < 300, 'too far'\n    return []", "mine.py")
    with pytest.raises(ConfigError, match=r"out_neighbours\('bo', 300, peers\): AssertionError: too far \(line 2\)"):
        schedule.out_neighbours("bo", 300)


def test_every_ready_made_topology_has_a_description() -> None:
    listed = dict(list_topologies())
    assert {"ring", "torus", "two-desks", "small_world"} <= listed.keys()
    for name, text in listed.items():
        assert text.endswith("."), name
        assert 20 < len(text) < 100, name


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("    return [['bo']]\n", r"names \['bo'\], which is not in the roster"),
        ("    return [3, None]\n", "names 3, which is not in the roster"),
        ("    return {'bo\\x1b[2J': 1}\n", r"names 'bo\\x1b\[2J', which is not in the roster"),
        ("    import itertools\n    return itertools.cycle(['bo', 'cy'])\n", "names a peer twice"),
        ("    import sys\n    sys.exit('\\x1b[2J')\n", r"SystemExit: \\x1b\[2J \(line 3\)"),
        ("    return None\n", "TypeError: 'NoneType' object is not iterable"),
    ],
)
def test_whatever_a_python_topology_answers_is_refused_by_its_file(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(ConfigError, match=r"odd\.py: .*" + message):
        written(tmp_path, HEAD + body, "odd.py")


@pytest.mark.parametrize(
    "text", ["import sys\nsys.exit(3)\n", "\0", "(" * 1000, "raise KeyError('\\x1b')\n", "x = 1\n"]
)
def test_a_python_topology_that_is_none_is_refused_by_its_file(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"odd\.py: ") as caught:
        written(tmp_path, text, "odd.py")
    assert str(caught.value).isprintable()


def test_kinds_that_are_no_texts(tmp_path: Path) -> None:
    for kind in ("[]", "{}", '["ring"]', "1979-05-27", "nan"):
        with pytest.raises(ConfigError, match=r"mine\.toml: kind = .*: unknown kind"):
            written(tmp_path, f"kind = {kind}\n")
