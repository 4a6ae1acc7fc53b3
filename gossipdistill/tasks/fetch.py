"""Where files of a data set lie: the data folder, the cache, or else at their publisher."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from gossipdistill.errors import ConfigError, DataMissingError
from gossipdistill.files import is_file, is_folder

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 20.0
"""A download may be silent for at most this time (s)."""
CHUNK_BYTES = 1 << 16


def cache_folder(name: str) -> Path:
    """The folder that downloads of the data set `name` go to, in GOSSIPDISTILL_CACHE, else in the user's cache."""
    chosen = os.environ.get("GOSSIPDISTILL_CACHE")
    if chosen:
        return Path(chosen) / name
    import pooch

    return Path(pooch.os_cache("gossipdistill")) / name


def folders(name: str, data_dir: Path | None) -> list[Path]:
    """Where the data set `name` is looked for, in this order."""
    own = [data_dir, data_dir / name] if data_dir is not None else []
    return [*own, cache_folder(name)]


def locate(name: str, files: Sequence[str], url: str, data_dir: Path | None) -> list[Path]:
    """Paths of the data set's files, downloaded into the cache where they lie nowhere.

    Args:
        name: the data set; also the name of its subfolder.
        files: as the publisher names them; compressed (with `.gz`) or uncompressed (without) do as well.
        url: the publisher's folder, ending in a slash.
        data_dir: the user's folder of data sets, or None.
    """
    if data_dir is not None and not is_folder(data_dir):
        raise ConfigError("no such folder", key="--data-dir or GOSSIPDISTILL_DATA", value=str(data_dir))
    places = folders(name, data_dir)
    return [_find(file, places) or _fetch(name, file, files, url, places) for file in files]


def _find(file: str, places: Sequence[Path]) -> Path | None:
    candidates = (folder / variant for folder in places for variant in (file, file.removesuffix(".gz"), f"{file}.gz"))
    return next((path for path in candidates if is_file(path)), None)


def _fetch(name: str, file: str, files: Sequence[str], url: str, places: Sequence[Path]) -> Path:
    """Download one file into the last of the places; where that fails, the error states in one line which file to put
    where."""
    cache = places[-1]
    try:
        download(url + file, cache / file)
    except (OSError, ValueError) as error:  # requests' own errors are OSErrors
        reason = " ".join(str(error).split())
        raise DataMissingError(
            f"{name}: no {file} in {' or '.join(map(str, places))}, and {url}{file} could not be fetched "
            f"({type(error).__name__}: {reason[:160]}); put {', '.join(files)} into {cache}, "
            f"or name their folder with --data-dir or GOSSIPDISTILL_DATA"
        ) from None
    return cache / file


def download(url: str, target: Path) -> None:
    """Fetch one file with a progress bar on stderr, once: no retries. It appears under its name only when whole."""
    import pooch

    pooch.get_logger().setLevel(logging.WARNING)  # the progress bar says enough
    fetch = pooch.HTTPDownloader(
        progressbar=importlib.util.find_spec("tqdm") is not None,
        chunk_size=CHUNK_BYTES,
        timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S),
    )
    # No hash here: gzip wrappers differ, the content is checked when it is read.
    pooch.retrieve(url, known_hash=None, fname=target.name, path=target.parent, downloader=fetch)
