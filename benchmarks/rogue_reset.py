"""A ZMTP ping behind more messages than a queue holds, then a reset: what ended a process in libzmq 4.3.5.

python -m benchmarks.rogue_reset [--attempts 1000] [--modes open,stranger,join,member] [--hold 5] [--out FOLDER]

A real client of libzmq writes messages and pings, sealed where there are keys, to a relay in this process. The relay
passes on the handshake, gathers what follows, and writes it to the peer in one burst, then resets the connection.
"""

from __future__ import annotations

import contextlib
import os
import random
import selectors
import socket
import struct
import time
from collections import Counter

import zmq

from benchmarks.kit import command
from benchmarks.kit.launcher import end_tidily_on_signals
from benchmarks.kit.machine import circumstances, heading
from benchmarks.rogues.peer import Watched
from gossipdistill.machine.listening import free_ports

Pair = tuple[bytes, bytes]
_PING_EVERY_MS = 2
_SHAKEN_WITHIN_S = 5.0
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER for no time: the connection is reset when it is closed."""
DELAYS_S = (0.0, 0.0002, 0.0005, 0.001, 0.002, 0.004)
MODES = ("open", "stranger", "join", "member")
"""No keys; a key that nobody knows, without and with a join secret; the key of a member."""


def attempt(
    at: tuple[str, int], public: bytes | None, pair: Pair | None, delay_s: float, messages: int = 40, size: int = 1
) -> str:
    """One burst and a reset `delay_s` later. Returns what became of it: "reset", or "refused" before a word was said.

    Raises:
        OSError: when nobody listens there.
    """
    context = zmq.Context()
    client = context.socket(zmq.DEALER)
    with socket.create_server(("127.0.0.1", 0)) as door, contextlib.ExitStack() as open_:
        open_.callback(context.destroy, 0)
        for option, value in (
            (zmq.LINGER, 0),
            (zmq.HEARTBEAT_IVL, _PING_EVERY_MS),
            (zmq.HEARTBEAT_TIMEOUT, 60_000),
            (zmq.SNDHWM, 0),
            (zmq.RECONNECT_IVL, -1),
        ):
            client.setsockopt(option, value)
        if public is not None and pair is not None:
            client.setsockopt(zmq.CURVE_SERVERKEY, public)
            client.setsockopt(zmq.CURVE_PUBLICKEY, pair[0])
            client.setsockopt(zmq.CURVE_SECRETKEY, pair[1])
        shaken = client.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        client.connect(f"tcp://127.0.0.1:{door.getsockname()[1]}")
        theirs = open_.enter_context(door.accept()[0])
        mine = open_.enter_context(socket.create_connection(at, 1.0))
        for one in theirs, mine:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        until_s = time.monotonic() + _SHAKEN_WITHIN_S
        while not shaken.poll(0):
            if time.monotonic() > until_s or not _relay(theirs, mine):
                client.disable_monitor()
                return "refused"
        client.disable_monitor()
        for _ in range(messages):
            client.send(bytes(size), zmq.NOBLOCK)
        gathered, until_s = b"", time.monotonic() + 8 * _PING_EVERY_MS / 1000
        while time.monotonic() < until_s:
            gathered += _what_came(theirs)
        mine.settimeout(2.0)
        with contextlib.suppress(OSError):
            mine.sendall(gathered)
        _wait(delay_s)
        mine.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        return "reset"


def _relay(theirs: socket.socket, mine: socket.socket) -> bool:
    """Pass on what has come either way; False when an end is gone."""
    with selectors.DefaultSelector() as waiting:
        waiting.register(theirs, selectors.EVENT_READ, mine)
        waiting.register(mine, selectors.EVENT_READ, theirs)
        for key, _ in waiting.select(0.002):
            source: socket.socket = key.fileobj  # type: ignore[assignment]
            block = source.recv(65536)
            if not block:
                return False
            key.data.sendall(block)
    return True


def _what_came(theirs: socket.socket) -> bytes:
    theirs.settimeout(0.002)
    with contextlib.suppress(TimeoutError):
        return theirs.recv(65536)
    return b""


def _wait(seconds: float) -> None:
    end_s = time.perf_counter() + seconds
    while time.perf_counter() < end_s:
        pass


def series(mode: str, attempts: int, hold_s: float, seed: int) -> tuple[Counter[str], int | None]:
    """So many attempts at one of two peers; what became of them, and the exit code of the peer if it has ended."""
    flips, names = random.Random(seed), ("ada", "bo")
    keys = {} if mode == "open" else {name: zmq.curve_keypair() for name in (*names, "eve")}
    ports = free_ports(names, "127.0.0.1", set())
    join = os.urandom(32) if mode == "join" else None
    peers = [Watched(name, ports, keys, join) for name in names]
    became: Counter[str] = Counter()
    try:
        for peer in peers:
            peer.ready()
        for number in range(attempts):
            if peers[0].exit_code() is not None:
                break
            if hold_s and number % 100 == 0:
                peers[0].do("hold", hold_s)
            pair = None if mode == "open" else keys["eve"] if mode == "member" else zmq.curve_keypair()
            at = ("127.0.0.1", ports["ada"] + number % 2)
            messages = 700 if number % 2 == 0 else 40  # more than a queue of control, or of data, once held
            with contextlib.suppress(OSError):
                became[attempt(at, keys["ada"][0] if keys else None, pair, flips.choice(DELAYS_S), messages)] += 1
        time.sleep(0.5)
        return became, peers[0].exit_code()
    finally:
        for peer in peers:
            peer.end()


def main() -> int:
    """Attack, print what became of it, write `rogue_reset.md`; 0 if the peer lives in every mode."""
    parser = command.parser(__doc__)
    parser.add_argument("--attempts", type=int, default=1000)
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--hold", type=float, default=5.0, help="seconds, in the second series")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    end_tidily_on_signals()
    lines = [
        "# A ping and a reset",
        "",
        *heading(circumstances("benchmarks.rogue_reset")),
        "",
        "Each attempt writes messages and ZMTP pings to one of the two ports of a peer in one burst, and resets the "
        "connection 0 to 4 ms later. A held network thread reads nothing for some seconds now and then.",
        "",
        "| mode | its network thread is held | attempts | of them refused before a word | the peer |",
        "| --- | --- | --- | --- | --- |",
    ]
    deaths = 0
    for hold_s in dict.fromkeys((0.0, asked.hold)):
        for mode in asked.modes.split(","):
            became, code = series(mode, asked.attempts, hold_s, asked.seed)
            ending = "lives" if code is None else f"ended with {code}"
            deaths += code is not None
            held = f"{hold_s:g} s" if hold_s else "no"
            lines.append(f"| {mode} | {held} | {became.total()} | {became['refused']} | {ending} |")
            print(lines[-1], flush=True)
    command.keep(asked.out, "rogue_reset", lines)
    return int(deaths > 0)


if __name__ == "__main__":
    raise SystemExit(main())
