"""An address where this machine cannot listen is refused with the advice that fits the reason."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Sequence

import pytest

from gossipdistill.config.plan import Asked, plan_worker
from gossipdistill.errors import AddressError
from gossipdistill.machine import listening
from gossipdistill.machine.listening import own_addresses, refuse_unusable
from gossipdistill.machine.lookups import LookUp
from gossipdistill.presence import NOWHERE, Address

ELSEWHERE = "192.0.2.17"
"""Of a block that is kept for documents (RFC 5737): no machine has it."""


def refusal(address: Address, name: str = "ada") -> str:
    with pytest.raises(AddressError) as caught:
        refuse_unusable({name: address}, "listen elsewhere")
    return str(caught.value)


@pytest.mark.parametrize("host", [ELSEWHERE, "2001:db8::17"])
def test_newcomer_12_an_address_of_another_machine_is_not_called_in_use(host: str) -> None:
    address = Address(host, 7400)
    words = refusal(address)
    assert f"ada cannot listen at {address}: {host} is no address of this machine" in words
    assert f"--listen 0.0.0.0:7400 --advertise {address}" in words
    assert re.search(r"this machine has .*127\.0\.0\.1", words)
    assert "in use" not in words
    assert "other program" not in words


def test_newcomer_12_a_name_that_leads_elsewhere_or_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"gpu.lab": LookUp((ELSEWHERE,), 0.0), "typo.lab": LookUp((), 0.0, "Name or service not known")}

    def look_up(hosts: Sequence[str]) -> dict[str, LookUp]:
        return {host: known[host] for host in hosts}

    monkeypatch.setattr(listening, "look_up_all", look_up)
    words = refusal(Address("gpu.lab", 7400))
    assert f"gpu.lab is {ELSEWHERE}, which is no address of this machine; this machine has " in words
    assert "--advertise gpu.lab:7400" in words
    words = refusal(Address("typo.lab", 7400))
    assert "the name typo.lab is not found (Name or service not known); this machine has " in words


def test_newcomer_12_in_use_is_said_of_what_is_in_use_with_its_holder() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert port <= 65_534
        words = refusal(Address("127.0.0.1", port))
        assert f"ada cannot listen at 127.0.0.1:{port}: Address already in use" in words
        assert f"by process {os.getpid()} (" in words
        assert "no address of this machine" not in words
        as_data = refusal(Address("127.0.0.1", port - 1))
        assert f"ada cannot listen at 127.0.0.1:{port}: " in as_data
        assert "listen elsewhere" in as_data


def test_own_addresses_can_be_listened_on_and_loopback_comes_last() -> None:
    mine = own_addresses()
    assert "127.0.0.1" in mine
    assert all(map(listening.is_mine, mine))
    assert ELSEWHERE not in mine
    assert {"127.0.0.1", "::1"}.isdisjoint(mine[:-2])


def test_who_listens_nowhere_is_not_looked_at() -> None:
    refuse_unusable({"ada": NOWHERE}, "")


@pytest.mark.parametrize("place", [("listen", f"{ELSEWHERE}:7400"), ("advertise", f"{ELSEWHERE}:7400")])
def test_newcomer_12_the_command_line_is_answered_in_its_own_words(
    place: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("SET", "PEERS"):
        monkeypatch.delenv(f"GOSSIPDISTILL_{key}", raising=False)
    from gossipdistill.keys.choice import KeyOptions

    option, value = place
    listen, advertise = (value, None) if option == "listen" else (value, value)
    with pytest.raises(AddressError, match=f"--listen 0.0.0.0:7400 --advertise {re.escape(value)}"):
        plan_worker(Asked(key_options=KeyOptions(insecure=True)), "ada", listen, advertise, "1/2", 1, 0.0, False)
