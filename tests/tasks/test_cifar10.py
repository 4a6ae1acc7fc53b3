"""CIFAR-10 on a tiny archive of the same format; the real one where it is there."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from gossipdistill.errors import DataMissingError
from gossipdistill.tasks import Shard, Task, load_task
from gossipdistill.tasks import cifar10 as module

REAL = [os.environ.get("GOSSIPDISTILL_DATA", ""), str(Path(__file__).parents[3] / "shared" / "data")]


def write(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


@pytest.fixture
def members(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Six files of 60 records of noise; picture k of file f has the label (k + f) mod 10."""
    random = np.random.default_rng(0)
    found = {}
    for file, name in enumerate(module.MEMBERS):
        pixels = random.integers(256, size=(60, 3072), dtype=np.uint8)
        labels = ((np.arange(60) + file) % 10).astype(np.uint8)
        found[name] = np.concatenate([labels[:, None], pixels], axis=1).tobytes()
    monkeypatch.setattr(module, "MEMBERS", {name: hashlib.sha256(part).hexdigest() for name, part in found.items()})
    return found


@pytest.fixture
def tiny(members: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data folder with the archive of these, and a cache of its own that is empty."""
    folder = tmp_path / "data" / "cifar10"
    folder.mkdir(parents=True)
    write(folder / module.ARCHIVE, members)
    monkeypatch.setattr(module, "TRANSFER", 100)
    monkeypatch.setattr(module, "URL", "http://127.0.0.1:9/")
    monkeypatch.setenv("GOSSIPDISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    module.read.cache_clear()
    yield folder
    module.read.cache_clear()


def load(folder: Path, **options: object) -> Task:
    shard = Shard(1, 4, "label_skew", 20, data_dir=folder.parent)
    return load_task("cifar10", shard, {"transfer_examples": 100, **options})


def refused(folder: Path) -> str:
    module.read.cache_clear()
    with pytest.raises(DataMissingError) as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_links_and_folders_in_the_archive_are_no_files(tiny: Path, members: dict[str, bytes]) -> None:
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE):
        with tarfile.open(tiny / module.ARCHIVE, "w:gz") as archive:
            for name in members:
                entry = tarfile.TarInfo(name)
                entry.type, entry.linkname = kind, name  # to itself
                archive.addfile(entry)
        assert "holds no file 'cifar-10-batches-bin/data_batch_1.bin'" in refused(tiny)


def test_shapes_and_splits(tiny: Path) -> None:
    task = load(tiny, transfer_examples=60)
    assert task.train[0].shape == (20, 3, 32, 32)
    assert task.transfer is not None
    assert task.transfer.shape == (60, 3, 32, 32)
    assert task.validation[0].shape == (60, 3, 32, 32)
    assert task.validation[1].tolist() == [(k + 5) % 10 for k in range(60)]
    assert torch.bincount(task.train[1]).topk(3).indices.sort().values.tolist() == [2, 3, 4]
    for model in ("mlp", "cnn"):
        one = load(tiny, model=model)
        one.check_model(one.model())


def test_planes_are_red_green_and_blue_row_by_row(tiny: Path, members: dict[str, bytes]) -> None:
    task = load(tiny)
    (*_, test) = members.values()
    pixels = np.frombuffer(test, dtype=np.uint8).reshape(60, 3073)
    for plane, (mean, deviation) in enumerate(zip(module.MEAN, module.DEVIATION, strict=True)):
        expected = (pixels[7, 1 + 1024 * plane + 32 * 5 + 9] / 255 - mean) / deviation
        assert float(task.validation[0][7, plane, 5, 9]) == pytest.approx(expected, abs=1e-6)


def test_a_missing_archive_is_told_in_one_line(tiny: Path) -> None:
    (tiny / module.ARCHIVE).unlink()
    assert refused(tiny).startswith(f"cifar10: no {module.ARCHIVE} in {tiny.parent} or {tiny} or ")


def test_a_damaged_archive_is_told_from_a_foreign_one(tiny: Path, members: dict[str, bytes]) -> None:
    path = tiny / module.ARCHIVE
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "damaged or cut off" in refused(tiny)
    path.write_bytes(b"<html>Not found</html>")
    assert "damaged or cut off" in refused(tiny)
    first, *others = members
    write(path, {name: members[name] for name in others})
    assert "holds no file" in refused(tiny)
    write(path, members | {first: members[others[0]]})
    assert f"SHA-256 of {first} is " in refused(tiny)


def test_half_a_record_is_refused(tiny: Path, members: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    first = next(iter(members))
    short = members[first][:-1]
    write(tiny / module.ARCHIVE, members | {first: short})
    monkeypatch.setitem(module.MEMBERS, first, hashlib.sha256(short).hexdigest())
    assert "no whole records of 3073" in refused(tiny)


def test_the_real_archive() -> None:
    found = [Path(place) for place in REAL if place and (Path(place) / "cifar10" / module.ARCHIVE).is_file()]
    if not found:
        pytest.skip(f"no cifar10/{module.ARCHIVE} in GOSSIPDISTILL_DATA or ../shared/data")
    module.read.cache_clear()
    task = load_task("cifar10", Shard(0, 4, data_dir=found[0]), {})
    assert task.train[0].shape == (1000, 3, 32, 32)
    assert torch.bincount(task.validation[1]).tolist() == [1000] * 10
    assert abs(task.validation[0].std() - 1) < 0.05
    module.read.cache_clear()
