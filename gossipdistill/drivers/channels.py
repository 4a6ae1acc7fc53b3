"""The two kinds of sockets."""

from enum import IntEnum


class Channel(IntEnum):
    """The purpose of a socket; the value is added to the control port."""

    CONTROL = 0
    DATA = 1
