"""How far a thing walks through the code: three walks, counted while they happen on two real peers of this process.

    python -m benchmarks.walks

A room is a module of the package that is called with the thing, or with something that holds it, as an argument. A
return is a step back into a room that was left before. A form is a class that holds the thing on its way.

    prediction    from `publish` of one peer's strategy to its sockets, and from the other's sockets into `mix`
    parcel        the same for a share of push-sum mass, and the verdict on it all the way back
    key           `--set exchange.stale_after_s=...` from the command line to the strategy of a peer
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from types import FrameType
from typing import Any

from benchmarks.kit.command import keep, parser
from gossipdistill.assembly.worker import build_worker
from gossipdistill.config.plan import Asked, plan_local
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.drivers.network_thread import NetworkThread
from gossipdistill.drivers.zeromq import Driver
from gossipdistill.ids import Boot, PeerName
from gossipdistill.limits import DEFAULT_LIMITS
from gossipdistill.machine.listening import free_ports
from gossipdistill.presence import Address, Contact
from gossipdistill.protocol.members import Identity
from gossipdistill.protocol.peer import Peer
from gossipdistill.strategies import STRATEGIES

_PACKAGE = "gossipdistill."
_VOCABULARY = "gossipdistill.messages"
"""Its properties are read everywhere: no room of a walk."""
_NAMES = ("ada", "bo")
_DEPTH = 4
_PATIENCE_S = 60.0
_SENTINEL_S = 5.4321
"""No other value of the configuration is this one."""


@dataclass
class Walk:
    """The rooms in which one thing was seen, by leg of the walk, and the classes that held it."""

    holds: Callable[[Any], bool]
    leg: Callable[[], str | None]
    """The leg that this thread is on now; None: nothing is counted."""
    rooms: dict[str, list[str]] = field(default_factory=dict)
    forms: dict[str, None] = field(default_factory=dict)

    def look(self, frame: FrameType, what: str, _: object) -> None:
        """For `sys.setprofile`."""
        room = str(frame.f_globals.get("__name__", ""))
        if what != "call" or not room.startswith(_PACKAGE) or room == _VOCABULARY or (leg := self.leg()) is None:
            return
        code = frame.f_code
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        if any(name != "self" and self._in(frame.f_locals.get(name)) for name in names):
            seen = self.rooms.setdefault(leg, [])
            if not seen or seen[-1] != room:
                seen.append(room)

    def _in(self, value: Any, depth: int = _DEPTH) -> bool:
        holds = self.holds(value)
        if not holds and depth and not isinstance(value, str | bytes | int | float | None):
            holds = any(self._in(part, depth - 1) for part in _parts(value))
        if holds and type(value).__module__.startswith(_PACKAGE):
            self.forms[type(value).__name__] = None
        return holds

    def rows(self, name: str) -> list[str]:
        """Of the report: one for each leg."""
        rows = []
        for leg, rooms in self.rooms.items():
            returns = sum(after in rooms[:place] for place, after in enumerate(rooms))
            rows.append(f"| {name}, {leg} | {len(set(rooms))} | {returns} |")
        return [*rows, f"| {name}: classes that hold it | {len(self.forms)}: {', '.join(self.forms)} | |"]


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple | list):
        yield from value[:8]
    elif isinstance(value, dict):
        yield from list(value.values())[:64]
    elif is_dataclass(value):
        for one in fields(value):
            yield getattr(value, one.name, None)
    elif hasattr(type(value), "model_fields"):
        yield from (getattr(value, name, None) for name in type(value).model_fields)


@contextmanager
def watched(walk: Walk) -> Iterator[None]:
    """Every call of this thread, and of those that begin meanwhile, is looked at."""
    threading.setprofile(walk.look)
    sys.setprofile(walk.look)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def _of_topic(topic: str) -> Callable[[Any], bool]:
    """A content of this topic, its frames, or a verdict on it."""

    def holds(value: Any) -> bool:
        if isinstance(value, memoryview | bytes):
            return len(value) in sizes
        if getattr(value, "topic", None) != topic:
            return False
        payload = getattr(value, "payload", None)
        if payload is not None:
            sizes.add(payload.nbytes)
        return True

    sizes: set[int] = set()
    return holds


def _peers(strategy: str, ports: dict[str, int]) -> Iterator[tuple[Any, Any]]:
    """Worker and network thread of each peer."""
    addresses = {name: Address("127.0.0.1", port) for name, port in ports.items()}
    for place, name in enumerate(_NAMES):
        network = NetworkThread()
        spec = WorkerSpec.in_process(name, _NAMES, {"strategy.name": strategy, "exchange.every_steps": 1})
        worker = build_worker(spec, network.mailbox)
        contacts = [Contact(PeerName(other), addresses[other], at) for at, other in enumerate(_NAMES)]
        me = Identity(PeerName(name), Boot(1), addresses[name], place, {"run": "walks"})
        peer = Peer(me, len(_NAMES), contacts, now=time.monotonic())
        driver = Driver(peer, network.mailbox, addresses[name], DEFAULT_LIMITS, time.monotonic)
        driver.bind()
        network.start(driver)
        yield worker, network


def exchanged(strategy: str) -> Walk:
    """The walk of what the first of two peers of this strategy says to the second, and of the second's verdict."""
    leg_of: dict[int | None, str] = {}
    walk = Walk(_of_topic(STRATEGIES[strategy].topic), lambda: leg_of.get(threading.get_ident()))
    with watched(walk):
        (ada, to_bo), (bo, to_ada) = peers = list(_peers(strategy, free_ports(_NAMES, "127.0.0.1", set())))
        try:
            until(lambda: all(network.mailbox.neighbourhood().alive for _, network in peers))
            me = threading.get_ident()
            ada_net, bo_net = [one.ident for one in threading.enumerate() if one.name == "network"][-2:]
            leg_of.update({me: "out", ada_net: "out", bo_net: "in"})
            ada.step(time.monotonic())
            leg_of.pop(me)
            until(to_ada.mailbox.waiting)
            leg_of[me] = "in"
            bo.gossip.begin_step(time.monotonic())
            leg_of.pop(me)
            if STRATEGIES[strategy].delivery.settled:
                leg_of.update({ada_net: "back", bo_net: "back"})
                until(lambda: not to_bo.mailbox.room.in_flight())
        finally:
            for _, network in peers:
                network.stop("finished")
    return walk


def until(holds: Callable[[], Any]) -> None:
    """Wait for the network threads."""
    pause, end_s = threading.Event(), time.monotonic() + _PATIENCE_S
    while not holds():
        if time.monotonic() > end_s:
            raise SystemExit("nothing was exchanged")
        pause.wait(0.005)


def configured() -> Walk:
    """The walk of a key from the command line to a strategy."""
    text = f"exchange.stale_after_s={_SENTINEL_S}"
    walk = Walk(lambda value: value in (_SENTINEL_S, text) if isinstance(value, float | str) else False, lambda: "in")
    with watched(walk):
        spec = plan_local(Asked(peers="2", settings=[text]))[0]
        strategy = WorkerSpec.from_json(spec.to_json()).config.make_strategy()
        assert strategy.exchange.stale_after_s == _SENTINEL_S
    return walk


def main() -> None:
    """Count the three, and write the report."""
    args = parser(__doc__).parse_args()
    lines = [
        "# Three walks",
        "",
        "`python -m benchmarks.walks`",
        "",
        "| thing | rooms | returns |",
        "| --- | --- | --- |",
    ]
    lines += exchanged("codistill_predictions").rows("prediction")
    lines += exchanged("sgp").rows("parcel of mass")
    lines += configured().rows("key")
    keep(args.out, "walks", lines)


if __name__ == "__main__":
    main()
