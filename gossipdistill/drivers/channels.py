"""The two kinds of sockets."""

from enum import IntEnum


class Channel(IntEnum):
    """What a socket is for; the value is added to the control port."""

    CONTROL = 0
    DATA = 1
