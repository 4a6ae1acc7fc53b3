"""Plans as users write them: what is accepted, and a mistake is one message that names file, entry, key and value."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipdistill import bundled
from gossipdistill.errors import ConfigError
from gossipdistill.faults import FaultPlan, LinkFaults, ProcessFaults, list_fault_plans, load_fault_plan
from gossipdistill.faults.kinds import KINDS
from gossipdistill.faults.measuring import Measurements
from gossipdistill.faults.plan import check_names

PEERS = ("ada", "bo", "cy", "dee")
README = bundled.read_text(bundled.ready_made("faults") / "README.md")
READY_MADE = [name for name, _ in bundled.listing("faults")]


def load(tmp_path: Path, text: str) -> FaultPlan:
    (tmp_path / "mine.toml").write_text(text)
    return load_fault_plan("mine.toml", PEERS, tmp_path)


def fault(kind: str, rest: str = "") -> str:
    return f'[[fault]]\nkind = "{kind}"\n{rest}\n'


QUIET = fault("slow", 'peer = "dee"\nfrom_s = 3\nfactor = 2')


def expect(metric: str, rest: str = "at_least = 0.9") -> str:
    return QUIET + f'[[expect]]\nmetric = "{metric}"\n{rest}\n'


MISTAKES = {
    "": "mine.toml: has no [[fault]] and no [[expect]]",
    "seed = 1": "has no [[fault]] and no [[expect]]",
    "seed = -1\n" + QUIET: "mine.toml: seed = -1: it should be greater than or equal to 0",
    'seed = "x"\n' + QUIET: "seed = 'x': it should be a valid integer",
    "faults = 1": "faults: unknown key; did you mean fault? A plan has a seed, [[fault]] and [[expect]]",
    "fault = 3": "fault: is not written as [[fault]] entries",
    "fault = [1]": "fault: is not written as [[fault]] entries",
    '[fault]\nkind = "drop"': "fault: is not written as [[fault]] entries",
    "[[fault]]\nat_s = 3": "mine.toml: fault 1: kind: is missing; accepted: drop, delay, jitter",
    fault("kil"): "mine.toml: fault 1: kind = 'kil': unknown kind; did you mean kill?",
    "[[fault]]\nkind = 3": "fault 1: kind = 3: unknown kind; known: clock_jump, corrupt",
    QUIET + fault("kill", 'peer = "bo"'): "mine.toml: fault 2 (kill): at_s: is missing",
    fault("kill", 'peer = "bo"\nat = 3'): "fault 1 (kill): at: unknown key; did you mean at_s?",
    fault("kill", 'peer = "bo"\nat_s = 3\nrestart_after = 1'): "restart_after: unknown key; did you mean",
    fault("kill", 'peer = "boo"\nat_s = 3'): "peer = 'boo': is no peer of this run; did you mean bo?",
    fault("kill", "peer = []\nat_s = 3"): 'peer = []: must be the name of a peer, a list of names, or "*" for all',
    fault("kill", "peer = 3\nat_s = 3"): "peer = 3: must be the name of a peer",
    fault("kill", 'peer = ["bo", "bo"]\nat_s = 3'): "names a peer twice",
    fault("kill", 'peer = "bo"\nat_s = -3'): "at_s = -3: it should be greater than or equal to 0",
    fault("kill", 'peer = "bo"\nat_s = nan'): "at_s = nan: it should be a finite number",
    fault("kill", 'peer = "bo"\nat_s = "3"'): "at_s = '3': it should be a valid number",
    fault("kill", 'peer = "bo"\nat_s = 3\nrestart_after_s = 0'): "restart_after_s = 0: it should be greater than 0",
    fault("kill", 'peer = "bo"\nat_s = 3\nshare = 2'): "share = 2: it should be less than or equal to 1",
    fault("slow", 'peer = "bo"\nfactor = 1'): "factor = 1: it should be greater than 1",
    fault("slow", "factor = 2"): "peer: is missing",
    fault("pause", 'peer = "bo"\nfrom_s = 3'): "fault 1 (pause): to_s: is missing",
    fault("pause", 'peer = "bo"\nfrom_s = 3\nto_s = 2'): "ends (to_s = 2) before it begins (from_s = 3)",
    fault("clock_jump", 'peer = "bo"\nat_s = 3\nseconds = 0'): "jumps by nothing",
    fault("drop", "probability = 0.5"): 'has no target; give either link = ["from", "to"]',
    fault("drop", 'link = ["ada", "bo"]\npeer = "bo"\nprobability = 0.5'): "has both link and peer",
    fault("drop", 'link = ["ada"]\nprobability = 0.5'): "must be [from, to], two names",
    fault("drop", 'link = ["ada", "ada"]\nprobability = 0.5'): "leads from a peer to itself",
    fault("drop", 'link = ["ada", "zed"]\nprobability = 0.5'): "link = 'zed': is no peer of this run; known: ada, bo",
    fault("drop", 'peer = "bo"\nprobability = 1.5'): "probability = 1.5: it should be less than or equal to 1",
    fault("drop", 'peer = "bo"\nprobability = 0'): "probability = 0: it should be greater than 0",
    fault("delay", 'peer = "bo"\nseconds = 0'): "seconds = 0: it should be greater than 0",
    fault("rate_limit", 'peer = "bo"\nbytes_per_s = 0'): "bytes_per_s = 0: it should be greater than 0",
    fault("one_way", 'peer = "bo"'): "needs the direction that is closed",
    fault("partition"): "groups: is missing",
    fault("partition", "groups = []"): "must be lists of names",
    fault("partition", 'groups = "thirds"'): "must be lists of names",
    fault("partition", 'groups = ["ada", "bo"]'): "must be lists of names",
    fault("partition", 'groups = [["ada"], ["ada", "bo"]]'): "names a peer in two groups",
    fault("partition", 'groups = [["*"]]'): 'cannot hold "*"',
    fault("partition", 'groups = [["ada", "boo"]]'): "groups = 'boo': is no peer of this run",
    QUIET
    + fault(
        "slow", 'peer = ["cy", "dee"]\nfrom_s = 5\nfactor = 3'
    ): "mine.toml: fault 2 (slow): begins at 5 s, but then dee is in fault 1: dee is 2x slower",
    fault("kill", 'peer = "bo"\nat_s = 3')
    + fault(
        "pause", 'peer = "*"\nfrom_s = 4\nto_s = 5'
    ): "fault 2 (pause): begins at 4 s, but then bo is in fault 1: bo is killed",
    fault("restart", 'peer = "bo"\nat_s = 3\nrestart_after_s = 2')
    + fault("kill", 'peer = "bo"\nat_s = 4'): "fault 2 (kill): begins at 4 s, but then bo is in fault 1",
    expect("pace"): "mine.toml: expect 1: metric = 'pace': it should be 'pace_ratio', 'exchange_ratio'",
    expect("pace_ratio", "at_lest = 1"): "at_lest: unknown key; did you mean at_least",
    expect("pace_ratio", ""): "states no bound: give at_least or at_most",
    expect("pace_ratio", "at_least = 2\nat_most = 1"): "cannot be met: at_least = 2 is above at_most = 1",
    expect("pace_ratio", "at_least = -1"): "at_least = -1: it should be greater than or equal to 0",
    expect("pace_ratio", 'peers = "untuched"\nat_least = 1'): "peers = 'untuched': is no peer of this run",
    expect("pace_ratio", "peers = []\nat_least = 1"): "names no peers",
    expect("rejoin_s", "at_most = 1"): "expect 1 (rejoin_s): the plan never starts a peer again",
    expect("rejoin_s", 'peers = ["bo"]\nat_most = 1'): "peers = ['bo']: the plan never starts bo again",
    expect("exchange_ratio", 'peers = ["bo"]\nat_least = 1'): "an exchange needs two peers, and bo is the only",
    QUIET.replace("3", "1") + '[[expect]]\nmetric = "pace_ratio"\nat_least = 0.9': (
        "a ratio needs 1.5 quiet seconds first as its baseline, and the first fault begins at 1 s"
    ),
    '[[expect]]\nmetric = "pace_ratio"\nat_least = 0.9': "and there is no fault",
    QUIET.replace('"dee"', '"*"') + '[[expect]]\nmetric = "pace_ratio"\nat_least = 0.9': "no peer is left untouched",
}


@pytest.mark.parametrize(("text", "words"), MISTAKES.items(), ids=list(MISTAKES.values()))
def test_a_mistake_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)) as caught:
        load(tmp_path, text)
    assert caught.value.exit_code == 3
    assert str(tmp_path / "mine.toml") in str(caught.value)


def test_a_plan_is_looked_for_on_the_shelf(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'bad-dya' is not a ready-made name in faults: did you mean bad-day"):
        load_fault_plan("bad-dya", PEERS)
    with pytest.raises(ConfigError, match="no such file"):
        load_fault_plan("nowhere.toml", PEERS, tmp_path)
    (tmp_path / "plan.py").write_text("")
    with pytest.raises(ConfigError, match=r"is not a fault plan; accepted: a .toml file"):
        load_fault_plan("plan.py", PEERS, tmp_path)


@pytest.mark.parametrize("name", READY_MADE)
def test_ready_made_plans_load_and_are_in_their_readme(name: str) -> None:
    plan = load_fault_plan(name, PEERS)
    assert plan.name == name
    assert f"| `{name}` |" in README
    assert 20 < len(dict(list_fault_plans())[name]) < 120
    assert FaultPlan.model_validate(plan.model_dump(mode="json", exclude_none=True)) == plan
    assert FaultPlan.model_validate_json(plan.model_dump_json()) == plan


def test_the_readme_knows_every_kind_and_the_ready_made_plans_use_every_kind() -> None:
    assert [kind for kind in KINDS if f"| `{kind}` |" not in README] == []
    used = {fault.kind for name in READY_MADE for fault in load_fault_plan(name, PEERS).fault}
    assert used == KINDS.keys()


def test_the_plan_of_the_story() -> None:
    plan = load_fault_plan("bad-day", PEERS)
    assert [fault.words() for fault in plan.fault] == [
        "dee is 10x slower",
        "bo is killed, and started again 3 s later",
        "30 % of the messages from dee to ada are lost",
    ]
    assert plan.touched(PEERS) == {"bo", "dee"}
    assert plan.restarted(PEERS) == ("bo",)
    assert plan.begins_s == 3
    assert [number for number, _ in plan.link_faults()] == [2]


WORDS = {
    'kind = "delay"\nlink = ["*", "bo"]\nseconds = 0.5': "messages from any peer to bo take 0.5 s longer",
    'kind = "jitter"\npeer = ["ada", "bo", "cy"]\nseconds = 1': (
        "messages from and to ada, bo and cy take up to 1 s longer, each differently"
    ),
    'kind = "duplicate"\npeer = "*"\nprobability = 1': "100 % of the messages between all peers come twice",
    'kind = "reorder"\nlink = ["*", "*"]\nprobability = 0.1\nseconds = 2': (
        "10 % of the messages between all peers are held back by 2 s, and overtaken"
    ),
    'kind = "corrupt"\npeer = "bo"\nprobability = 0.01': "a byte of 1 % of the messages from and to bo is flipped",
    'kind = "one_way"\nlink = ["ada", "bo"]': "nothing passes from ada to bo; the other direction is whole",
    'kind = "rate_limit"\npeer = "bo"\nbytes_per_s = 1e6': "each link from and to bo carries 1e+06 bytes/s",
    'kind = "partition"\ngroups = "halves"': "the first half of the peers and the rest are cut off from one another",
    'kind = "partition"\ngroups = [["ada", "bo"]]': "cut apart: ada, bo | the rest",
    'kind = "partition"\ngroups = [["ada"], ["bo", "cy", "dee"]]': "cut apart: ada | bo, cy, dee",
    'kind = "pause"\npeer = "*"\nshare = 0.5\nfrom_s = 1\nto_s = 3': "50 % of all peers are stopped for 2 s",
    'kind = "kill"\npeer = ["ada", "bo"]\nat_s = 1': "ada and bo are killed",
    'kind = "restart"\npeer = "bo"\nat_s = 1': "bo is asked to end, and started again 0.5 s later",
    'kind = "clock_jump"\npeer = "bo"\nat_s = 1\nseconds = -3': "the clock of bo jumps 3 s backwards",
    'kind = "clock_jump"\npeer = "bo"\nat_s = 1\nseconds = 3': "the clock of bo jumps 3 s forwards",
}


@pytest.mark.parametrize(("text", "words"), WORDS.items(), ids=list(WORDS.values()))
def test_a_fault_says_what_it_does(tmp_path: Path, text: str, words: str) -> None:
    assert load(tmp_path, f"[[fault]]\n{text}").fault[0].words() == words


def test_faults_that_can_follow_one_another_may(tmp_path: Path) -> None:
    text = (
        fault("kill", 'peer = "bo"\nat_s = 3\nrestart_after_s = 2')
        + fault("kill", 'peer = "bo"\nat_s = 5')
        + fault("slow", 'peer = "dee"\nfrom_s = 1\nto_s = 3\nfactor = 2')
        + fault("slow", 'peer = "dee"\nfrom_s = 3\nfactor = 3')
        + fault("pause", 'peer = "dee"\nfrom_s = 4\nto_s = 5')
        + fault("clock_jump", 'peer = "dee"\nat_s = 4\nseconds = 1')
        + fault("clock_jump", 'peer = "dee"\nat_s = 4\nseconds = 1')
        + fault("kill", 'peer = "*"\nshare = 0.5\nat_s = 6')
    )
    assert len(load(tmp_path, text).fault) == 8


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 12), st.floats(), st.sampled_from(["*", "ada", "bo", "zed", "halves", ""])
)
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=3), st.lists(st.lists(SCALARS, max_size=2), max_size=3))
KEYS = (
    "link",
    "peer",
    "from_s",
    "to_s",
    "at_s",
    "probability",
    "seconds",
    "factor",
    "groups",
    "share",
    "bytes_per_s",
    "restart_after_s",
    "wait_max_s",
    "metric",
    "peers",
    "at_least",
    "at_most",
    "nonsense",
)
ENTRY = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=5)


@given(st.lists(st.tuples(st.sampled_from(sorted(KINDS)), ENTRY), max_size=3), st.lists(ENTRY, max_size=2))
def test_whatever_is_written_is_a_plan_that_can_run_or_an_error_for_the_user(
    faults: list[tuple[str, dict[str, object]]], expected: list[dict[str, object]]
) -> None:
    data = {"fault": [entry | {"kind": kind} for kind, entry in faults], "expect": expected}
    try:
        plan = bundled.validated(FaultPlan, data, file="mine")
        check_names(plan, PEERS, "mine")
    except ConfigError:
        return
    ProcessFaults(plan, PEERS).due(math.inf)
    links = LinkFaults(plan, PEERS)
    for at_s in (0.0, 1.0, 5.0, 11.0):
        outcome = links.outcome("ada", "bo", 100, at_s)
        assert all(delay_s >= 0 for delay_s in outcome.delays_s)
    assert [verdict.met for verdict in Measurements(plan, PEERS).verdicts({})] == [False] * len(plan.expect)


@pytest.mark.parametrize("kind", ["[]", "{}", '["kill"]', "1979-05-27", "nan", '"\\u001b[2J"'])
def test_kinds_that_are_no_texts_are_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "odd.toml").write_text(f"[[fault]]\nkind = {kind}\n")
    with pytest.raises(ConfigError, match=r"odd\.toml: fault 1: kind = .*: unknown kind") as caught:
        load_fault_plan("odd.toml", ("ada", "bo"), tmp_path)
    assert str(caught.value).isprintable()
