"""Several machines on one: network namespaces on a bridge, each with an address, a hosts file and a firewall.

    with NetBed(["ada", "bo", "cy"]) as bed:
        Command(("worker", ...), folder, within=bed.on("ada"))
        bed.cut("ada", "bo")
        bed.heal()

Needs root, iproute2 and iptables. The bridge, its namespaces and their names live in network and mount namespaces of
their own, so nothing of it shows on this machine, and all of it is gone as soon as this process is, even if that is
killed. Delay, loss and rate are a `Wire` (wire.py); partitions and one-way drops are firewall rules at the receiver,
so what is sent vanishes, as behind a firewall: no connection is refused or closed.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from machine import DIES_WITH_US, NoBedError, install, need_root

PACKAGES = {"iproute2": "ip", "iptables": "iptables", "util-linux": "nsenter"}
NETWORK = "10.78.0"
HOME_NETWORK = "192.168.77"
_ALONE = """
set -e
for folder in /run/netns /etc/netns; do mkdir -p $folder; mount -t tmpfs none $folder; done
echo ready
exec sleep infinity
"""


@dataclass(frozen=True)
class Wire:
    """What lies between a machine and the bridge."""

    delay_s: float = 0.0
    """In each direction."""
    loss: float = 0.0
    bytes_per_s: float = 0.0
    """0: as fast as frames come."""


class NetBed:
    """Machines of these names at 10.78.0.1, .2, ... One of `home` sits behind a router that translates addresses
    instead: it can call everybody, and nobody can call it."""

    def __init__(self, names: Sequence[str], wires: Mapping[str, Wire] | None = None, home: Iterable[str] = ()) -> None:
        self.names, self.wires, self.home = list(names), dict(wires or {}), list(home)
        self.addresses = {
            name: f"{HOME_NETWORK}.{place}" if name in self.home else f"{NETWORK}.{place}"
            for place, name in enumerate(self.names, start=2)
        }
        self._world: subprocess.Popen[str] | None = None
        self._wires: list[subprocess.Popen[str]] = []

    # ---- up and down

    def __enter__(self) -> NetBed:
        need_root("a network of one's own", ("unshare", "setpriv"))
        install(PACKAGES)
        try:
            self._begin_world()
            for name in self.names:
                self._add(name)
        except (RuntimeError, OSError) as error:
            self._down()
            raise NoBedError(str(error)) from error
        except BaseException:
            self._down()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._down()

    def _begin_world(self) -> None:
        self._world = subprocess.Popen(
            [*DIES_WITH_US, "unshare", "--net", "--mount", "sh", "-c", _ALONE],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._world.stdout is not None
        said = self._world.stdout.readline().strip()
        if said != "ready":
            raise RuntimeError(f"no network namespaces can be made here: {said}")
        self._in_world("ip", "link", "set", "lo", "up")
        self._in_world("ip", "link", "add", "name", "hub", "type", "bridge")
        self._in_world("ip", "link", "set", "hub", "up")
        if self.home:
            self._add_router()

    def _add(self, name: str) -> None:
        self._in_world("ip", "netns", "add", name)
        if name in self.home:
            self._in_world(
                "ip",
                "link",
                "add",
                "eth0",
                "netns",
                name,
                "type",
                "veth",
                "peer",
                "name",
                f"to-{name}",
                "netns",
                "router",
            )
            self._in_world("ip", "-n", "router", "link", "set", f"to-{name}", "master", "indoors", "up")
        elif name in self.wires:
            self._add_wire(name, self.wires[name])
        else:
            self._in_world("ip", "link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", name)
            self._in_world("ip", "link", "set", f"to-{name}", "master", "hub", "up")
        for word in (
            ("addr", "add", f"{self.addresses[name]}/24", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("link", "set", "lo", "up"),
        ):
            self._in_world("ip", "-n", name, *word)
        if name in self.home:
            self._in_world("ip", "-n", name, "route", "add", "default", "via", f"{HOME_NETWORK}.1")
        self.write_hosts(name, {other: address for other, address in self.addresses.items() if other not in self.home})

    def _add_wire(self, name: str, wire: Wire) -> None:
        words = [f"to-{name}", "eth0", str(wire.delay_s), str(wire.loss), str(wire.bytes_per_s)]
        process = subprocess.Popen(
            [*self._inside(), sys.executable, str(Path(__file__).with_name("wire.py")), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._wires.append(process)
        assert process.stdout is not None
        said = process.stdout.readline().strip()
        if said != "ready":
            raise RuntimeError(f"no wire can be laid here: {said} {process.stdout.read()}")
        self._in_world("ip", "link", "set", f"to-{name}", "master", "hub", "up")
        self._in_world("ip", "link", "set", "eth0", "netns", name)

    def _add_router(self) -> None:
        """Between the hub and the machines at home: it knows who has called out, and lets nobody else in."""
        self._in_world("ip", "netns", "add", "router")
        self._in_world("ip", "link", "add", "to-router", "type", "veth", "peer", "name", "eth0", "netns", "router")
        self._in_world("ip", "link", "set", "to-router", "master", "hub", "up")
        for word in (
            ("addr", "add", f"{NETWORK}.250/24", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("link", "add", "name", "indoors", "type", "bridge"),
            ("addr", "add", f"{HOME_NETWORK}.1/24", "dev", "indoors"),
            ("link", "set", "indoors", "up"),
        ):
            self._in_world("ip", "-n", "router", *word)
        self.do("router", "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        self.do("router", "iptables", "-t", "nat", "-A", "POSTROUTING", "-o", "eth0", "-j", "MASQUERADE")
        self.do(
            "router", "iptables", "-A", "FORWARD", "-i", "eth0", "-m", "conntrack", "--ctstate", "NEW", "-j", "DROP"
        )

    def _down(self) -> None:
        for process in [*self._wires, *([self._world] if self._world is not None else [])]:
            process.kill()
            process.communicate()
        self._wires, self._world = [], None

    # ---- what a test does

    def on(self, name: str, folder: Path | str = "/") -> list[str]:
        """In front of a command that is to run on this machine, in this folder."""
        return [*self._inside(), "ip", "netns", "exec", name, "env", f"--chdir={folder}"]

    def do(self, name: str, *command: str) -> str:
        """Run a short command on this machine; returns what it printed."""
        return self._run([*self.on(name), *command])

    def cut(self, sender: str, receiver: str) -> None:
        """From now on nothing of `sender` reaches `receiver`; the other direction stays open."""
        self.do(receiver, "iptables", "-A", "INPUT", "-s", self.addresses[sender], "-j", "DROP")

    def split(self, *groups: Sequence[str]) -> None:
        """Nothing passes from one group to another."""
        for group in groups:
            for one in group:
                for other in (name for names in groups if names is not group for name in names):
                    self.cut(one, other)

    def refuse_calls(self, name: str, sender: str) -> None:
        """`sender` cannot open a connection to `name`; where `name` has called first, both talk."""
        self.do(
            name,
            "iptables",
            "-A",
            "INPUT",
            "-s",
            self.addresses[sender],
            "-m",
            "conntrack",
            "--ctstate",
            "NEW",
            "-j",
            "DROP",
        )

    def heal(self) -> None:
        """All cuts are over."""
        for name in self.names:
            self.do(name, "iptables", "-F", "INPUT")

    def unplug(self, name: str) -> None:
        """The far end of its cable is pulled: nothing leaves or arrives, and nobody is told."""
        self._in_world("ip", "link", "set", f"to-{name}", "down")

    def plug(self, name: str) -> None:
        """The cable is back."""
        self._in_world("ip", "link", "set", f"to-{name}", "up")

    def write_hosts(self, name: str, addresses: Mapping[str, str]) -> None:
        """Its whole /etc/hosts."""
        lines = ["127.0.0.1 localhost", *(f"{address} {host}" for host, address in addresses.items())]
        self._etc(name, "hosts", "\n".join(lines))

    def forsake_resolver(self, name: str, keeper: str) -> None:
        """Its name server is `keeper`, which never answers: whatever /etc/hosts lacks takes the resolver's patience."""
        self.do(keeper, "iptables", "-I", "INPUT", "-p", "udp", "--dport", "53", "-j", "DROP")
        self._etc(name, "resolv.conf", f"nameserver {self.addresses[keeper]}\noptions timeout:5 attempts:2")

    def _etc(self, name: str, file: str, text: str) -> None:
        """`ip netns exec` lays these files over those of /etc, for what is started from then on."""
        assert self._world is not None
        folder = Path(f"/proc/{self._world.pid}/root/etc/netns/{name}")
        folder.mkdir(exist_ok=True)
        (folder / file).write_text(text + "\n")

    # ---- running things

    def _inside(self) -> list[str]:
        assert self._world is not None
        namespaces = f"/proc/{self._world.pid}/ns"
        return [*DIES_WITH_US, "nsenter", f"--mount={namespaces}/mnt", f"--net={namespaces}/net"]

    def _in_world(self, *command: str) -> str:
        return self._run([*self._inside(), *command])

    def _run(self, command: list[str]) -> str:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode != 0:
            what = " ".join(command[len(self._inside()) :])
            raise RuntimeError(f"{what}: exit {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout


def seconds_of(bed: NetBed, name: str, *command: str) -> float:
    """How long a command takes there, whether it succeeds or not."""
    began_s = time.monotonic()
    subprocess.run([*bed.on(name), *command], stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False)
    return time.monotonic() - began_s
