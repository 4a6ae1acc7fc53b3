"""Rosters: counts, names, files, and what is said about a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipdistill.errors import ConfigError
from gossipdistill.ids import is_peer_name
from gossipdistill.roster import (
    PEERS_MAX,
    Address,
    Roster,
    classify,
    is_loopback,
    load_roster,
    parse_address,
)


def entry(name: str = "ada", address: str = "127.0.0.1:7400", more: str = "") -> str:
    return f'[[peer]]\nname = "{name}"\naddress = "{address}"\n{more}\n'


KEY = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"
DIALS_OUT = '[[peer]]\nname = "{}"\nlisten = "none"\n'


def written(folder: Path, *entries: str) -> Roster:
    (folder / "mine.toml").write_text("\n".join(entries), encoding="utf-8")
    return load_roster("mine.toml", folder)


def test_a_count_makes_named_local_peers_whose_ports_are_still_to_be_picked() -> None:
    roster = load_roster("14")
    assert roster.names[:4] == ("ada", "bo", "cy", "dee")
    assert roster.names[-3:] == ("lou", "peer-13", "peer-14")
    assert roster.without_ports == roster.names
    assert {one.address for one in roster.peer} == {Address("127.0.0.1", 0)}


@given(st.integers(1, 300))
def test_counted_names_are_valid_and_distinct(count: int) -> None:
    names = load_roster(str(count)).names
    assert len(set(names)) == count
    assert all(is_peer_name(name) for name in names)


@pytest.mark.parametrize("count", ["0", "-3", str(PEERS_MAX + 1)])
def test_impossible_counts(count: str) -> None:
    with pytest.raises(ConfigError, match=f"accepted: 1 to {PEERS_MAX}"):
        load_roster(count)


def test_the_roster_of_the_manual() -> None:
    roster = load_roster("unlike-4")
    assert roster.names == ("ada", "bo", "cy", "dee")
    assert roster.place("cy") == 2
    assert roster.entry("bo").set == {"task.model": "cnn"}
    assert str(roster.entry("dee").address) == "127.0.0.1:7406"
    assert roster.entry("dee").address.data_port == 7407
    assert roster.without_ports == ()


def test_who_listens_nowhere_has_no_address_and_is_given_no_port(tmp_path: Path) -> None:
    roster = written(tmp_path, entry(address="127.0.0.1:0"), DIALS_OUT.format("bo"), DIALS_OUT.format("cy"))
    assert [str(one.address) for one in roster.peer] == ["127.0.0.1:0", "nowhere", "nowhere"]
    assert roster.without_ports == ("ada",)
    assert roster.with_ports({"ada": 7400}).entry("bo").address == ("", 0)


def test_all_keys_of_an_entry(tmp_path: Path) -> None:
    more = 'slowdown = 10\ndevice = "cuda:1"\nshard = "3/8"\npublic_key = "' + KEY + '"\n'
    more += 'set = { task.model = "mlp", "train.lr" = 0.1 }'
    one = written(tmp_path, entry(more=more)).entry("ada")
    assert (one.slowdown, one.device, one.shard, one.public_key) == (10.0, "cuda:1", "3/8", KEY)
    assert one.set == {"task.model": "mlp", "train.lr": 0.1}


def test_who_is_trusted_has_a_key_that_is_not_revoked(tmp_path: Path) -> None:
    roster = written(
        tmp_path,
        entry(more=f'public_key = "{KEY}"'),
        entry("bo", "127.0.0.1:7402", f'public_key = "{KEY[::-1]}"\nrevoked = true'),
        entry("cy", "127.0.0.1:7404"),
    )
    assert roster.trusted == {"ada": KEY}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (entry(more='public_key = "abc"'), r"peer 1 \(ada\): public_key = 'abc': is no public key: 40 characters"),
        (
            entry(more=f'public_key = "{KEY}"') + entry("bo", "127.0.0.1:7402", f'public_key = "{KEY}"'),
            "ada and bo have the same public key",
        ),
        ("", r"mine\.toml: has no \[\[peer\]\] entry"),
        ("peer = []", r"has no \[\[peer\]\] entry"),
        ("peer = [3]", r"peer 1: must be a \[\[peer\]\] table"),
        ("peers = 3", "peers: unknown key"),
        ('[[peer]]\nname = "ada"', r"peer 1 \(ada\): lacks an address; give one, or listen = .none"),
        (entry(more='listen = "none"'), r"has the address 127\.0\.0\.1:7400 and listen = .none.; leave one"),
        (entry(more='listen = "127.0.0.1:7400"'), "listen = '127.0.0.1:7400'"),
        (DIALS_OUT.format("ada") + DIALS_OUT.format("bo"), "one at least must have an address that the others dial"),
        (entry() + "adress = 3", r"peer 1 \(ada\): adress: unknown key; did you mean address"),
        (entry("Ada"), r"peer 1 \(Ada\): name = 'Ada': is no peer name: 1 to 64 of a-z"),
        (entry(address="127.0.0.1"), r"address = '127\.0\.0\.1': lacks a port"),
        (entry(address="0.0.0.0:7400"), "can be listened on, but not be reached"),
        (entry(address="ada.lab:0"), "port 0 is for peers of this machine"),
        (entry(address="127.0.0.1:65535"), "port 65535 is not a number from 0 to 65534"),
        (entry(more="slowdown = 0.5"), r"slowdown = 0\.5: it should be greater than or equal to 1"),
        (entry(more='slowdown = "2"'), "slowdown = '2'"),
        (entry(more="slowdown = inf"), "finite"),
        (entry(more='device = "gpu"'), "device = 'gpu': is no device: auto, cpu, cuda or cuda:K"),
        (entry(more='shard = "4/3"'), "shard = '4/3': is no shard"),
        (entry(more="shard = 4"), "shard = 4"),
        (entry(more='set = { task.model = 1, "task.model" = 2 }'), "task.model is given twice"),
        (entry(more='set = "task.model"'), "set = 'task.model'"),
        (entry() + entry("bo") + entry("ada"), r"mine\.toml: .*peers 1 and 3 have the same name 'ada'"),
        (entry() + entry("bo"), r"ada and bo have the same address 127\.0\.0\.1:7400"),
        (entry() + entry("bo", "localhost:7400"), "ada and bo have the same address"),
        (entry() + entry("bo", "127.0.0.1:7401"), r"ports of ada \(127.0.0.1:7400, data on 7401\) and bo .* overlap"),
        (entry() + entry("bo", "127.0.0.1:7399"), r"ports of ada .* and bo \(127.0.0.1:7399, data on 7400\) overlap"),
        ("[[peer", "is not valid TOML"),
    ],
)
def test_messages(tmp_path: Path, text: str, message: str) -> None:
    if "have the same name" in message:
        text = entry() + entry("bo", "127.0.0.1:7402") + entry("ada", "127.0.0.1:7404")
    with pytest.raises(ConfigError, match=message) as caught:
        written(tmp_path, text)
    assert "mine.toml" in str(caught.value)
    assert caught.value.exit_code == 3


def test_one_port_on_several_hosts_is_fine(tmp_path: Path) -> None:
    roster = written(
        tmp_path, entry(address="a.lab:7400"), entry("bo", "b.lab:7400"), entry("cy", "[2001:db8::1]:7400")
    )
    assert str(roster.entry("cy").address) == "[2001:db8::1]:7400"


def test_a_stranger_gets_the_nearest_names() -> None:
    roster = load_roster("4")
    for ask in (roster.place, roster.entry):
        with pytest.raises(ConfigError, match="peer 'addda' is not in the roster; did you mean ada"):
            ask("addda")


def test_unknown_rosters_get_the_nearest_names(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'local4' is not a ready-made name in peers: did you mean local-4"):
        load_roster("local4")
    with pytest.raises(ConfigError, match=r"lab\.toml: no such file"):
        load_roster("lab.toml", tmp_path)
    with pytest.raises(ConfigError, match="a list of addresses is not a roster"):
        load_roster("127.0.0.1:7400,127.0.0.1:7402")


def test_picked_ports_are_filled_in_and_checked() -> None:
    roster = load_roster("3")
    filled = roster.with_ports({"ada": 7400, "cy": 7402})
    assert [one.address.port for one in filled.peer] == [7400, 0, 7402]
    assert filled.without_ports == ("bo",)
    assert roster.without_ports == roster.names
    with pytest.raises(ConfigError, match=r"ports of ada .* and bo .* overlap"):
        roster.with_ports({"ada": 7400, "bo": 7401})
    with pytest.raises(ConfigError, match="'dee' is not in the roster"):
        roster.with_ports({"dee": 7400})


def test_a_roster_survives_json() -> None:
    roster = load_roster("unlike-4")
    assert Roster.model_validate_json(roster.model_dump_json()) == roster


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:7400", "127.0.0.1", 7400),
        ("ada.lab:0", "ada.lab", 0),
        (" bo_1:65534 ", "bo_1", 65534),
        ("[::1]:7400", "::1", 7400),
        ("[0:0:0:0:0:0:0:1]:7400", "::1", 7400),
    ],
)
def test_addresses(text: str, host: str, port: int) -> None:
    address = parse_address(text)
    assert address == Address(host, port)
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ada.lab", "lacks a port"),
        ("ada.lab:", "lacks a port"),
        (":7400", "lacks a host"),
        ("ada lab:7400", "'ada lab' is no host name"),
        ("tcp://ada:7400", "needs brackets"),
        ("::1:7400", r"needs brackets, as in \[::1\]:7400"),
        ("[::g]:7400", "'::g' is no IPv6 address"),
        ("ada:http", "port http is not a number"),
        ("ada:-1", "port -1 is not a number"),
        ("ada:65535", "data uses the port after it"),
        ("ada:٣", "is not a number"),
        ("", "lacks a port"),
    ],
)
def test_wrong_addresses(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse_address(text)
    assert caught.value.accepted == "host:port or [ipv6]:port"


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_a_config_error(text: str) -> None:
    try:
        address = parse_address(text)
    except ConfigError:
        return
    assert parse_address(str(address)) == address


def test_loopback() -> None:
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.8.9.1", "::1", "localhost", "LOCALHOST."))
    assert not any(
        is_loopback(host) for host in ("10.0.0.1", "0.0.0.0", "ada", "localhost.evil.example", "2001:db8::1")
    )


@pytest.mark.parametrize(
    ("where", "what"),
    [
        ("4", "count"),
        ("-4", "count"),
        ("unlike-4", "roster"),
        ("rosters/lab.toml", "roster"),
        ("C:\\rosters\\lab.toml", "roster"),
        ("127.0.0.1:7400", "addresses"),
        ("ada:7400,bo:7402", "addresses"),
        ("[::1]:7400", "addresses"),
        ("ada:seven", "addresses"),
    ],
)
def test_classify(where: str, what: str) -> None:
    assert classify(where) == what


@pytest.mark.parametrize("count", ["9" * 5000, "-" + "9" * 5000, "0", "65537", "9" * 30])
def test_a_count_of_any_length_is_refused(count: str) -> None:
    with pytest.raises(ConfigError, match="is no number of peers; accepted: 1 to 65536"):
        load_roster(count)
