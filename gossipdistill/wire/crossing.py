"""Encoding and decoding without a socket: for simulations, so that their messages are those that can travel."""

from __future__ import annotations

from gossipdistill.limits import DEFAULT_LIMITS, Limits
from gossipdistill.messages import Envelope
from gossipdistill.wire.codec import decode, encode
from gossipdistill.wire.errors import WireCode, WireError
from gossipdistill.wire.pieces import Assembly, split


def cross(envelope: Envelope, limits: Limits = DEFAULT_LIMITS) -> tuple[Envelope, int]:
    """Return the envelope that its reader gets, and the number of bytes on the wire: encoded, cut if large, decoded,
    assembled.

    Raises:
        WireError: for an envelope that breaks the limits, as its reader would.
    """
    assembly, nbytes, whole = Assembly(limits), 0, None
    for part in split(envelope, limits):
        frames = encode(part)
        nbytes += sum(len(frame) for frame in frames)
        whole = assembly.feed(decode(frames, limits))
    if whole is None:
        raise WireError(WireCode.BODY, "its layout describes more bytes than its body has", envelope.sender)
    return whole, nbytes
