"""The census task on tiny files of the same format; the real ones where they are there."""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from gossipdistill.errors import ConfigError, DataMissingError
from gossipdistill.tasks import Shard, Task, fingerprint, load_task
from gossipdistill.tasks import tabular as module

REAL = [os.environ.get("GOSSIPDISTILL_DATA", ""), str(Path(__file__).parents[3] / "shared" / "data")]
KINDS = (
    ("Private", "State-gov", "?"),
    ("Bachelors", "HS-grad"),
    ("Married", "Never-married"),
    ("Sales", "?"),
    ("Husband", "Own-child"),
    ("White", "Black"),
    ("Male", "Female"),
    ("United-States", "Cuba"),
)


def record(random: np.random.Generator, dot: str = "") -> str:
    age, hours, gain = random.integers(17, 90), random.integers(1, 99), random.choice([0, 0, 99999])
    work, school, wed, trade, kin, race, sex, land = (random.choice(kind) for kind in KINDS)
    rich = ">50K" if age > 50 else "<=50K"
    fields = (age, work, 77516, school, 13, wed, trade, kin, race, sex, gain, 0, hours, land, rich + dot)
    return ", ".join(map(str, fields))


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data folder with 300 + 60 records, and a cache of its own that is empty."""
    random = np.random.default_rng(0)
    lines = {
        "adult.data": [record(random) for _ in range(300)] + [""],
        "adult.test": ["|1x3 Cross validator", *(record(random, ".") for _ in range(60)), ""],
    }
    folder = tmp_path / "data"
    folder.mkdir()
    for name, part in lines.items():
        (folder / name).write_text("\n".join(part))
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in lines}
    monkeypatch.setattr(module, "FILES", digests)
    monkeypatch.setattr(module, "TRANSFER", 100)
    monkeypatch.setattr(module, "URL", "http://127.0.0.1:9/")
    monkeypatch.setenv("GOSSIPDISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    module.read.cache_clear()
    yield folder
    module.read.cache_clear()


def load(folder: Path, shard: Shard | None = None, **options: object) -> Task:
    shard = shard or Shard(1, 4, "disjoint", 20, data_dir=folder)
    return load_task("tabular", shard, {"transfer_examples": 100, **options})


def test_shapes_splits_and_values(tiny: Path) -> None:
    task = load(tiny, transfer_examples=60)
    entries = 6 + sum(len(kind) for kind in KINDS)
    assert task.train[0].shape == (20, entries)
    assert task.transfer is not None
    assert task.transfer.shape == (60, entries)
    assert task.validation[0].shape == (60, entries)
    assert task.classes == ("<=50K", ">50K")
    assert task.distillable
    everybody = load(tiny, Shard(0, 2, "disjoint", 100, data_dir=tiny, pooled=True))
    assert everybody.transfer is not None
    both = torch.cat([everybody.train[0], everybody.transfer])
    assert len({row.numpy().tobytes() for row in both}) > 290, "pool and transfer have nothing in common"
    age = both[:, 0]
    assert abs(float(age.mean())) < 1e-5
    assert float(age.std()) == pytest.approx(1.0, abs=0.01)
    # One of each kind of categories, an unknown one included; they follow the number before them.
    assert set(both[:, 1:4].sum(dim=1).tolist()) == {1.0}
    # The label of the test file ends in a dot.
    assert 0.2 < float(task.validation[1].float().mean()) < 0.8
    task.check_model(task.model())


def test_labels_can_be_skewed_and_learned(tiny: Path) -> None:
    assert int(load(tiny, Shard(0, 2, "label_skew", 50, data_dir=tiny, skew=0.9)).train[1].sum()) in (5, 45)
    task = load(tiny, Shard(0, 1, "disjoint", 200, data_dir=tiny), hidden=())
    torch.manual_seed(0)
    model = task.model()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        torch.autograd.backward(task.loss(model(task.train[0]), task.train[1]))
        optimizer.step()
    with torch.no_grad():
        assert task.metrics["accuracy"](model(task.validation[0]), task.validation[1]) > 0.9


def test_compressed_files_do_as_well(tiny: Path) -> None:
    expected = fingerprint(load(tiny), "t")
    for path in list(tiny.iterdir()):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    module.read.cache_clear()
    assert fingerprint(load(tiny), "t") == expected


def test_a_missing_file_is_told_in_one_line(tiny: Path) -> None:
    (tiny / "adult.test").unlink()
    with pytest.raises(
        DataMissingError, match=r"^adult: no adult.test in .*; put adult.data, adult.test into "
    ) as caught:
        load(tiny)
    assert "\n" not in str(caught.value)


def test_other_content_and_short_records_are_refused(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiny / "adult.data"
    path.write_text("1, 2, 3\n")
    with pytest.raises(DataMissingError, match=r"SHA-256 of the content is .* replace adult.data or delete it"):
        load(tiny)
    monkeypatch.setitem(module.FILES, "adult.data", hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(DataMissingError, match="record 1 has 3 fields, expected 15"):
        load(tiny)


def test_a_layer_without_width_is_refused(tiny: Path) -> None:
    with pytest.raises(ConfigError, match=r"task.hidden"):
        load(tiny, hidden=(8, 0))


def test_the_real_files() -> None:
    found = [Path(place) for place in REAL if place and list((Path(place) / "adult").glob("adult.data*"))]
    if not found:
        pytest.skip("no adult/adult.data in GOSSIPDISTILL_DATA or ../shared/data")
    module.read.cache_clear()
    task = load_task("tabular", Shard(0, 4, data_dir=found[0]), {})
    assert task.train[0].shape == (500, 108)
    assert task.transfer is not None
    assert task.transfer.shape == (2000, 108)
    assert task.validation[0].shape == (16_281, 108)
    assert int(task.validation[1].sum()) == 3_846
    module.read.cache_clear()
