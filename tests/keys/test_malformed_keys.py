"""Key files that hold anything are refused, and nothing of what stands in them is shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import zmq
from zmq.utils import z85

from gossipdistill.errors import ConfigError, IdentityError
from gossipdistill.keys.issuing import new, trust
from gossipdistill.keys.joining import make_join, read_join
from gossipdistill.keys.secrets import KeyPair, read_secret, write_secret
from gossipdistill.presence import Address
from gossipdistill.roster import read_roster

_SECRET = z85.encode(bytes(range(1, 33)))
PAIR = KeyPair("ada", zmq.curve_public(_SECRET).decode(), _SECRET.decode())
"""Always the same, so that each process of a parallel run collects the same tests."""
SECRET = {"name": '"ada"', "public": f'"{PAIR.public}"', "secret": f'"{PAIR.secret}"'}
JOIN = {
    "run": '"first"',
    "secret": f'"{"ab" * 32}"',
    "name": '"ada"',
    "address": '"h:7400"',
    "public": SECRET["public"],
}
VALUES = [
    "3",
    "nan",
    "[]",
    "{}",
    "1979-05-27",
    '""',
    '"\\u001b[2J"',
    '"' + "#" * 40 + '"',
    "[" * 500,
    '"ü"',
    "0x" + "f" * 3000,
]


def texts(good: dict[str, str]) -> list[bytes]:
    """Files in which one key is missing, odd, or there twice; and files of another kind."""
    made = [b"", b"\0" * 40, b"\xff\xfe", b"\x80", b"a" * 5000, b"[" * 4000, b"a" + b".a" * 1500 + b" = 1"]
    for key in good:
        made.append("\n".join(f"{k} = {v}" for k, v in good.items() if k != key).encode())
        made.append("\n".join(f"{k} = {v}" for k, v in [*good.items(), (key, good[key])]).encode())
        made += ["\n".join(f"{k} = {v}" for k, v in (good | {key: odd}).items()).encode() for odd in VALUES]
    return made


def private(file: Path, content: bytes) -> Path:
    file.parent.mkdir(mode=0o700, exist_ok=True)
    file.write_bytes(content)
    file.chmod(0o600)
    return file


@pytest.mark.parametrize("content", texts(SECRET))
def test_what_is_no_secret_file_is_refused(tmp_path: Path, content: bytes) -> None:
    file = private(tmp_path / "keys" / "ada.secret", content)
    with pytest.raises(IdentityError) as caught:
        read_secret(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert str(caught.value).isprintable()
    assert PAIR.secret not in str(caught.value)


@pytest.mark.parametrize("content", [text for text in texts(JOIN) if b"#" * 40 not in text])
def test_what_is_no_join_file_is_refused(tmp_path: Path, content: bytes) -> None:
    file = private(tmp_path / "keys" / "run.join", content)
    with pytest.raises(IdentityError) as caught:
        read_join(file, "first")
    assert str(caught.value).startswith(f"{file}: ")
    assert str(caught.value).isprintable()
    assert "ab" * 32 not in str(caught.value)


def test_a_byte_order_mark_and_other_line_ends_change_nothing(tmp_path: Path) -> None:
    file = tmp_path / "keys" / "ada.secret"
    write_secret(file, PAIR)
    private(file, b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    assert read_secret(file, "ada") == PAIR
    make_join(tmp_path / "keys" / "run.join", "first", "ada", Address("h", 7400), PAIR.public)
    assert (
        read_join(
            private(
                tmp_path / "keys" / "run.join",
                b"\xef\xbb\xbf" + "\n".join(f"{key} = {value}" for key, value in JOIN.items()).encode(),
            ),
            "first",
        ).host
        == "ada"
    )


def test_nobody_waits_for_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ada.secret", 0o600)
    for read in (lambda: read_secret(tmp_path / "ada.secret"), lambda: read_join(tmp_path / "ada.secret", "first")):
        with pytest.raises(IdentityError, match="is a pipe or a device"):
            read()
    with pytest.raises(IdentityError, match="is a folder"):
        read_secret(tmp_path)


def test_a_roster_with_a_byte_order_mark_gets_its_keys_and_keeps_its_mark(tmp_path: Path) -> None:
    file = tmp_path / "two.toml"
    text = '# ours\r\n[[peer]]\r\nname = "ada"\r\naddress = "127.0.0.1:7400"\r\n'
    file.write_bytes(b"\xef\xbb\xbf" + text.encode())
    (issued,) = new(file, folder=tmp_path / "keys")
    assert read_roster(file).entry("ada").public_key == issued.public
    assert file.read_bytes().startswith(b"\xef\xbb\xbf# ours\r\n[[peer]]\r\n")
    with pytest.raises(ConfigError, match="is not in the roster"):
        trust(file, "bo", issued.public)
