"""The task `char_lm`: which character comes next? A small transformer on any text."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gossipdistill.errors import ConfigError, DataMissingError
from gossipdistill.files import entries, is_file, is_folder
from gossipdistill.tasks.base import About, Deal, Task, accuracy
from gossipdistill.tasks.content import check_digest, read_whole
from gossipdistill.tasks.fetch import locate
from gossipdistill.tasks.shards import Shard
from gossipdistill.tasks.transformer import Transformer

FOLDER = "tinyshakespeare"
URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/"
FILE, SHA256 = "input.txt", "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
VALIDATION_SHARE, TRANSFER_SHARE = 0.1, 0.05
"""The end of the text is for validation, what comes before it for transfer; the rest is dealt, part after part."""
VALIDATION_BLOCKS_MAX = 500
"""At most this number of blocks, spread evenly over the end of the text, is for validation: a transformer is slow, and
more would not measure better."""
OVERLAP = 8
"""Where only the last character is predicted, this number of blocks begin within the length of one: each has only one
label."""
ABOUT = About(
    origin="any text file of yours (task.text); else Tiny Shakespeare, A. Karpathy 2015, github.com/karpathy/char-rnn",
    licence="Tiny Shakespeare: public domain",
    sizes="Tiny Shakespeare has 1,115,394 characters, 65 different ones: 85 % to deal, 5 % unlabelled for transfer, "
    "10 % for validation",
    folder=FOLDER,
    url=URL,
)


def task(
    shard: Shard,
    text: Annotated[str, "A text file, or a folder of .txt files in order of name. Empty: Tiny Shakespeare."] = "",
    vocabulary: Annotated[
        Literal["char", "byte"], "The symbols: the characters of the text, or all 256 bytes."
    ] = "char",
    block_size: Annotated[int, "The number of symbols in one example."] = 64,
    width: Annotated[int, "The width of the transformer, a multiple of heads."] = 64,
    layers: Annotated[int, "The number of layers of the transformer."] = 2,
    heads: Annotated[int, "The number of attention heads of each layer."] = 4,
    transfer_examples: Annotated[int, "The most unlabelled blocks on which predictions are exchanged."] = 64,
    predict: Annotated[Literal["all", "last"], "Predict each next symbol of a block, or the last alone."] = "all",
) -> Task:
    """Next-character prediction on any text; Tiny Shakespeare is found in the data folder, or downloaded (1 MB).

    Inputs [rows, block_size] are symbol numbers; outputs are logits [rows, block_size, symbols]. Shards are contiguous
    parts of the text; `label_skew` has no meaning here. All peers must have the same text. With `predict` = last the
    outputs are logits [rows, symbols]: class probabilities, as strategies need them that exchange predictions.
    """
    _check(shard, block_size, width, layers, heads, transfer_examples)
    symbols, numbers = read(text, vocabulary, shard.data_dir)
    last = predict == "last"
    parts = _split(numbers, shard, block_size, max(block_size // OVERLAP, 1) if last else block_size)
    transfer = parts.transfer[0][:transfer_examples]
    loss = nn.functional.cross_entropy if last else next_symbol_loss
    train, validation = (((x, y[:, -1]) if last else (x, y)) for x, y in (parts.train, parts.validation))
    return Task(
        model=lambda: Transformer(len(symbols), block_size, width, layers, heads, last),
        train=train,
        transfer=transfer if len(transfer) else None,
        validation=validation,
        loss=loss,
        metrics={
            "accuracy": accuracy if last else next_symbol_accuracy,
            "bits_per_character": lambda out, y: loss(out, y).item() / math.log(2),
        },
        classes=symbols if last else None,
    )


def next_symbol_loss(out: Tensor, y: Tensor) -> Tensor:
    """Mean cross entropy (nats) of logits [rows, positions, symbols] at the symbols [rows, positions]."""
    return nn.functional.cross_entropy(out.flatten(0, 1), y.flatten())


def next_symbol_accuracy(out: Tensor, y: Tensor) -> float:
    """Fraction of all positions whose largest logit is at the next symbol; 0 to 1."""
    return (out.argmax(2) == y).float().mean().item()


def _check(shard: Shard, block_size: int, width: int, layers: int, heads: int, transfer_examples: int) -> None:
    sizes = {"block_size": block_size, "width": width, "layers": layers, "heads": heads}
    for key, value in sizes.items():
        if value < 1:
            raise ConfigError("is out of range", key=f"task.{key}", value=value, accepted="1 or more")
    if width % heads:
        raise ConfigError(f"is no multiple of task.heads = {heads}", key="task.width", value=width)
    if transfer_examples < 0:
        problem = "is out of range"
        raise ConfigError(problem, key="task.transfer_examples", value=transfer_examples, accepted="0 or more")
    if shard.how == "label_skew":
        problem = "characters are no labels to skew by: parts of a text are dealt"
        raise ConfigError(problem, key="task.shards", value=shard.how, accepted="disjoint, same")


Pair = tuple[Tensor, Tensor]


class _Parts(NamedTuple):
    """Blocks [rows, block_size] and, shifted by one, what comes next."""

    train: Pair
    transfer: Pair
    validation: Pair


def _split(numbers: npt.NDArray[np.int64], shard: Shard, block_size: int, stride: int) -> _Parts:
    end = int(len(numbers) * (1 - VALIDATION_SHARE))
    middle = int(len(numbers) * (1 - VALIDATION_SHARE - TRANSFER_SHARE))
    hands = 1 if shard.how == "same" or shard.pooled else shard.count
    hand, size = shard.index % hands, middle // hands
    train = _blocks(numbers[hand * size : (hand + 1) * size], block_size, stride)
    validation = _blocks(numbers[end:], block_size, stride)
    if not len(train[0]) or not len(validation[0]):
        problem = f"a text of {len(numbers)} symbols is too short for {hands} parts with blocks of {block_size}"
        raise ConfigError(problem, key="task.block_size", value=block_size)
    each = shard.wanted(len(train[0]), f"a part holds {len(train[0])} blocks") or len(train[0])
    shard.deals.append(Deal(hands * len(train[0]), each, shard.examples_per_peer))
    blocks_max = min(VALIDATION_BLOCKS_MAX, len(validation[0]))
    return _Parts(
        _spread(train, each),
        _blocks(numbers[middle:end], block_size, block_size),
        _spread(validation, blocks_max),
    )


def _blocks(numbers: npt.NDArray[np.int64], block_size: int, stride: int) -> Pair:
    """Inputs and what comes next, [rows, block_size] each; a block begins every `stride` symbols."""
    if len(numbers) <= block_size:
        return torch.empty(0, block_size, dtype=torch.long), torch.empty(0, block_size, dtype=torch.long)
    windows = torch.from_numpy(numbers).unfold(0, block_size + 1, stride)
    return windows[:, :-1].contiguous(), windows[:, 1:].contiguous()


def _spread(pair: Pair, count: int) -> Pair:
    """`count` of the rows, evenly spread."""
    rows = torch.arange(count) * len(pair[0]) // count
    return pair[0][rows], pair[1][rows]


@lru_cache(maxsize=2)
def read(text: str, vocabulary: str, data_dir: Path | None) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """(symbols, the text as their numbers [characters])."""
    content = b"".join(read_whole(path) for path in _files(text, data_dir))
    if not text:
        check_digest(content, SHA256, _files(text, data_dir)[0])
    if vocabulary == "byte":
        return tuple(str(byte) for byte in range(256)), np.frombuffer(content, dtype=np.uint8).astype(np.int64)
    try:
        points = np.frombuffer(content.decode("utf-8").encode("utf-32-le"), dtype="<u4")
    except UnicodeDecodeError as error:
        problem = f"is no UTF-8 text ({error.reason} at byte {error.start})"
        raise ConfigError(problem, key="task.text", value=text, accepted="UTF-8, or task.vocabulary = byte") from None
    found, numbers = np.unique(points, return_inverse=True)
    return tuple(chr(point) for point in found), numbers.reshape(-1).astype(np.int64)


def _files(text: str, data_dir: Path | None) -> list[Path]:
    """The files that the option `text` means; looked for from the current folder, then in the data folder."""
    if not text:
        return locate(FOLDER, [FILE], URL, data_dir)
    places = [Path(text), *([data_dir / text] if data_dir is not None else [])]
    for place in places:
        if is_file(place):
            return [place]
        if is_folder(place):
            files = [path for path in entries(place, "*.txt") if is_file(path)]
            if files:
                return files
            raise DataMissingError(f"task.text = {text!r}: the folder {place} holds no .txt file; put some there")
    looked = " or ".join(str(place.absolute()) for place in places)
    raise DataMissingError(
        f"task.text = {text!r}: no such file or folder; put a text at {looked}, or name another: --set task.text=FILE"
    )
