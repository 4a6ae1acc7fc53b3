"""Rate limits of each sender: messages and bytes per second, separately for each channel.

What exceeds them is dropped unread, so a flood costs only the reading of its frames. No healthy peer ever reaches the
limits: see `limits`. All strangers together have one share.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gossipdistill.drivers.channels import Channel
from gossipdistill.limits import Limits
from gossipdistill.protocol.token_bucket import TokenBucket


@dataclass(slots=True)
class RateLimit:
    """The tokens that one sender has left on one channel."""

    messages: TokenBucket
    bytes: TokenBucket


Budget = dict[tuple[str, Channel], RateLimit]


@dataclass(slots=True)
class RateLimits:
    """The tokens that every peer that dialled me has left. A connection of mine carries a budget of its own."""

    limits: Limits
    _budget: Budget = field(default_factory=dict)

    def breach(
        self, sender: str, channel: Channel, size: int, now: float, budget: Budget | None = None
    ) -> tuple[str, str] | None:
        """None where a message of `size` bytes may pass; else the limit that it exceeds, in one word and in words.

        `sender` is the name of a member; "" stands for all others. `budget` is that of my own connection to it.
        """
        kept = self._budget if budget is None else budget
        rate_limit = kept.get((sender, channel))
        if rate_limit is None:
            rate_limit = kept[sender, channel] = self._new(bool(sender) or budget is not None, channel)
        whose = f"on its {channel.name.lower()} connection" if sender else "from strangers"
        if not rate_limit.messages.spend(1, now):
            return "rate", f"more than {rate_limit.messages.per_s:g} messages a second {whose}"
        if not rate_limit.bytes.spend(size, now):
            return "bytes", f"more than {rate_limit.bytes.per_s / 1e6:.0f} MB a second {whose}"
        return None

    def _new(self, known: bool, channel: Channel) -> RateLimit:
        limits = self.limits
        messages_per_s = limits.messages_per_s_max if known else limits.strangers_messages_per_s_max
        is_data = known and channel is Channel.DATA
        bytes_per_s = limits.data_bytes_per_s_max if is_data else limits.control_bytes_per_s_max
        at_once = limits.burst_s
        return RateLimit(
            TokenBucket(messages_per_s, at_once * messages_per_s), TokenBucket(bytes_per_s, at_once * bytes_per_s)
        )
