"""The retransmission timeout of parcels, learned for each peer; and which peers are lossy.

Rules of this file
1. The timeout follows the usual time to a receipt of this peer (protocol/retransmission.py), and is the shortest
   allowed for a peer that has given none yet. Bodies that take longer on a slow link have one timeout for each power of
   two.
2. One lost message says nothing about the next: a parcel is sent again after the same time `consign_tries` times.
   After that the link is broken or congested: each time is twice the last, up to `consign_timeout_max_s`. For large
   bodies this starts after `consign_tries_few`: retransmitting too soon adds to congestion.
   Queries follow the same rule; after an answer "held" the next one waits as long as the learner usually takes.
3. Two receipts for one parcel: nothing was lost, the round trip has become longer. The timeout is doubled until a
   parcel is answered in time: it could not be learned from parcels that are all sent twice.
4. A peer that has settled mass which had to be sent again is *lossy*, until `lossy_parcels` in a row needed one
   attempt, or nothing is heard of it for as long as `lossy_tries` attempts take, or rule 3 says otherwise. The mailbox
   keeps more parcels in flight to it. A dead peer is sent nothing more: what it was sent may end with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gossipdistill.ids import PeerName
from gossipdistill.limits import Limits
from gossipdistill.messages import DeliveryClass
from gossipdistill.protocol.parcels import Outstanding
from gossipdistill.protocol.retransmission import RetransmissionTimeout

_DOUBLINGS_MAX = 16
"""A time is doubled at most this many times: its bound is reached by then."""


@dataclass(slots=True)
class Resending:
    """What is known of the links to all peers."""

    limits: Limits
    lossy: frozenset[PeerName] = frozenset()
    arriving: dict[tuple[PeerName, int], RetransmissionTimeout] = field(default_factory=dict)
    """The timeout of the first receipt, by peer and size."""
    _settling: dict[PeerName, RetransmissionTimeout] = field(default_factory=dict)
    """The timeout of the last receipt, by peer."""
    _unlost: dict[PeerName, int] = field(default_factory=dict)
    """The number of consecutive parcels that needed one attempt, for each lossy peer."""
    _heard_s: dict[PeerName, float] = field(default_factory=dict)
    """The time of the last receipt of each peer."""

    def wait_s(self, peer: PeerName, one: Outstanding) -> float:
        """Seconds from the last attempt or query until the next, if no answer arrives."""
        size = 0 if one.held else one.parcel.payload.nbytes
        tries = self.limits.consign_tries_few if self._class(size) else self.limits.consign_tries
        return self._longer(self._of_way(peer, size).seconds(), one.tries - tries)

    def hold_s(self, peer: PeerName, one: Outstanding) -> float:
        """Seconds from the receipt "held" until the next query."""
        return self._longer(self._of_learner(peer).seconds(), one.tries + 1 - self.limits.consign_tries)

    def _longer(self, timeout_s: float, doublings: int) -> float:
        wait_s = timeout_s * 2.0 ** min(max(doublings, 0), _DOUBLINGS_MAX)
        return min(wait_s, max(self.limits.consign_timeout_max_s, timeout_s))

    def answered(self, peer: PeerName, one: Outstanding, took_s: float, settled: bool) -> None:
        """Note the first or the last receipt for a parcel that was sent only once."""
        if not one.held:
            way = self._of_way(peer, one.parcel.payload.nbytes)
            way.heard()
            way.answer(took_s)
        if settled:
            self._of_learner(peer).answer(took_s)

    def sent_again(self, peer: PeerName, one: Outstanding, now: float) -> None:
        """Note that no receipt has arrived in time."""
        silent_s = now - self._heard_s.get(peer, now)
        if silent_s > self.limits.lossy_tries * self._of_way(peer, one.parcel.payload.nbytes).seconds():
            self._mark(peer, False)

    def heard(self, peer: PeerName, now: float) -> None:
        """Note that a receipt has arrived, for any parcel."""
        self._heard_s[peer] = now

    def settled(self, peer: PeerName, one: Outstanding) -> None:
        """Note that the peer's learner has absorbed or refused a parcel."""
        if one.sendings > 1 and one.parcel.delivery is DeliveryClass.MASS:
            self._mark(peer, True)
            self._unlost[peer] = 0
        elif peer in self.lossy:
            self._unlost[peer] += 1
            if self._unlost[peer] >= self.limits.lossy_parcels:
                self._mark(peer, False)

    def in_vain(self, peer: PeerName, size: int) -> None:
        """Note that two copies of a parcel of `size` bytes have arrived."""
        self._of_way(peer, size).lost()
        self._mark(peer, False)

    def gone(self, peer: PeerName) -> None:
        """Note that a peer is dead, or has left."""
        self._mark(peer, False)

    def _mark(self, peer: PeerName, lossy: bool) -> None:
        if lossy is not (peer in self.lossy):
            self.lossy = self.lossy ^ {peer}

    def _transfer_s(self, size: int) -> float:
        return size / self.limits.confirm_bytes_per_s

    def _class(self, size: int) -> int:
        """The size class: 0 for a body whose transfer time is negligible, else the number of bits of its length."""
        return size.bit_length() if self._transfer_s(size) > self.limits.consign_timeout_min_s else 0

    def _of_way(self, peer: PeerName, size: int) -> RetransmissionTimeout:
        key = peer, self._class(size)
        if key not in self.arriving:
            least_s, most_s = self._bounds_s
            transfer_s = self._transfer_s(size) if key[1] else 0.0
            self.arriving[key] = RetransmissionTimeout(least_s, most_s + transfer_s, least_s + transfer_s)
        return self.arriving[key]

    def _of_learner(self, peer: PeerName) -> RetransmissionTimeout:
        if peer not in self._settling:
            self._settling[peer] = RetransmissionTimeout(*self._bounds_s)
        return self._settling[peer]

    @property
    def _bounds_s(self) -> tuple[float, float]:
        return self.limits.consign_timeout_min_s, self.limits.consign_timeout_s
