"""The command line as a newcomer meets it: a mistake is one line with an exit code, descriptions are whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command_line import Outcome, called

Say = Callable[..., Outcome]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Say:
    """Runs `gossipdistill ARGS...` in this process and an empty folder: (exit code, output, errors)."""
    monkeypatch.chdir(tmp_path)
    for key in ("SET", "PEERS", "NAME", "OUT", "DATA", "LISTEN"):
        monkeypatch.delenv(f"GOSSIPDISTILL_{key}", raising=False)

    def run(*args: str) -> Outcome:
        return called(monkeypatch, capsys, *args)

    return run


TWICE = '[[peer]]\nname = "ada"\naddress = "127.0.0.1:7400"\n' * 2
CLASH = '[[peer]]\nname = "ada"\naddress = "127.0.0.1:7400"\n[[peer]]\nname = "bo"\naddress = "127.0.0.1:7401"\n'

MISTAKES = [
    ("run --task digit", 3, "did you mean digits?"),
    ("run --task moons:task", 3, "no module moons"),
    ("run --strategy codistil", 3, "did you mean codistill_groups or codistill_predictions"),
    ("run --topology rng", 3, "did you mean ring?"),
    ("run --peers unlike4", 3, "did you mean unlike-4?"),
    ("run --peers 0", 3, "is no number of peers"),
    ("run --peers 127.0.0.1:7400", 3, "a count or a roster"),
    ("run --set trian.lr=1", 3, "command line: trian.lr = 1: unknown key; did you mean train.lr"),
    ("run --set train.lr=abc", 3, "command line: train.lr = 'abc': should be a valid number"),
    ("run --set strategy.wieght=1", 3, "did you mean strategy.weight"),
    ("run --set task.modell=cnn", 3, "did you mean model?"),
    ("run --set task.model=cn", 3, "did you mean cnn?"),
    ("run --set task.examples_per_peer=900", 3, "accepted: 1 to"),
    ("run --set exchange.encoding=zip", 3, "accepted: raw, half, bfloat16, int8, top_k"),
    ("run --strategy gossip_averaging --set exchange.encoding=top_k:3", 3, "accepted: raw, half, bfloat16, int8"),
    ("run --set train.batch_size=1000000000", 3, "train.batch_size = 1000000000: a batch of 1000000000 examples needs"),
    ("run --set nothing", 2, "expected key=value"),
    ("run --device cuda:77", 3, "accepted: auto, cpu"),
    ("run nowhere.toml", 3, "nowhere.toml: cannot be read: No such file or directory"),
    ("run --peers twice.toml", 3, "peers 1 and 2 have the same name 'ada'"),
    ("run --peers clash.toml", 3, "leave two ports to each peer"),
    ("run --peers cluster-example", 5, "is not on this machine"),
    ("run --resume", 3, "no such run to resume"),
    ("run --out /proc/nowhere --steps 5", 3, "cannot be made"),
    ("run --strategy gossip_averaging --peers compose-4", 5, "is not on this machine"),
    ("run --strategy codistill_predictions --task quadratic", 6, "use gossip_averaging, or a task whose labels are"),
    ("run --strategy gossip_averaging --topology torn.toml", 6, "needs a strongly connected topology"),
    ("run --strategy sgp --topology torn.toml", 6, "needs a strongly connected topology"),
    ("run --strategy dpsgd --topology one_peer_exponential", 6, "in which each link has its reverse"),
    ("run --task fashion_mnist --data-dir nowhere", 3, "nowhere': no such folder"),
    ("run --faults bad-dya", 3, "did you mean bad-day?"),
    ("run --faults nowhere.toml", 3, "nowhere.toml: no such file"),
    ("run --faults bad-day --peers 3", 3, "fault 1 (slow): peer = 'dee': is no peer of this run; known: ada, bo, cy"),
    ("run --faults bad-day --seconds 4", 3, "fault 2 begins at 5 s, and the run ends after 4 s; give more --seconds"),
    ("run --faults typo.toml", 3, "typo.toml: fault 1 (kill): at_z: unknown key; did you mean at_s?"),
    ("run --faults bad-day --strategy all_reduce", 6, "all_reduce has a transport of its own"),
    ("run --faults kill-and-restart --strategy all_reduce", 6, "all_reduce cannot take a lost peer back"),
    ("faults show bad-dya", 3, "did you mean bad-day?"),
    ("faults show bad-day --peers 2", 3, "peer = 'dee': is no peer of this run; known: ada, bo"),
    ("worker", 2, "which peer is this?"),
    ("worker --name ada", 2, "where are the others?"),
    ("worker --name ada --peers 4", 3, "cannot find the others by a count"),
    ("worker --name zed --peers unlike-4", 3, "known: ada, bo, cy, dee"),
    ("worker --name Ada --peers unlike-4", 3, "is no name for a peer"),
    ("worker --name ada --peers cluster-example", 7, "add --insecure"),
    ("worker --name bo --peers 127.0.0.1:7400", 2, "--shard K/N"),
    ("worker --name bo --peers 127.0.0.1:7400 --shard 4/3", 3, "K/N with 1 <= K <= N"),
    ("worker --name ada --peers unlike-4 --strategy all_reduce", 3, "tcp://HOST:PORT"),
    ("compare --strategies isolatd", 3, "did you mean isolated?"),
    ("compare --strategies isolated --seeds x", 3, "for example 0,1,2"),
    ("compare --strategies isolated,codistill_predictions --set strategy.wieght=1", 3, "did you mean strategy.weight"),
    ("compare --strategies isolated,codistill_predictions --task quadratic", 6, "none; use gossip_averaging"),
    ("show", 3, "holds no runs yet; start one with: gossipdistill run"),
    ("show nothing", 3, "no such run"),
    ("topology show rng", 3, "did you mean ring?"),
    ("strategy show isolate", 3, "did you mean isolated?"),
    ("task show digit", 3, "did you mean digits?"),
    ("new /proc/nowhere", 3, "cannot be written"),
]


@pytest.mark.parametrize(("line", "code", "words"), MISTAKES, ids=[line for line, _, _ in MISTAKES])
def test_a_mistake_is_one_line_with_its_exit_code(say: Say, tmp_path: Path, line: str, code: int, words: str) -> None:
    (tmp_path / "twice.toml").write_text(TWICE)
    (tmp_path / "clash.toml").write_text(CLASH)
    (tmp_path / "typo.toml").write_text('[[fault]]\nkind = "kill"\npeer = "bo"\nat_s = 3\nat_z = 3\n')
    (tmp_path / "torn.toml").write_text('kind = "edges"\nboth_ways = true\nedges = [["ada", "bo"], ["cy", "dee"]]\n')
    found, out, err = say(*line.split())
    assert (found, out) == (code, "")
    assert words in err
    assert err.startswith("gossipdistill: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_missing_data_is_one_line_that_says_which_file_to_put_where(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gossipdistill.tasks.fashion_mnist.URL", "http://127.0.0.1:9/")
    monkeypatch.setenv("GOSSIPDISTILL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    found, out, err = say("run", "--task", "fashion_mnist", "--data-dir", "data", "--steps", "5")
    assert (found, out) == (4, "")
    assert err.count("\n") == 1
    assert "train-images-idx3-ubyte" in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("line", ["run --stepz 5", "runn", "run --steps 0"])
def test_an_unknown_option_is_usage(say: Say, line: str) -> None:
    assert say(*line.split())[0] == 2


def test_unlike_models_are_refused_before_anything_starts(say: Say, tmp_path: Path) -> None:
    entry = '[[peer]]\nname = "{}"\naddress = "127.0.0.1:0"\nset = {{ "task.model" = "{}" }}\n'
    (tmp_path / "unlike.toml").write_text(entry.format("ada", "cnn") + entry.format("bo", "mlp"))
    code, _, err = say("run", "--strategy", "all_reduce", "--peers", "unlike.toml")
    assert code == 6
    assert "the same model on all peers; those of ada and bo differ (9050 and 8970 parameters)" in err


def test_missing_data_are_said_before_anything_starts(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(url: str, target: Path) -> None:
        raise OSError("no network")

    monkeypatch.setenv("GOSSIPDISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("gossipdistill.tasks.fetch.download", refuse)
    code, out, err = say("run", "--task", "fashion_mnist", "--steps", "5")
    assert (code, out, err.count("\n")) == (4, "", 1)
    assert "put train-images-idx3-ubyte.gz" in err
    assert not (tmp_path / "runs").exists()


def test_an_environment_variable_is_named_when_it_is_wrong(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOSSIPDISTILL_SET", "train.lr=fast")
    assert "environment GOSSIPDISTILL_SET: train.lr = 'fast'" in say("run")[2]
    monkeypatch.setenv("GOSSIPDISTILL_SET", "train.lr='")
    assert "GOSSIPDISTILL_SET" in say("run")[2]


def test_a_fault_of_ours_is_a_report_and_no_traceback(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("gossipdistill.assembly.worker.build_schedule", fail)
    code, _, err = say("run", "--steps", "5")
    assert (code, err.count("\n")) == (1, 1)
    report = Path(err.rsplit(" ", 1)[1].strip())
    assert "ZeroDivisionError" in report.read_text()
    report.unlink()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("topology list", ["one_peer_exponential", "two-desks", "small_world"]),
        ("topology show ring --peers 5", ["ring: 5 peers", "ada <-> bo", "spectral gap"]),
        ("strategy list", ["isolated", "codistill_predictions", "gossip_averaging", "all_reduce"]),
        ("strategy show codistill_predictions", ["Publishes:", "When stale:", "strategy.temperature", "transfer set"]),
        ("faults list", ["bad-day", "One peer becomes ten times slower", "storm"]),
        ("faults show bad-day", ["dee is 10x slower", "no fault touches: ada, cy", "rejoin_s of bo: at most 5"]),
        ("faults show storm --peers 40", ["10 % of all peers are killed", "and 15 more"]),
        ("task list", ["digits", "fashion_mnist", "quadratic"]),
        ("task show digits", ["task.transfer_examples", "CC BY 4.0"]),
        ("--version", ["gossipdistill 0."]),
        ("--help", ["compare", "topology"]),
    ],
)
def test_lists_and_descriptions(say: Say, line: str, words: list[str]) -> None:
    code, out, err = say(*line.split())
    assert (code, err) == (0, "")
    assert [word for word in words if word not in out] == []
    assert "…" not in out


def test_new_writes_files_that_are_ready_to_use(say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = say("new", "mine")
    assert code == 0
    assert "gossipdistill run first-light.toml" in out
    assert say("new", "mine")[0] == 3  # nothing is overwritten
    assert "bo is killed" in say("faults", "show", "mine/bad-day.toml", "--peers", "mine/unlike-4.toml")[1]
    from gossipdistill.config.plan import Asked, plan_local

    monkeypatch.setattr("gossipdistill.config.plan.refuse_unusable", lambda ports, hint: None)
    specs = plan_local(Asked(run_file=tmp_path / "mine/first-light.toml", out=tmp_path))
    assert [spec.name for spec in specs] == ["ada", "bo", "cy", "dee"]
    assert json.loads(specs[0].to_json())["resolved"]["config"]["seconds"] == 15
