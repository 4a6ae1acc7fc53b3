"""Machines made of network namespaces, on a bridge in one more: whose link can be cut or made slow (Linux, root).

Nothing of this is on the machine's own network: the bridge has a namespace to itself, and with `with` all are gone
afterwards. Two sets do not see one another, so both may use the same addresses.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from types import TracebackType

TOOLS = ("ip", "tc", "iptables", "nsenter")


class NoNamespacesError(Exception):
    """This machine cannot have them; the message says why."""


class Namespaces:
    """`count` of them, with `addresses`. `inside(place)` begins a command that is to run in one."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._tag = f"gd{os.getpid()}x{time.monotonic_ns() % 1_000_000}"
        self.addresses = [f"10.78.0.{11 + place}" for place in range(count)]
        self.hub_address = "10.78.0.1"

    def __enter__(self) -> Namespaces:
        missing = [tool for tool in TOOLS if shutil.which(tool) is None]
        if os.geteuid() != 0:
            raise NoNamespacesError("network namespaces need root")
        if missing:
            raise NoNamespacesError(f"not installed: {', '.join(missing)}")
        try:
            self._make()
        except subprocess.CalledProcessError as error:
            self.__exit__(None, None, None)
            raise NoNamespacesError(f"{' '.join(error.cmd)}: {error.stderr.decode().strip()}") from None
        return self

    def _make(self) -> None:
        _do("ip", "netns", "add", self._hub)
        _do("ip", "-n", self._hub, "link", "add", "bridge", "type", "bridge")
        _do("ip", "-n", self._hub, "address", "add", f"{self.hub_address}/24", "dev", "bridge")
        for device in ("bridge", "lo"):
            _do("ip", "-n", self._hub, "link", "set", device, "up")
        for place, address in enumerate(self.addresses):
            name = self._name(place)
            _do("ip", "netns", "add", name)
            own = ("type", "veth", "peer", "name", "eth0", "netns", name)
            _do("ip", "link", "add", f"port{place}", "netns", self._hub, *own)
            _do("ip", "-n", self._hub, "link", "set", f"port{place}", "master", "bridge", "up")
            _do("ip", "-n", name, "address", "add", f"{address}/24", "dev", "eth0")
            for device in ("eth0", "lo"):
                _do("ip", "-n", name, "link", "set", device, "up")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for name in [*(self._name(place) for place in range(self.count)), self._hub]:
            subprocess.run(["ip", "netns", "delete", name], check=False, stderr=subprocess.DEVNULL)

    def inside(self, place: int | None) -> tuple[str, ...]:
        """What a command begins with that runs in this namespace; None: in the one of the bridge."""
        # Not `ip netns exec`: that mounts /sys anew.
        return ("nsenter", f"--net=/run/netns/{self._hub if place is None else self._name(place)}")

    def cut(self, place: int) -> None:
        """No packet leaves or reaches this one, and nobody is told."""
        for chain, way in (("INPUT", "-i"), ("OUTPUT", "-o")):
            _do(*self.inside(place), "iptables", "-A", chain, way, "eth0", "-j", "DROP")

    def slow(self, place: int, rate: str) -> None:
        """Its link has this rate, such as `20mbit`, either way."""
        shape = ("root", "tbf", "rate", rate, "burst", "64kb", "latency", "400ms")
        _do(*self.inside(place), "tc", "qdisc", "replace", "dev", "eth0", *shape)
        _do(*self.inside(None), "tc", "qdisc", "replace", "dev", f"port{place}", *shape)

    def heal(self, place: int) -> None:
        """As at the beginning."""
        _do(*self.inside(place), "iptables", "-F")
        for where, device in ((place, "eth0"), (None, f"port{place}")):
            command = [*self.inside(where), "tc", "qdisc", "delete", "dev", device, "root"]
            subprocess.run(command, check=False, stderr=subprocess.DEVNULL)

    @property
    def _hub(self) -> str:
        return f"{self._tag}-hub"

    def _name(self, place: int) -> str:
        return f"{self._tag}-{place}"


def _do(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
