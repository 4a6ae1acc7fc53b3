"""What all beds ask of the machine: Debian packages, root, and that it is left as it was found."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

DIES_WITH_US = ["setpriv", "--pdeathsig", "KILL"]
"""In front of a command: it ends as soon as this process does, even if that is killed."""
_OURS = re.compile(r"\s*\[\d+:\d+\]|^#.*", re.MULTILINE)


class NoBedError(Exception):
    """This machine cannot have the bed; the message says why."""


def need_root(why: str, tools: Sequence[str]) -> None:
    """Say why a bed cannot be had here, before anything is tried."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise NoBedError(f"{why} needs Linux and root")
    for tool in tools:
        if shutil.which(tool) is None:
            raise NoBedError(f"there is no `{tool}` here: the bed is made of Debian's packages")


def install(packages: Mapping[str, str]) -> None:
    """Debian's packages (package -> a program of it) that are not there yet."""
    missing = [package for package, program in packages.items() if shutil.which(program) is None]
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise NoBedError(f"there is no `apt-get` here to install {', '.join(missing)} with")
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}  # runlevel 1: start no service
    for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *missing]):
        try:
            done = subprocess.run(
                ["apt-get", *command], env=quiet, capture_output=True, text=True, timeout=300, check=False
            )
        except subprocess.TimeoutExpired:
            raise NoBedError(f"apt-get {command[0]} takes longer than 300 s") from None
        if done.returncode != 0:
            raise NoBedError(f"apt-get {command[0]} of {', '.join(missing)}: {done.stderr.strip()[-500:]}")


def footprint() -> dict[str, str]:
    """What a bed might leave behind in the machine's own network: firewall, interfaces, namespaces, forwarding."""

    def said(*command: str) -> str:
        if shutil.which(command[0]) is None:
            return ""
        text = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout
        return "\n".join(line for line in _OURS.sub("", text).splitlines() if line.strip())

    forwarding = Path("/proc/sys/net/ipv4/ip_forward")
    return {
        "firewall": said("iptables-save"),
        "interfaces": "\n".join(sorted(re.findall(r"^\d+: (\S+?)[@:]", said("ip", "-o", "link"), re.MULTILINE))),
        "namespaces": said("ip", "netns", "list"),
        "forwarding": forwarding.read_text().strip() if forwarding.exists() else "",
    }


def changes(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """What is there now and was not before, or the other way round; interfaces and namespaces that are gone meanwhile
    were somebody else's."""
    found = []
    for what, old in before.items():
        old_lines, new_lines = set(old.splitlines()), set(after[what].splitlines())
        found += [f"{what}, left behind: {line}" for line in sorted(new_lines - old_lines)]
        if what in ("firewall", "forwarding"):
            found += [f"{what}, gone: {line}" for line in sorted(old_lines - new_lines)]
    return found
