"""Files and memory that strangers cannot take: who knocks too often, and whose message never ends."""

from __future__ import annotations

import contextlib
import resource
import socket
from dataclasses import replace

import pytest
import zmq

from gossipdistill.drivers.overload.gate import Gate, Usage
from gossipdistill.drivers.overload.resources import (
    Resources,
    ask_for_files,
    bytes_received,
    connections,
    cut,
    files_within_reach,
)
from gossipdistill.drivers.overload.unread_bytes import Backlog, Measure, UnreadLedger
from gossipdistill.drivers.zeromq.readable_sockets import ReadableSocket
from gossipdistill.drivers.zeromq.reading import Reading
from gossipdistill.events import EventKind
from gossipdistill.ids import Boot, PeerName
from gossipdistill.limits import DEFAULT_LIMITS, Limits
from gossipdistill.messages import Envelope, Mode
from gossipdistill.presence import Ping
from gossipdistill.wire.codec import encode

from .harness import LIMITS, Node, Stranger, exchange_works, free_address, pair, wait_until

MB = 1_000_000
PLENTY = Usage(open_files=40, files_max=1024, resident_bytes=200 * MB, resident_bytes_max=1000 * MB)


class Told(Resources):
    """What a test says of files and memory; None: as it is."""

    def __init__(self) -> None:
        self.open: int | None = None
        self.resident: int | None = None

    def files_max(self) -> int:
        return 1024 if self.open is not None else super().files_max()

    def open_files(self) -> int | None:
        return self.open if self.open is not None else super().open_files()

    def resident_bytes(self) -> int | None:
        return self.resident if self.resident is not None else super().resident_bytes()

    def memory_bytes(self) -> int | None:
        return 1000 * MB


def test_the_gate_closes_before_files_are_short_and_opens_when_there_is_room_again() -> None:
    gate = Gate(DEFAULT_LIMITS)
    assert gate.look(PLENTY) is None
    assert gate.look(replace(PLENTY, open_files=1024 - 512)) is None
    kind, reason = gate.look(replace(PLENTY, open_files=1024 - 511)) or ("", "")
    assert (kind, gate.is_open) == (EventKind.LISTENER_CLOSED, False)
    assert "513 of 1024 files are open, and 512 stay in reserve" in reason
    for free in 511, 512, 639:
        assert gate.look(replace(PLENTY, open_files=1024 - free)) is None
        assert not gate.is_open
    kind, _ = gate.look(replace(PLENTY, open_files=1024 - 640)) or ("", "")
    assert (kind, gate.is_open) == (EventKind.LISTENER_OPENED, True)
    assert not gate.sheds(replace(PLENTY, open_files=1020))


def test_where_there_are_few_files_half_of_them_are_in_reserve() -> None:
    gate = Gate(DEFAULT_LIMITS)
    assert gate.look(Usage(100, 256, None, None)) is None
    assert gate.look(Usage(129, 256, None, None)) is not None


def test_the_gate_closes_and_sheds_when_memory_is_short_and_opens_when_it_has_fallen() -> None:
    gate = Gate(DEFAULT_LIMITS)
    full = replace(PLENTY, resident_bytes=1001 * MB)
    kind, reason = gate.look(full) or ("", "")
    assert (kind, reason) == (
        EventKind.LISTENER_CLOSED,
        "takes no more connections in: 1001 MB are in use, more than 1000 MB",
    )
    assert gate.sheds(full)
    less = replace(PLENTY, resident_bytes=951 * MB)
    assert gate.look(less) is None
    assert not gate.sheds(less)
    assert (gate.look(replace(PLENTY, resident_bytes=950 * MB)) or ("",))[0] is EventKind.LISTENER_OPENED


def test_what_cannot_be_told_closes_nothing() -> None:
    assert Gate(DEFAULT_LIMITS).look(Usage(None, 1024, None, 1)) is None
    assert Gate(DEFAULT_LIMITS).look(Usage(1, 1024, 1, None)) is None


def test_a_hoard_is_what_came_and_was_not_handed_over() -> None:
    unread_bytes = UnreadLedger(DEFAULT_LIMITS)
    assert unread_bytes.look(7, 1, 5 * MB, 0.0) == 0  # what was before the first look is not known
    unread_bytes.delivered(7, 2, 2 * MB, "bo")
    unread_bytes.delivered(8, 2, 2 * MB, "cy")  # of one that was not seen yet
    assert 0.9 * MB < unread_bytes.look(8, 5, 3 * MB, 1.0) <= 1 * MB
    assert unread_bytes.sender_of(8) == "cy"
    assert unread_bytes.look(7, 1, 7 * MB, 1.0) == 0
    waits = unread_bytes.look(7, 1, 9 * MB, 2.0)
    assert 1.9 * MB < waits <= 2 * MB
    assert unread_bytes.sender_of(7) == "bo"
    assert unread_bytes.look(7, 2, 9 * MB, 3.0) == 0  # another connection with the same descriptor
    assert unread_bytes.sender_of(7) == ""
    unread_bytes.keep({9})
    assert unread_bytes.by_fd == {}
    assert unread_bytes.sender_of(7) == ""


def test_what_encryption_and_heartbeats_add_is_no_hoard_in_a_year() -> None:
    unread_bytes, came, now = UnreadLedger(DEFAULT_LIMITS), 0, 0.0
    unread_bytes.look(7, 1, came, now)
    for _ in range(365):
        now += 86400.0
        came += 86400 * 60 + 1000 * (4 * MB + 60)  # heartbeats, and a thousand frames of 4 MB a day
        unread_bytes.delivered(7, 1000, 4000 * MB, "bo")
        assert unread_bytes.look(7, 1, came, now) < 1 * MB


def test_the_kernel_tells_what_came_on_a_connection_and_ends_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as theirs:
            mine, _ = listener.accept()
            with mine:
                theirs.sendall(b"x" * 1000)
                mine.recv(1000, socket.MSG_WAITALL)
                (found,) = [one for one in connections() if one.port == port and not one.listens]
                assert bytes_received(found) == 1000
                assert not cut(replace(found, inode=found.inode + 1))
                assert cut(found)
                assert theirs.recv(1) == b""


def test_when_files_are_short_nobody_new_gets_in_and_those_who_are_there_go_on(nodes: list[Node]) -> None:
    told = Told()
    told.open = 40
    ada, bo = pair(nodes, resources=told)
    told.open = 1000
    with socket.create_connection(tuple(ada.roster["ada"]), 5):  # a knock: it looks at once
        wait_until(lambda: EventKind.LISTENER_CLOSED in ada.kinds(""))
    with socket.socket() as late:
        late.settimeout(0.2)
        with pytest.raises(TimeoutError):
            late.connect(tuple(ada.roster["ada"]))
    exchange_works(ada, bo, 1)
    told.open = 40
    wait_until(lambda: EventKind.LISTENER_OPENED in ada.kinds(""))
    with socket.create_connection(tuple(ada.roster["ada"]), 5):
        exchange_works(ada, bo, 2)


def test_strangers_hold_so_many_connections_and_no_more(nodes: list[Node]) -> None:
    ada, bo = pair(nodes, limits=replace(LIMITS, silent_connections_max=100, guard_interval_s=0.02))
    exchange_works(ada, bo, 1)
    with contextlib.ExitStack() as held:
        for number in range(300):
            port = ada.roster["ada"].port + number % 2
            held.enter_context(socket.create_connection(("127.0.0.1", port), 5))
        at = ada.roster["ada"]
        wait_until(lambda: sum(one.port in (at.port, at.data_port) for one in connections()) < 150)
        exchange_works(ada, bo, 2)
    (told,) = [event.reason for event in ada.events() if event.kind is EventKind.CUT_OFF]
    assert "strangers hold too many connections" in told


def test_a_process_asks_for_files_and_never_for_fewer() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, hard), hard))
        assert files_within_reach(600) == min(600, hard)
        ask_for_files(600)
        ask_for_files(300)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(600, hard), hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_when_memory_is_short_connections_of_others_go_and_come_back_when_it_has_fallen(nodes: list[Node]) -> None:
    told = Told()
    told.resident = 500 * MB
    ada, bo = pair(nodes, resources=told)
    with socket.create_connection(tuple(ada.roster["ada"]), 5) as idle:
        idle.settimeout(8)
        assert idle.recv(1)  # libzmq's first word: it has been taken in
        told.resident = 950 * MB
        wait_until(lambda: {EventKind.LISTENER_CLOSED, EventKind.CUT_OFF} <= set(ada.kinds("")))
        while idle.recv(64):
            pass
    told.resident = 500 * MB
    wait_until(lambda: EventKind.LISTENER_OPENED in ada.kinds(""))
    wait_until(lambda: ada.sees("bo") and bo.sees("ada"))
    exchange_works(ada, bo, 1)


def test_a_message_that_never_ends_is_cut_off_and_its_sender_named(nodes: list[Node]) -> None:
    limits = replace(LIMITS, unread_bytes_max=4 << 20, guard_interval_s=0.02)
    roster = {"ada": free_address(), "bo": free_address(), "eve": free_address()}
    ada, bo = (Node(name, roster, limits=limits) for name in ("ada", "bo"))
    nodes += [ada, bo]
    wait_until(lambda: ada.sees("bo") and bo.sees("ada"))
    part = bytes(1 << 20)
    with Stranger(roster["ada"], "eve/5", data=True) as eve:
        eve.say(*encode(Envelope(PeerName("eve"), Boot(5), "ada", 0, Ping(0, 1, False))))
        wait_until(lambda: ("eve", 5) in ada.driver.ingress.speakers.values())
        monitor = eve.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        eve.socket.send_multipart([part] * 1024, copy=False)  # 1 GB to come; it is not said how much
        assert monitor.poll(5000), "the connection is cut"
        eve.socket.disable_monitor()
    wait_until(lambda: EventKind.CUT_OFF in ada.kinds("eve"))
    assert ada.driver.peer.scores.turned_away_in_words["eve: hoard"] >= 1
    exchange_works(ada, bo, 1)


def test_limits_say_what_an_honest_connection_holds() -> None:
    limits = Limits()
    unfinished = 2 * (limits.piece_bytes_max + limits.header_bytes_max + limits.data_buffer_bytes)
    assert unfinished < limits.unread_bytes_max / 4
    assert 8 * (limits.control_bytes_max + limits.control_buffer_bytes) < limits.unread_control_bytes_max
    assert limits.paused_s_max < limits.blocked_after_s / 2


def judged(waits: int, is_data: bool = True, in_excess: bool = False) -> Measure | None:
    """Of a connection of which so much waits, in MB."""
    unread_bytes = UnreadLedger(DEFAULT_LIMITS)
    unread_bytes.look(7, 1, 0, 0.0)
    unread_bytes.delivered(7, 1, 0, "bo", in_excess)
    return unread_bytes.judge(7, waits * MB, is_data, 0.0)


def test_who_is_paused_and_who_is_cut_off() -> None:
    assert [judged(60), judged(70)] == [None, Measure.PAUSE]
    assert [judged(4, is_data=False), judged(5, is_data=False)] == [None, Measure.CUT]
    assert [judged(1, in_excess=True), judged(2, in_excess=True)] == [None, Measure.CUT]


def test_a_paused_connection_goes_on_when_it_was_read_or_is_cut_off() -> None:
    unread_bytes = UnreadLedger(DEFAULT_LIMITS)
    for fd in 7, 8:
        unread_bytes.look(fd, 1, 0, 0.0)
        unread_bytes.delivered(fd, 1, 0, "bo")
        assert unread_bytes.judge(fd, 70 * MB, True, 0.0) is Measure.PAUSE
        assert unread_bytes.is_paused(fd)
        assert unread_bytes.judge(fd, 60 * MB, True, 1.9) is None
    assert unread_bytes.judge(7, 16 * MB, True, 1.9) is Measure.GO_ON
    assert not unread_bytes.is_paused(7)
    assert unread_bytes.judge(8, 60 * MB, True, 2.1) is Measure.CUT


def test_memory_that_grows_while_there_is_more_to_read_is_a_backlog() -> None:
    backlog = Backlog()
    assert backlog.look(500 * MB, False) == 0
    assert backlog.look(900 * MB, False) == 0
    assert backlog.look(1000 * MB, True) == 100 * MB
    assert backlog.look(800 * MB, True) == 0
    assert backlog.look(1800 * MB, True) == 900 * MB
    assert backlog.look(1800 * MB, False) == 0
    assert backlog.look(None, True) == 0


def test_the_gate_closes_while_too_much_waits() -> None:
    gate = Gate(DEFAULT_LIMITS)
    much = replace(PLENTY, queued_bytes=600 << 20)
    assert not gate.is_behind(PLENTY)
    assert gate.is_behind(much)
    kind, reason = gate.look(much) or ("", "")
    assert (kind, gate.is_open) == (EventKind.LISTENER_CLOSED, False)
    assert "629 MB wait to be read, more than 537 MB" in reason
    assert (gate.look(PLENTY) or ("",))[0] is EventKind.LISTENER_OPENED


def test_a_body_that_comes_faster_than_it_is_read_is_paused_and_comes(nodes: list[Node]) -> None:
    limits = replace(LIMITS, unread_bytes_max=4 << 20, piece_bytes_max=256 << 10, guard_interval_s=0.005)
    ada, bo = pair(nodes, limits=limits)
    exchange_works(ada, bo, 1)
    drain = Reading.drain

    def one_turn_in_a_while(reading: Reading, readable: ReadableSocket) -> bool:
        """Much may come between two turns."""
        return drain(reading, readable) if reading.ingress.clock() * 50 % 1 < 0.1 else True

    paused: list[int] = []
    pause = UnreadLedger.pause

    def noted(unread_bytes: UnreadLedger, fd: int, now: float) -> Measure:
        paused.append(fd)
        return pause(unread_bytes, fd, now)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(UnreadLedger, "pause", noted)
        patch.setattr(Reading, "drain", one_turn_in_a_while)
        bo.post(2, "ada", Mode.PULL, size=64 << 20)
        wait_until(lambda: 2 in ada.values("bo"), 20.0)
    assert paused
    assert EventKind.CUT_OFF not in ada.kinds("bo")


def test_a_message_of_too_many_frames_is_refused_and_holds_nobody_up(nodes: list[Node]) -> None:
    ada, bo = pair(nodes)
    for data in False, True:
        with Stranger(ada.roster["ada"], "eve/5", data=data) as eve:
            eve.socket.send_multipart([b""] * 5000)
            wait_until(lambda: ada.driver.peer.unreadable.counts.get("parts") == 1 + data)  # noqa: B023
            exchange_works(ada, bo, 1 + data)
            wait_until(lambda: not ada.driver.readable.overlong)
