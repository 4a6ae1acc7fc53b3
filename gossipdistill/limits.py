"""Every bound of the network side: one declaration each, with the unit in its name and the arithmetic beside it (law
7)."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds and intervals of one peer.

    Liveness: a neighbour that is silent for half a `probe_interval_s` is probed in the next interval. If neither it nor
    a relay answers within one interval, it is *suspect* once it has been silent for `silence_intervals` intervals: 1.25
    s. It is *dead* if it does not refute within `suspicion_factor` x log10(members, at least 10) intervals (2 s in a
    run of up to 10). While too few others confirm the suspicion, that time is up to `suspicion_max_factor` times as
    long.

    Memory held for one slot of one peer is at most (1 parcel in the outbox + `unconfirmed_max` on the wire + 1 arrival
    in the inbox) x `payload_bytes_max`. Recipients share a payload; it is not copied. One sender has at most
    `slots_per_peer_max` slots here, only of topics that the strategy knows, `waiting_bytes_max` in all of them
    together, and `payload_bytes_max` in transfer in pieces. There are at most `peers_max` senders.
    """

    greet_interval_s: float = 0.1
    """Greetings to an unheard peer begin with this gap, which doubles up to `greet_interval_max_s`."""
    greet_interval_max_s: float = 1.0
    confirm_timeout_s: float = 2.0
    """A version that is still the newest is sent again if it is not confirmed within this plus its size over
    `confirm_bytes_per_s`; sooner where confirmations have been quicker, see protocol/retransmission.py."""
    confirm_timeout_min_s: float = 0.3
    """The retransmission timeout of states is never shorter than this, which is longer than `confirm_delay_s`."""
    confirm_bytes_per_s: float = 1e6
    confirm_delay_s: float = 0.25
    """A confirmation waits this long for a state to ride on."""
    blocked_after_s: float = 5.0
    """A peer that lives and takes no state for this long is reported; a connection silent for this long is closed."""
    retry_interval_s: float = 0.02
    """This is the first gap between attempts to hand a version to a socket that is not connected yet or whose buffer is
    full. It doubles up to `retry_interval_max_s`."""
    retry_interval_max_s: float = 0.5
    reopen_interval_s: float = 2.0
    """Attempts to resolve a name, or to open a socket when too many were open, are this far apart."""
    probe_interval_s: float = 0.5
    """In each interval one member is asked for a sign of life, unless it has given one lately."""
    probe_timeout_s: float = 0.2
    """A direct answer may take this long before relays are asked to probe. The rest of the interval is theirs."""
    silence_intervals: float = 2.5
    """A member that a probe found silent is suspect after this many intervals of silence: half of one until the silence
    is noticed, one until the member's turn, one for the probe. A message that is only late arrives in that time."""
    relays: int = 3
    """This many relays are asked to probe a member that does not answer."""
    watched_max: int = 8
    """At most this many silent members that exchange with me are probed in one interval, besides the one whose turn it
    is. In a run with no more members than this, I exchange with all."""
    watch_s: float = 2.0
    """A member is watched in this way for this long after a parcel, and then probed in turn like all others."""
    business_max: int = 64
    """Rows of at most this many members of a large roster are kept for exchange, those of the last `business_s`."""
    business_s: float = 30.0
    verifications: int = 2
    """What others say of a death is believed when this many of my own pings were not answered either."""
    verifications_per_s: float = 1000.0
    """A death causes at most this many pings per second to its machine: all others together spread them over time."""
    errands_max: int = 256
    """I make at most this many probes for others at the same time."""
    unreachable_after_s: float = 1.5
    """A member that answers others, but has not answered me for this long, is not exchanged with."""
    pause_forgiven_s: float = 0.6
    """A jump of my own clock by this much means that I was stopped; that silence is held against nobody."""
    suspicion_factor: float = 4.0
    """A suspect has this x log10(members, at least 10) x `probe_interval_s` to refute once enough others confirm, and
    `suspicion_max_factor` times as long while nobody else does."""
    suspicion_max_factor: float = 3.0
    confirmations_wanted: int = 3
    claim_transmits_factor: float = 3.0
    """A claim is piggybacked on this x ceil(log10(members + 1)) of my messages, and on no more."""
    claims_per_message_max: int = 32
    """A message carries at most this many claims, of up to 400 bytes and mostly 45: many only after a healed split."""
    reminders_per_message: int = 2
    """One message carries this many reminders of processes that have ended. A member that missed the claim hears of
    each every (their number / 8) intervals, as about four probes and answers arrive in one."""
    local_health_max: int = 8
    """A peer whose probes fail because it is slow itself stretches its timeouts up to this + 1 times."""
    incarnation_jump_max: int = 16
    """A refutation number may rise this far above the known one; a higher one is a lie."""
    greeted_at_start_max: int = 64
    """Members of a larger roster than this are presumed present until a probe fails, and are greeted before the first
    exchange: greeting all would take n x n messages."""
    view_after_s: float = 4.0
    """After this time the missing peers are reported, once: the report is seen within five seconds."""
    pause_said_every_s: float = 10.0
    """A process that is stopped again and again reports it at most once in this time."""

    unsent_tries_max: int = 5
    """Mass that no socket took in this many attempts (0.3 s) is returned: its recipient may have been killed."""

    unconfirmed_max: int = 2
    """At most this many versions of one slot are on the wire to one peer; more would only get stale in buffers."""
    in_flight_mass_max: int = 1
    """At most this many parcels of mass are in flight to a peer by one topic: exactly once needs no more memory."""
    lanes_max: int = 4
    """Mass goes to a lossy peer by this many topics; the sender keeps as many payloads for it."""
    lane_bytes_max: int = 4 * MIB
    """Payloads that are larger than this have one lane: one is in flight at a time."""
    lossy_parcels: int = 32
    """After this many parcels in a row that were sent only once, a peer no longer counts as lossy."""
    lossy_tries: int = 8
    """A peer that is silent for as long as this many attempts take is not lossy either: it may be dead."""
    in_flight_stream_max: int = 2
    consign_timeout_s: float = 1.0
    """A parcel without a receipt within this plus its size over `confirm_bytes_per_s` is sent again, or is queried once
    it is known to be held. The timeout is shorter where receipts have been quicker, see protocol/resending.py."""
    consign_tries: int = 16
    """A parcel is sent or queried this many times at a constant interval; each later one is doubled, up to a bound."""
    consign_tries_few: int = 4
    """For bodies that take longer than `consign_timeout_min_s` at `confirm_bytes_per_s` the number is this."""
    consign_timeout_min_s: float = 0.06
    """The timeout of parcels is never shorter than this, which exceeds `held_after_s` and a round trip."""
    held_after_s: float = 0.03
    """A parcel that the learner has not settled within this time after arrival is reported as held."""
    consign_timeout_max_s: float = 8.0
    """The doubled intervals after `consign_tries` are at most this long."""
    peers_max: int = 65_536
    """There are at most this many members, and at most this many senders of which state is kept."""
    links_max: int = 1024
    """At most this many peers are connected at the same time, with two sockets each."""
    slots_per_peer_max: int = 256
    sender_bytes_max: int = 64 * MIB
    """The states of one sender that wait for my learner take at most this much memory plus four times the largest
    payload of my own, or one payload if that is larger. The same bound holds for its parcels."""
    strangers_max: int = 64
    """At most this many names of strangers are remembered, with why they were refused and what they garbled."""
    stranger_links_max: int = 8
    """At most this many connections are open to addresses of no member: for a refusal, a change of address, a seed."""

    offences_max: int = 16
    """A peer is muted after this many refused payloads, floods and other offences."""
    penalty_forgiven_s: float = 2.0
    """One offence is forgiven in this time."""
    penalty_with_mass: int = 8
    """One refused parcel of mass counts as this many offences: a peer that sends such parcels keeps the mass it is
    given, and drains the others."""
    repeats_max: int = 64
    """At most this many repeats of one peer's messages may arrive at once; more are a replay. A lost confirmation
    causes one."""
    repeats_per_s: float = 8.0
    """At most this many repeats per second may arrive; more are a replay."""
    mute_s: float = 5.0
    """The length of a peer's first mute; each further one is twice as long, up to `mute_max_s`."""
    mute_max_s: float = 300.0
    mute_forgotten_s: float = 600.0
    """A peer that has not been muted for this long starts at `mute_s` again."""

    greetings_per_s_max: float = 8.0
    """At most this many greetings per second of one member are read. A peer that is not answered greets at most ten
    times in its first two seconds, then once a second; and it answers my greetings."""
    greetings_at_once_max: float = 64.0
    starts_max: float = 3.0
    """At most this many new processes of one member are believed at once."""
    start_again_s: float = 5.0
    """One more is believed after this time; with each, what was in flight to the one before is written off."""
    events_at_once: float = 32.0
    """At most this many events of one kind about one peer are written as they are, then one every `events_again_s`."""
    events_again_s: float = 60.0
    """One more event is written as it is after this time, and beyond that one stands for many. An event takes about 150
    bytes, so at most 5 kB are written at once and 9 kB an hour."""

    control_bytes_max: int = 64 * 1024
    contacts_per_greeting_max: int = 128
    """A greeting names at most this many contacts of at most 64 (name) + 255 (host) + 16 bytes: 43 kB, so a greeting
    fits. A peer that knows more names them in turns."""
    features_per_greeting_max: int = 32
    """A greeting names at most this many features of at most 32 characters each."""
    enrolments_per_message_max: int = 32
    """A message holds at most this many records of at most 200 bytes each."""
    newcomers_max: int = 64
    """In a run with a join secret, at most this many callers with an unknown key have a place: their first messages are
    judged before those that count against all strangers together."""
    newcomer_s: float = 30.0
    """A caller keeps its place for this long unless displaced; after a wrong proof it is kept out for as long."""
    fingerprint_entries_max: int = 32
    header_bytes_max: int = 288 * 1024
    """A header holds the layout of 2,048 arrays at up to 140 bytes each."""
    arrays_max: int = 2048
    dimensions_max: int = 8
    payload_bytes_max: int = 256 * MIB
    piece_bytes_max: int = 4 * MIB
    """A larger body travels in pieces of this size: links take turns, and a stranger can make me hold no more."""
    assembly_bytes_max: int = 2048 * MIB
    """Bodies that arrive in pieces have at most this size together, by their announcements: eight of the largest.
    Memory is touched only as pieces arrive. A sender that is refused for lack of room sends again later."""
    freed_bytes_max: int = 128 * MIB
    """When more than this has waited to be read, and has been read, unused memory is given back to the system."""
    body_idle_s: float = 0.5
    """Memory of a large body is kept this long for the next one: fresh memory costs 20 ms of CPU for 135 MB."""
    push_bytes_max: int = 64 * 1024
    """Larger payloads are announced, then pulled, unless the run is configured otherwise."""

    messages_per_s_max: float = 5000.0
    """At most this many messages per second of one sender are read on one channel; the rest is dropped unread. A
    lockstep round on one machine takes half a millisecond at best; reading this many takes about a quarter of a
    core."""
    strangers_messages_per_s_max: float = 2000.0
    """At most this many messages per second are read of all unknown senders together. Newcomers greet again, less
    often."""
    control_bytes_per_s_max: float = 64.0 * MIB
    data_bytes_per_s_max: float = 4096.0 * MIB
    """This is more than a process sends over loopback (3.7 GB/s); lower it where traffic is expensive."""
    burst_s: float = 3.0
    """The traffic of this many seconds may arrive at once: after a pause of mine, all that has waited."""

    files_wanted: int = 16_384
    """A worker asks for this many open files; the system may allow fewer (`ulimit -Hn`)."""
    files_reserved: int = 512
    """Strangers cannot take this many file descriptors, at most half of all: libzmq opens one for each connection."""
    backlog_max: int = 64
    """At most this many accepted connections of one listener wait for libzmq. They arrive even after it is closed."""
    silent_connections_max: int = 1024
    """At most this many connections of others have no member on them; with more, half of these are ended."""
    unread_bytes_max: int = 64 * MIB
    """A data connection is paused when more than this waits to be read on it, or of an endless message on it."""
    unread_control_bytes_max: int = 4 * MIB
    """At most this much may wait to be read on one control connection. A connection with more is cut off."""
    paused_s_max: float = 2.0
    """A connection is cut off after this long a pause; reading takes less, and `blocked_after_s` is longer."""
    backlog_bytes_max: int = MIB
    """At most this much may wait on a connection whose sender exceeds its message rate."""
    queued_bytes_max: int = 512 * MIB
    """At most this much may wait on all connections together. With more, strangers are cut off, members paused and no
    connection accepted. It arrives in an eighth of a second at `data_bytes_per_s_max`: checks are closer together."""
    resident_share_max: float = 0.9
    """When this process alone uses more than this share of the memory of the machine or of the control group, no more
    connections are accepted, and those that others have opened are ended."""
    guard_interval_s: float = 0.25
    """Files, memory and unread bytes are checked once in this time."""
    guard_interval_min_s: float = 0.005
    """While connections arrive, the checks are at least this far apart: in that time fewer than 256 files are taken."""

    control_messages_queued_max: int = 256
    data_messages_queued_max: int = 4
    """A socket queues at most this many data messages: 4 x `piece_bytes_max` = 16 MiB, as views of the payload."""
    control_buffer_bytes: int = 256 * 1024
    data_buffer_bytes: int = 2 * MIB
    """This is the size of the kernel buffer for data in each direction: reader and writer need not take turns."""
    handshake_timeout_s: float = 5.0
    turn_messages_max: int = 32
    """In one turn of the network loop at most this many messages are read from one socket, or pieces sent (which copies
    nothing), so that no turn takes longer than a few milliseconds."""
    turn_bytes_max: int = 4 * MIB
    """At most this many bytes are read from one socket in one turn: copying them takes a millisecond or less."""
    flush_s: float = 0.2
    """The last messages of a leaving peer may take this long to reach the wire."""

    def waiting_bytes_max(self, largest: int) -> int:
        """The number of bytes of one sender that may wait for a learner whose own largest payload has `largest`
        bytes."""
        return self.sender_bytes_max + 4 * largest


DEFAULT_LIMITS = Limits()
