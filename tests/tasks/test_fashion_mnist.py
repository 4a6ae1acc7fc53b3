"""Fashion-MNIST: finding, checking and dealing its files, on a tiny stand-in; the real ones where they are there."""

from __future__ import annotations

import gc
import gzip
import hashlib
import os
import struct
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pooch
import pytest
import torch

from gossipdistill.errors import ConfigError, DataMissingError
from gossipdistill.tasks import Shard, Task, fetch, fingerprint, load_task
from gossipdistill.tasks import fashion_mnist as module
from gossipdistill.tasks.fashion_mnist import IdxFile

# pooch leaves the connection of a broken download to the garbage collector, whose time is nobody's to choose.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

NAMES = [file.name for file in module.FILES]
packed = partial(gzip.compress, mtime=0)
"""Equal bytes, and so equal names of tests, whenever they are packed."""
REAL = [os.environ.get("GOSSIPDISTILL_DATA", ""), str(Path(__file__).parents[3] / "shared" / "data")]


def idx(array: np.ndarray, kind: int = 0x08) -> bytes:
    return struct.pack(f">{array.ndim + 1}I", kind << 8 | array.ndim, *array.shape) + array.tobytes()


@pytest.fixture(autouse=True)
def leave_no_connection() -> Iterator[None]:
    """Collect what pooch has left while this module's filter is in force, not in somebody else's test."""
    yield
    gc.collect()


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data folder with 300 + 50 pictures of noise, and a cache of its own that is empty."""
    random = np.random.default_rng(0)
    arrays = [
        random.integers(256, size=(300, 28, 28), dtype=np.uint8),
        (np.arange(300) % 10).astype(np.uint8),
        random.integers(256, size=(50, 28, 28), dtype=np.uint8),
        (np.arange(50) % 10).astype(np.uint8),
    ]
    folder = tmp_path / "data"
    folder.mkdir()
    files = []
    for name, array in zip(NAMES, arrays, strict=True):
        (folder / name).write_bytes(gzip.compress(idx(array)))
        files.append(IdxFile(name, array.shape, hashlib.sha256(idx(array)).hexdigest()))
    monkeypatch.setattr(module, "FILES", tuple(files))
    monkeypatch.setattr(module, "TRANSFER", 100)
    monkeypatch.setattr(module, "URL", "http://127.0.0.1:9/")
    monkeypatch.setenv("GOSSIPDISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    module.read.cache_clear()
    yield folder
    module.read.cache_clear()


def load(folder: Path | None, **options: object) -> Task:
    return load_task(
        "fashion_mnist", Shard(1, 4, "label_skew", 20, data_dir=folder), {"transfer_examples": 100, **options}
    )


def missing(folder: Path | None) -> str:
    with pytest.raises(DataMissingError) as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_shapes_and_splits(tiny: Path) -> None:
    task = load(tiny, transfer_examples=60)
    assert task.train[0].shape == (20, 1, 28, 28)
    assert task.transfer is not None
    assert task.transfer.shape == (60, 1, 28, 28)
    assert task.validation[0].shape == (50, 1, 28, 28)
    assert task.validation[1].tolist() == [i % 10 for i in range(50)]
    assert torch.bincount(task.train[1]).topk(3).indices.sort().values.tolist() == [2, 3, 4]
    pooled = load_task(
        "fashion_mnist", Shard(0, 2, "disjoint", 100, data_dir=tiny, pooled=True), {"transfer_examples": 100}
    )
    assert pooled.transfer is not None
    parts = [{row.numpy().tobytes() for row in x} for x in (pooled.train[0], pooled.transfer, pooled.validation[0])]
    assert [len(part) for part in parts] == [200, 100, 50]
    assert len(set.union(*parts)) == 350
    task.check_model(task.model())
    cnn = load(tiny, model="cnn")
    cnn.check_model(cnn.model())


def test_uncompressed_files_and_the_subfolder_do_as_well(tiny: Path) -> None:
    inner = tiny / "fashion-mnist"
    inner.mkdir()
    expected = fingerprint(load(tiny), "f")
    for name in NAMES:
        (inner / name.removesuffix(".gz")).write_bytes(gzip.decompress((tiny / name).read_bytes()))
        (tiny / name).unlink()
    module.read.cache_clear()
    assert fingerprint(load(tiny), "f") == expected


def test_the_cache_is_asked_after_the_data_folder(tiny: Path) -> None:
    cache = fetch.cache_folder("fashion-mnist")
    assert cache == tiny.parent / "cache" / "fashion-mnist"
    cache.parent.mkdir()
    tiny.rename(cache)
    load(None)
    tiny.mkdir()
    load(tiny)


def test_without_a_cache_of_its_own_the_users_cache_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOSSIPDISTILL_CACHE", raising=False)
    assert fetch.cache_folder("x") == Path(pooch.os_cache("gossipdistill")) / "x"


def test_a_download_goes_to_the_cache(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(url: str, target: Path) -> None:
        asked.append(url)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((tiny / target.name).read_bytes())

    monkeypatch.setattr(fetch, "download", download)
    load(None)
    module.read.cache_clear()
    load(None)
    assert asked == [module.URL + name for name in NAMES]


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder, says nothing, and promises one byte too many of what lies in `cut`."""

    cut: str = ""

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""

    def send_header(self, keyword: str, value: str) -> None:
        too_much = keyword == "Content-Length" and self.path.strip("/") == self.cut
        super().send_header(keyword, str(int(value) + 1) if too_much else value)


@pytest.fixture
def publisher(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The tiny files behind a web server of this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tiny))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setattr(module, "URL", f"http://127.0.0.1:{server.server_port}/")
        yield tiny
        server.shutdown()
        thread.join()


def test_a_real_download_arrives_whole(publisher: Path) -> None:
    load(None)
    for name in NAMES:
        assert (fetch.cache_folder("fashion-mnist") / name).read_bytes() == (publisher / name).read_bytes()


def test_a_download_that_breaks_off_leaves_nothing(publisher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Quiet, "cut", NAMES[1])
    assert f"{NAMES[1]} could not be fetched (ChunkedEncodingError: " in missing(None)
    assert [path.name for path in fetch.cache_folder("fashion-mnist").iterdir()] == [NAMES[0]]


def test_a_file_that_the_publisher_no_longer_has(publisher: Path) -> None:
    (publisher / NAMES[0]).unlink()
    assert f"{NAMES[0]} could not be fetched (HTTPError: 404 Client Error: File not found" in missing(None)


def test_without_network_one_line_says_what_to_put_where(tiny: Path) -> None:
    (tiny / NAMES[1]).unlink()
    began = time.monotonic()
    message = missing(tiny)
    assert time.monotonic() - began < 5.0
    cache = fetch.cache_folder("fashion-mnist")
    assert message.startswith(
        f"fashion-mnist: no {NAMES[1]} in {tiny} or {tiny / 'fashion-mnist'} or {cache}, "
        f"and http://127.0.0.1:9/{NAMES[1]} could not be fetched (ConnectionError: "
    )
    assert message.endswith(
        f"; put {', '.join(NAMES)} into {cache}, or name their folder with --data-dir or GOSSIPDISTILL_DATA"
    )
    assert not list(cache.glob("*"))  # nothing half-way is left


def test_a_data_folder_that_is_not_there_is_refused(tiny: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tiny / "nowhere")
    assert str(caught.value) == f"--data-dir or GOSSIPDISTILL_DATA = '{tiny / 'nowhere'}': no such folder"


def test_a_larger_transfer_set_is_refused(tiny: Path) -> None:
    with pytest.raises(ConfigError, match=r"^task.transfer_examples = 101: .*; accepted: 0 to 100$"):
        load(tiny, transfer_examples=101)


def test_a_file_cut_off_is_named(tiny: Path) -> None:
    path = tiny / NAMES[0]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    message = missing(tiny)
    assert message.startswith(f"{path}: damaged or cut off, not whole gzip data (")
    assert message.endswith(f"; replace {NAMES[0]} or delete it")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"<html>Not found</html>", "damaged or cut off, not whole gzip data (Not a gzipped file (b'<h')); "),
        (packed(b"<html>Not found</html>"), "found the magic number 0x3c68746d, expected BYTES [300]; "),
        (packed(b""), "found 0 bytes, expected BYTES [300]; "),
        (packed(idx(np.zeros(9, np.uint8), 0x0D)), "found the magic number 0x00000d01, expected BYTES [300]; "),
        (packed(idx(np.zeros((300, 2), np.uint8))), "found BYTES [300, 2], expected BYTES [300]; "),
        (packed(idx(np.zeros(299, np.uint8))), "found BYTES [299], expected BYTES [300]; "),
        (packed(idx(np.zeros(300, np.uint8))[:-1]), "found 307 bytes, expected 308; "),
        (packed(idx(np.zeros(300, np.uint8)) + b"!"), "found 309 bytes, expected 308; "),
        (packed(b"\x00\x00\x08"), "found 3 bytes, expected BYTES [300]; "),
    ],
)
def test_what_is_no_such_idx_file_is_described(tiny: Path, content: bytes, problem: str) -> None:
    path = tiny / NAMES[1]
    path.write_bytes(content)
    told = problem.replace("BYTES", "an idx file of unsigned bytes")
    assert missing(tiny) == f"{path}: {told}replace {NAMES[1]} or delete it"


def test_other_content_is_told_by_its_digest(tiny: Path) -> None:
    path = tiny / NAMES[3]
    other = idx(np.ones(50, np.uint8))
    path.write_bytes(gzip.compress(other))
    assert missing(tiny) == (
        f"{path}: SHA-256 of the content is {hashlib.sha256(other).hexdigest()}, expected {module.FILES[3].sha256}; "
        f"replace {NAMES[3]} or delete it"
    )


def test_a_file_that_may_not_be_read_is_named(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert missing(tiny) == f"{tiny / NAMES[0]}: cannot be read (Permission denied)"


def test_what_is_no_file_and_what_unpacks_to_far_more_is_refused(tiny: Path) -> None:
    path = tiny / NAMES[1]
    path.write_bytes(packed(bytes(100 * 1024**2)))  # a hundred megabytes out of a hundred kilobytes
    assert "holds more than 4712 bytes" in missing(tiny)
    path.unlink()
    os.mkfifo(path)
    assert missing(tiny).startswith(f"fashion-mnist: no {NAMES[1]} in ")  # and nobody waits for what comes out of it


def test_the_real_files() -> None:
    places = [Path(place) for place in REAL if place and (Path(place) / "fashion-mnist" / NAMES[0]).is_file()]
    if not places:
        pytest.skip(f"no fashion-mnist/{NAMES[0]} in GOSSIPDISTILL_DATA or ../shared/data")
    module.read.cache_clear()
    task = load_task("fashion_mnist", Shard(0, 4, "label_skew", data_dir=places[0], skew=0.9), {})
    assert task.train[0].shape == (500, 1, 28, 28)
    assert torch.bincount(task.train[1], minlength=10).tolist() == [150, 150, 150, 8, 7, 7, 7, 7, 7, 7]
    assert len(task.validation[0]) == 10_000
    assert torch.bincount(task.validation[1]).tolist() == [1000] * 10
    assert abs(task.validation[0].std() - 1) < 0.02
    assert fingerprint(task, "fashion_mnist")["transfer"] == "ae4ce734b9b651ed"
    module.read.cache_clear()
