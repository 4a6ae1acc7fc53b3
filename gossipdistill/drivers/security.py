"""Keys on sockets: CURVE for every connection of a driver, or for none.

A binding socket proves that it holds `secret`; a connecting one encrypts to the key of the peer that it means to reach,
and reaches nobody else. Keys are 40 characters of Z85, as `zmq.curve_keypair()` makes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import zmq

_KEY_CHARACTERS = 40


@dataclass(frozen=True, slots=True)
class Curve:
    """My key pair, and the public keys of those whom I may dial, by name.

    Raises:
        ValueError: for a key of another length than 40 characters of Z85.
    """

    public: bytes
    secret: bytes = field(repr=False)
    server_keys: Mapping[str, bytes]

    def __post_init__(self) -> None:
        for whose, key in {"my public key": self.public, "my secret key": self.secret, **self.server_keys}.items():
            if len(key) != _KEY_CHARACTERS:
                raise ValueError(f"{whose}: a key has {_KEY_CHARACTERS} characters of Z85, this one has {len(key)}")

    def guard(self, binding: zmq.Socket[bytes]) -> None:
        """Let only encrypted connections in."""
        binding.setsockopt(zmq.CURVE_SERVER, 1)
        self._identify(binding)

    def seal(self, connecting: zmq.Socket[bytes], name: str) -> None:
        """Encrypt to the key of `name`, who is in `server_keys`."""
        connecting.setsockopt(zmq.CURVE_SERVERKEY, self.server_keys[name])
        self._identify(connecting)

    def _identify(self, socket: zmq.Socket[bytes]) -> None:
        socket.setsockopt(zmq.CURVE_PUBLICKEY, self.public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self.secret)
