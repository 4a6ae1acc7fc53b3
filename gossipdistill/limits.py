"""Every bound of the network wing, declared once, with its unit in its name and its arithmetic beside it (law 7)."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds and intervals of one peer.

    Liveness: a peer is *suspect* after `suspect_after_s` of silence and *dead* after `dead_after_s`. With five
    heartbeats lost in a row before a suspicion, a kill is known within `suspect_after_s` + one interval = 1.5 s.

    Memory held for others is at most `peers_max` x `topics_max` x (1 parcel in the outbox + `unconfirmed_max` on the
    wire + 1 in the inbox) x `payload_bytes_max`; payloads are shared between recipients, not copied.
    """

    heartbeat_interval_s: float = 0.25
    suspect_after_s: float = 1.25
    dead_after_s: float = 5.0
    greet_interval_s: float = 0.1
    """Between greetings to a peer that was never heard; it doubles up to `greet_interval_max_s`."""
    greet_interval_max_s: float = 1.0
    confirm_timeout_s: float = 2.0
    """A version not confirmed within this plus its size over `confirm_bytes_per_s` is sent again, if still newest."""
    confirm_bytes_per_s: float = 1e6
    retry_interval_s: float = 0.02
    """Between attempts to hand a version to a socket that is not connected yet or whose buffer is full."""

    unconfirmed_max: int = 2
    """Versions of one slot on the wire to one peer; more would only queue up stale ones in socket buffers."""
    peers_max: int = 1024
    topics_max: int = 16
    slots_per_peer_max: int = 256

    control_bytes_max: int = 64 * 1024
    """A greeting with 1,024 contacts of 45 bytes fits."""
    header_bytes_max: int = 256 * 1024
    """Layout of 2,048 arrays at up to 120 bytes each."""
    arrays_max: int = 2048
    dimensions_max: int = 8
    payload_bytes_max: int = 256 * MIB
    push_bytes_max: int = 64 * 1024
    """Larger payloads are announced, then pulled, unless the run says otherwise."""

    control_messages_queued_max: int = 256
    data_messages_queued_max: int = 8
    socket_buffer_bytes: int = 512 * 1024
    handshake_timeout_s: float = 5.0
    events_kept_max: int = 1024
    turn_messages_max: int = 32
    """Messages handled in one turn of the network loop, so that no turn exceeds a few milliseconds."""
    flush_s: float = 0.2
    """How long the last words of a leaving peer may take to reach the wire."""


DEFAULT_LIMITS = Limits()
