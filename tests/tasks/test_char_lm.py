"""The character task: how a text is found, dealt and cut; and that its transformer looks back only, and learns."""

from __future__ import annotations

import gzip
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from gossipdistill.errors import ConfigError, DataMissingError
from gossipdistill.tasks import Shard, Task, fingerprint, load_task
from gossipdistill.tasks import char_lm as module

REAL = [os.environ.get("GOSSIPDISTILL_DATA", ""), str(Path(__file__).parents[3] / "shared" / "data")]
TEXT = "".join(f"{number} little söngs, " for number in range(400))
SMALL = {"block_size": 16, "width": 16, "layers": 1, "heads": 2}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current folder with a text, and a cache of its own that is empty."""
    (tmp_path / "songs.txt").write_text(TEXT, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "URL", "http://127.0.0.1:9/")
    monkeypatch.setenv("GOSSIPDISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    module.read.cache_clear()
    yield tmp_path
    module.read.cache_clear()


def load(shard: Shard | None = None, **options: object) -> Task:
    return load_task("char_lm", shard or Shard(0, 4), {"text": "songs.txt", **SMALL, **options})


def spelt(rows: torch.Tensor) -> str:
    alphabet = sorted(set(TEXT))
    return "".join(alphabet[number] for number in rows.flatten().tolist())


def test_shards_are_contiguous_disjoint_parts_in_order(folder: Path) -> None:
    parts = [spelt(load(Shard(index, 4)).train[0]) for index in range(4)]
    size = int(len(TEXT) * 0.85) // 4
    for index, part in enumerate(parts):
        assert part == TEXT[index * size : index * size + len(part)]
        assert size - 17 <= len(part) <= size
    pooled = load(Shard(0, 4, pooled=True))
    assert spelt(pooled.train[0]) == TEXT[: len(spelt(pooled.train[0]))]
    assert len(pooled.train[0]) >= 4 * len(load().train[0])
    assert torch.equal(load(Shard(3, 4, "same")).train[0], pooled.train[0])


def test_labels_are_the_next_characters_and_the_end_is_for_validation(folder: Path) -> None:
    task = load(transfer_examples=10)
    x, y = task.train
    assert torch.equal(x.flatten()[1:], y.flatten()[:-1])
    assert task.transfer is not None
    transfer, validation = spelt(task.transfer), spelt(task.validation[0])
    middle, end = int(len(TEXT) * 0.85), int(len(TEXT) * 0.9)
    assert transfer == TEXT[middle : middle + 160]
    assert validation == TEXT[end : end + len(validation)]
    task.check_model(task.model())


def test_the_last_character_alone_is_a_class(folder: Path) -> None:
    """Then predictions can be exchanged; blocks overlap, so that there are enough labels."""
    task, whole = load(predict="last"), load()
    assert task.distillable
    assert not whole.distillable
    assert task.classes == tuple(sorted(set(TEXT)))
    assert len(task.train[0]) > 7 * len(whole.train[0])
    assert torch.equal(task.train[0][::8][: len(whole.train[0])], whole.train[0])
    assert torch.equal(task.train[1][::8][: len(whole.train[0])], whole.train[1][:, -1])
    assert whole.transfer is not None
    assert task.transfer is not None
    assert torch.equal(task.transfer, whole.transfer)
    model = task.model()
    task.check_model(model)
    assert model(task.train[0][:2]).shape == (2, len(task.classes or ()))
    assert re.fullmatch(rf"{len(set(TEXT))} classes, [0-9a-f]{{16}}|[ -~ö,]+", fingerprint(task, "t")["classes"])


def test_classes_that_cannot_be_printed_are_compared_by_digest(folder: Path) -> None:
    prints = set()
    for text in ("one\ntwo\n" * 100, "one\ttwo\t" * 100):
        (folder / "lines.txt").write_text(text)
        module.read.cache_clear()
        prints.add(fingerprint(load(text="lines.txt", predict="last"), "t")["classes"])
    assert len(prints) == 2
    assert all(re.fullmatch(r"6 classes, [0-9a-f]{16}", one) for one in prints)


def test_examples_per_peer_are_spread_over_the_part(folder: Path) -> None:
    whole, few = load().train[0], load(Shard(0, 4, examples_per_peer=10)).train[0]
    assert torch.equal(few, whole[torch.arange(10) * len(whole) // 10])


def test_bytes_are_a_vocabulary_that_fits_every_text(folder: Path) -> None:
    task = load(vocabulary="byte")
    assert (
        bytes(task.train[0].flatten().tolist()).decode()
        == TEXT[: len(bytes(task.train[0].flatten().tolist()).decode())]
    )
    assert task.model()(task.train[0][:2]).shape == (2, 16, 256)


def test_no_position_sees_a_later_one(folder: Path) -> None:
    task = load()
    torch.manual_seed(0)
    model = task.model().eval()
    x = task.train[0][:1].clone()
    with torch.no_grad():
        before = model(x)
        x[0, 10] = (x[0, 10] + 1) % 5
        after = model(x)
    assert torch.allclose(before[0, :10], after[0, :10], atol=1e-6)
    assert not torch.allclose(before[0, 10], after[0, 10], atol=1e-4)


def test_it_starts_at_a_guess_and_learns_the_text(folder: Path) -> None:
    task = load()
    torch.manual_seed(0)
    model = task.model()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    symbols = len(set(TEXT))
    x, y = task.train
    with torch.no_grad():
        assert float(task.loss(model(x), y)) == pytest.approx(math.log(symbols), abs=0.5)
    for step in range(120):
        rows = slice(8 * step % 64, 8 * step % 64 + 8)
        optimizer.zero_grad()
        torch.autograd.backward(task.loss(model(x[rows]), y[rows]))
        optimizer.step()
    with torch.no_grad():
        out = model(task.validation[0])
    assert task.metrics["accuracy"](out, task.validation[1]) > 0.6
    assert task.metrics["bits_per_character"](out, task.validation[1]) < 2.5


def test_a_folder_of_texts_is_read_in_order_and_compressed_ones_too(folder: Path) -> None:
    inner = folder / "data" / "two"
    inner.mkdir(parents=True)
    (inner / "b.txt").write_text(TEXT[3000:], encoding="utf-8")
    (inner / "a.txt").write_text(TEXT[:3000], encoding="utf-8")
    (inner / "notes.md").write_text("no part of it")
    found = load(Shard(1, 4, data_dir=folder / "data"), text="two")
    assert torch.equal(found.train[0], load(Shard(1, 4)).train[0])
    (folder / "songs.txt.gz").write_bytes(gzip.compress(TEXT.encode()))
    assert torch.equal(load(Shard(1, 4), text="songs.txt.gz").train[0], found.train[0])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("sings.txt", r"^task.text = 'sings.txt': no such file or folder; put a text at /.*sings.txt, or name another"),
        ("empty", r"^task.text = 'empty': the folder empty holds no .txt file; put some there$"),
        ("", r"^tinyshakespeare: no input.txt in .*; put input.txt into "),
    ],
)
def test_what_is_missing_is_told_in_one_line(folder: Path, text: str, problem: str) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(DataMissingError, match=problem) as caught:
        load(text=text)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("shard", "options", "problem"),
    [
        (Shard(0, 4, "label_skew"), {}, "task.shards = 'label_skew': characters are no labels"),
        (Shard(0, 4, examples_per_peer=9999), {}, "task.examples_per_peer = 9999: a part holds"),
        (Shard(0, 4), {"block_size": 4000}, "task.block_size = 4000: a text of .* is too short for 4 parts"),
        (Shard(0, 4), {"block_size": 0}, "task.block_size = 0"),
        (Shard(0, 4), {"width": 15}, "task.width = 15: is no multiple of task.heads = 2"),
        (Shard(0, 4), {"transfer_examples": -1}, "task.transfer_examples = -1"),
        (Shard(0, 4), {"vocabulary": "word"}, "task.vocabulary = 'word'"),
    ],
)
def test_mistakes_are_named(folder: Path, shard: Shard, options: dict[str, object], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        load(shard, **options)


def test_what_is_no_text_is_refused_unless_bytes_are_meant(folder: Path) -> None:
    (folder / "noise.bin").write_bytes(bytes(range(128, 256)) * 40)
    with pytest.raises(ConfigError, match=r"is no UTF-8 text .*; accepted: UTF-8, or task.vocabulary = byte"):
        load(text="noise.bin")
    assert load(text="noise.bin", vocabulary="byte").train[0].min() == 128


def test_the_real_text() -> None:
    found = [Path(place) for place in REAL if place and (Path(place) / module.FOLDER / module.FILE).is_file()]
    if not found:
        pytest.skip(f"no {module.FOLDER}/{module.FILE} in GOSSIPDISTILL_DATA or ../shared/data")
    module.read.cache_clear()
    task = load_task("char_lm", Shard(0, 4, data_dir=found[0]), {})
    assert task.train[0].shape == (3703, 64)
    assert task.validation[0].shape == (500, 64)
    assert task.model().read.out_features == 65
    module.read.cache_clear()
