"""Which processes of a simulated world are alive, by name and by address."""

from __future__ import annotations

from gossipdistill.ids import PeerName
from gossipdistill.presence import Address
from gossipdistill.sim.event_loop import EventLoop
from gossipdistill.sim.host import Host


class Hosts:
    """The living processes: at most one of each name."""

    def __init__(self, time: EventLoop) -> None:
        self.by_name: dict[PeerName, Host] = {}
        self.at: dict[Address, Host] = {}
        self._time = time

    def add(self, host: Host) -> None:
        """Add a living process."""
        self.by_name[host.name] = self.at[host.address] = host

    def end(self, name: PeerName, how: str) -> None:
        """End the process of this name, if there is one: `killed`, `left` or `superseded`."""
        host = self.by_name.pop(name, None)
        if host is None:
            return
        host.running = False
        if self.at.get(host.address) is host:
            del self.at[host.address]
        for hook in self._time.hooks.on_end:
            hook(self._time.now, host, how)

    def name_at(self, address: Address) -> str:
        """The name of the peer at this address; empty for none."""
        host = self.at.get(address)
        return host.name if host is not None else ""
