"""Errors for bytes that are no message."""

from __future__ import annotations

from enum import StrEnum


class WireCode(StrEnum):
    """The reason why bytes were not understood. Append only."""

    PARTS = "parts"
    SIZE = "size"
    NOT_MSGPACK = "not_msgpack"
    HEADER = "header"
    VERSION = "version"
    KIND = "kind"
    SENDER = "sender"
    FIELD = "field"
    LAYOUT = "layout"
    BODY = "body"
    PIECE = "piece"
    """The piece does not fit the body that is being assembled, or belongs to none."""
    FULL = "full"
    """There is no room for one more body in pieces; its sender will send it again."""


class WireError(Exception):
    """Bytes that are no message of this protocol. `sender` is set when it could be read. `version` and `boot` are set
    where the code is VERSION; `boot` is 0 when it could not be read."""

    def __init__(
        self, code: WireCode, problem: str, sender: str = "", version: int | None = None, boot: int = 0
    ) -> None:
        super().__init__(f"{code.value}: {problem}")
        self.code, self.problem, self.sender, self.version, self.boot = code, problem, sender, version, boot
