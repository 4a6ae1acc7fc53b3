"""A doctor beside one that answers at a peer's address and is no peer."""

from __future__ import annotations

import threading
import time

import pytest
import zmq

from gossipdistill.doctor import talk as talk_module
from gossipdistill.doctor.meetings import Meetings
from gossipdistill.doctor.talk import talk
from gossipdistill.errors import AddressError
from gossipdistill.presence import Address
from tests.drivers.harness import free_address


def asked(hostile: Address, seconds: float) -> Meetings:
    """A doctor named ada has looked for bo at this address for so long."""
    meetings = Meetings("ada", 1, Address("127.0.0.1", 1), 0, {"gossipdistill": "0.1.0"}, ["bo"], [], listens=False)
    talk(meetings, 1, None, {"bo": hostile}, seconds, 0.0, lambda missing, left_s: None)
    return meetings


def answer(address: Address, frames: list[bytes], until: threading.Event) -> None:
    """Say this to whoever calls, again and again."""
    context = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.bind(f"tcp://{address}")
    poller = zmq.Poller()
    poller.register(router, zmq.POLLIN)
    callers: set[bytes] = set()
    while not until.is_set():
        if poller.poll(5):
            callers.add(router.recv_multipart(copy=True)[0])
        for one in callers:
            router.send_multipart([one, *frames], zmq.NOBLOCK)
    context.destroy(linger=0)


@pytest.mark.parametrize("frames", [[b"rubbish"], [b""] * 500, [bytes(60_000)] * 3], ids=["words", "frames", "bytes"])
def test_rubbish_is_not_taken_for_an_answer(frames: list[bytes]) -> None:
    address, over = free_address(), threading.Event()
    byzantine = threading.Thread(target=answer, args=(address, frames, over))
    byzantine.start()
    try:
        began_s = time.monotonic()
        meetings = asked(address, 0.5)
        assert meetings.missing(time.monotonic()) == ["bo"]
        assert time.monotonic() - began_s < 5.0
    finally:
        over.set()
        byzantine.join(10)


def test_more_than_any_peer_sends_ends_the_doctor_with_words(monkeypatch: pytest.MonkeyPatch) -> None:
    held = iter([100 << 20, 200 << 20, 400 << 20])
    monkeypatch.setattr(talk_module.Resources, "resident_bytes", lambda _: next(held))
    with pytest.raises(AddressError, match="find out which process has the addresses of the roster"):
        asked(free_address(), 5.0)
