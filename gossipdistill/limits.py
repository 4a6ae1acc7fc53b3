"""Every bound of the network wing, declared once, with its unit in its name and its arithmetic beside it (law 7)."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds and intervals of one peer.

    Liveness: a peer that I exchange with, and that is silent for half a `probe_interval_s`, is probed in the next
    interval, and *suspect* if neither it nor the others that I ask have answered within one, once its silence lasts
    `silence_intervals` intervals: 1.25 s. It is *dead* when it has not refuted within `suspicion_factor` x
    log10(members, at least 10) intervals (2 s in a run of up to 10), or up to `suspicion_max_factor` times that while
    too few others confirm it.

    Memory held for one slot of one peer is at most (1 parcel in the outbox + `unconfirmed_max` on the wire + 1 arrival
    in the inbox) x `payload_bytes_max`; payloads are shared between recipients, not copied. A sender has at most
    `slots_per_peer_max` slots here, of topics that the strategy knows, `waiting_bytes_max` in all of them together, and
    `payload_bytes_max` on its way in pieces. There are at most `peers_max` senders.
    """

    greet_interval_s: float = 0.1
    """Between greetings to a peer that was never heard; it doubles up to `greet_interval_max_s`."""
    greet_interval_max_s: float = 1.0
    confirm_timeout_s: float = 2.0
    """A version not confirmed within this plus its size over `confirm_bytes_per_s` is sent again, if still newest; it
    is sooner where confirmations have been quicker, see protocol/retransmission.py."""
    confirm_timeout_min_s: float = 0.3
    """Never sooner than this; more than `confirm_delay_s`."""
    confirm_bytes_per_s: float = 1e6
    confirm_delay_s: float = 0.25
    """How long a confirmation waits for a state to ride on."""
    blocked_after_s: float = 5.0
    """When to say that a peer lives and takes no state; a connection that is silent so long is given up."""
    retry_interval_s: float = 0.02
    """Between attempts to hand a version to a socket that is not connected yet or whose buffer is full; doubles up to
    `retry_interval_max_s`."""
    retry_interval_max_s: float = 0.5
    reopen_interval_s: float = 2.0
    """Between two attempts to resolve a name, or to open a socket when there were too many."""
    probe_interval_s: float = 0.5
    """One member is asked for a sign of life in each interval, unless it has given one lately."""
    probe_timeout_s: float = 0.2
    """How long a direct answer may take before others are asked to ask. What remains of the interval is theirs."""
    silence_intervals: float = 2.5
    """Whom a probe has found silent is suspect after so many intervals of silence: half of one until it is noticed, one
    until its turn, one for the probe. A word that is only late arrives meanwhile."""
    relays: int = 3
    """How many others are asked to ask."""
    watched_max: int = 8
    """Silent members with whom there is business that are probed in one interval, besides the one whose turn it is; a
    run of no more others does business with all."""
    watch_s: float = 2.0
    """How long after a parcel a member is watched like that; afterwards it is probed in turn, as everybody."""
    business_max: int = 64
    """Members of a large roster of whom rows are kept for business, those of the last `business_s`."""
    business_s: float = 30.0
    verifications: int = 2
    """What others say of a death is believed when so many pings of mine have found no answer either."""
    verifications_per_s: float = 1000.0
    """So many pings a death may bring upon its machine, of all others together: they spread them over time."""
    errands_max: int = 256
    """Probes that I make for others at the same time."""
    unreachable_after_s: float = 1.5
    """A member that answers to others, but not to me for so long, is out of business with me."""
    pause_forgiven_s: float = 0.6
    """When my own clock has jumped by so much, I was stopped myself, and the silence meanwhile is nobody's fault."""
    suspicion_factor: float = 4.0
    """A suspect has factor x log10(members, at least 10) x `probe_interval_s` to refute, once enough others confirm;
    `suspicion_max_factor` times that alone."""
    suspicion_max_factor: float = 3.0
    confirmations_wanted: int = 3
    claim_transmits_factor: float = 3.0
    """A claim rides on factor x ceil(log10(members + 1)) messages of mine, then no more."""
    claims_per_message_max: int = 32
    """Of at most about 400 bytes each, mostly 45: after a split has healed there is much to tell, else little."""
    reminders_per_message: int = 2
    """Of those that have ended: who missed the rumour hears of each every (their number / 8) intervals,
    as about four probes and answers come in one."""
    local_health_max: int = 8
    """A peer whose probes fail for its own slowness stretches its time-outs up to this + 1 times."""
    incarnation_jump_max: int = 16
    """A refutation number may rise so far above the known; more is a lie."""
    greeted_at_start_max: int = 64
    """Members of a larger roster are presumed present until a probe fails, and greeted when there is business: greeting
    everybody would take n x n messages."""
    view_after_s: float = 4.0
    """When to say who is missing, once: seen within five seconds."""
    pause_said_every_s: float = 10.0
    """A process that is held up again and again says so at most this often."""

    unsent_tries_max: int = 5
    """Mass that no socket has taken so often, within 0.3 s, is returned: its recipient may have been killed."""

    unconfirmed_max: int = 2
    """Versions of one slot on the wire to one peer; more would only queue up stale ones in socket buffers."""
    in_flight_mass_max: int = 1
    """Consignments of mass on the way to one peer and topic: exactly once needs no more memory than this."""
    lanes_max: int = 4
    """Topics by which mass goes to a peer that loses much: the sender keeps as many payloads for it."""
    lane_bytes_max: int = 4 * MIB
    """Of payloads that are larger there is one at a time."""
    lossy_parcels: int = 32
    """After so many consignments in a row that were sent once, a peer counts no longer as one that loses much."""
    lossy_tries: int = 8
    """Nor does one of which nothing is heard for as long as so many sendings take: it may be dead."""
    in_flight_stream_max: int = 2
    consign_timeout_s: float = 1.0
    """A consignment without a receipt within this plus its size over `confirm_bytes_per_s` is sent again, or enquired
    after once it is known to be held. It is sooner where receipts have been quicker, see protocol/resending.py."""
    consign_tries: int = 16
    """So often it is sent, or enquired after, at one interval; then each is twice the last, up to a bound."""
    consign_tries_few: int = 4
    """The same for bodies that take longer than `consign_timeout_min_s` at `confirm_bytes_per_s`."""
    consign_timeout_min_s: float = 0.06
    """Never sooner than this; more than `held_after_s` and a round trip."""
    held_after_s: float = 0.03
    """A parcel that came, and that the learner has not settled within this, is said to be held."""
    consign_timeout_max_s: float = 8.0
    """The bound of `consign_tries`."""
    peers_max: int = 65_536
    """Members, and senders of whom something is kept."""
    links_max: int = 1024
    """Peers with whom there are connections at the same time: two sockets each."""
    slots_per_peer_max: int = 256
    sender_bytes_max: int = 64 * MIB
    """What waits for my learner of one sender takes at most so much memory, and four times the largest payload of my
    own besides; or one payload, if that is larger. States and parcels each for themselves."""
    strangers_max: int = 64
    """Names that are no members and of which something is remembered: why they were refused, what they garbled."""
    stranger_links_max: int = 8
    """Connections kept open to addresses that are no member's: for a refusal, a change of address, a seed."""

    offences_max: int = 16
    """Refused payloads, floods and the like of one peer before it is muted; one is forgiven every"""
    penalty_forgiven_s: float = 2.0
    """so many seconds."""
    penalty_with_mass: int = 8
    """So many offences is one refused parcel of mass: who sends such keeps what it is given, and drains the others."""
    repeats_max: int = 64
    """Messages of one peer that had come before: a lost confirmation makes one. More of them at once, or more than"""
    repeats_per_s: float = 8.0
    """so many a second, is a replay."""
    mute_s: float = 5.0
    """How long a peer that keeps offending is not listened to, the first time; twice as long each time, up to"""
    mute_max_s: float = 300.0
    mute_forgotten_s: float = 600.0
    """Who has not been muted for so long begins with `mute_s` again."""

    greetings_per_s_max: float = 8.0
    """Of one member that are looked at. A peer that is not answered calls at most ten times in its first two seconds,
    then once a second; and it answers greetings of mine."""
    greetings_at_once_max: float = 64.0
    starts_max: float = 3.0
    """New processes of one member that are believed at once; then one every"""
    start_again_s: float = 5.0
    """so many seconds. With each, what was on its way to the one before is written off."""
    events_at_once: float = 32.0
    """Of one kind about one peer that are told as they are; then one every"""
    events_again_s: float = 60.0
    """so many seconds, and beyond that one for many: of about 150 bytes each, so 5 kB at once and 9 kB an hour."""

    control_bytes_max: int = 64 * 1024
    contacts_per_greeting_max: int = 128
    """Contacts of at most 64 (name) + 255 (host) + 16 bytes: 43 kB, so a greeting fits. Who has more tells them in
    turns."""
    features_per_greeting_max: int = 32
    """Names of at most 32 characters each."""
    enrolments_per_message_max: int = 32
    """Records of at most 200 bytes each."""
    newcomers_max: int = 64
    """Callers with a key that is not known yet whose first word is judged before those of all strangers together; in a
    run with a join secret."""
    newcomer_s: float = 30.0
    """How long one keeps that place, unless newer ones displace it; and how long one whose proof was wrong stays
    out."""
    fingerprint_entries_max: int = 32
    header_bytes_max: int = 288 * 1024
    """Layout of 2,048 arrays at up to 140 bytes each."""
    arrays_max: int = 2048
    dimensions_max: int = 8
    payload_bytes_max: int = 256 * MIB
    piece_bytes_max: int = 4 * MIB
    """A larger body travels in pieces of this size: links take turns, and a stranger cannot make us hold more."""
    assembly_bytes_max: int = 2048 * MIB
    """Bodies that are on their way here in pieces have at most so much together, by their announcements: eight of the
    largest. Memory is touched as pieces come; who is refused for want of room sends again later."""
    freed_bytes_max: int = 128 * MIB
    """When more than this has waited to be read, and has been, memory that nobody uses is given back to the system."""
    body_idle_s: float = 0.5
    """Memory of a large body is kept so long for the next one: fresh memory costs 20 ms of CPU for 135 MB."""
    push_bytes_max: int = 64 * 1024
    """Larger payloads are announced, then pulled, unless the run says otherwise."""

    messages_per_s_max: float = 5000.0
    """Of one sender on one channel; what is beyond is dropped unread. A round in lockstep between two processes of one
    machine takes half a millisecond at best, and reading so many takes about a quarter of a core."""
    strangers_messages_per_s_max: float = 2000.0
    """Of all together who are not known (yet). Newcomers greet again, ever more seldom."""
    control_bytes_per_s_max: float = 64.0 * MIB
    data_bytes_per_s_max: float = 4096.0 * MIB
    """More than one process hands out over loopback (3.7 GB/s): a bound to be lowered where bytes are dear."""
    burst_s: float = 3.0
    """So many seconds' worth may come at once: after a pause of mine, all that has waited."""

    files_wanted: int = 16_384
    """How many files a worker asks to have open; what the system allows it may be less (`ulimit -Hn`)."""
    files_reserved: int = 512
    """File descriptors that strangers cannot take: libzmq opens one for each connection. At most half of all."""
    backlog_max: int = 64
    """Connections of one listener that the kernel has made and libzmq has not taken in: they come also when it is
    closed."""
    silent_connections_max: int = 1024
    """Connections of others on which no member has spoken; when there are more, half of them are ended."""
    unread_bytes_max: int = 64 * MIB
    """What may wait to be read of one connection for data, or of a message on it that does not end; with more it is
    paused."""
    unread_control_bytes_max: int = 4 * MIB
    """As much of one for control, which is cut off."""
    paused_s_max: float = 2.0
    """How long it may be paused before it is cut off: what waits has been read in less, and `blocked_after_s` is
    longer."""
    backlog_bytes_max: int = MIB
    """What may wait of a connection on which more messages come than may."""
    queued_bytes_max: int = 512 * MIB
    """What may wait of all connections together before strangers are cut off, members paused, and nobody is taken in.
    At `data_bytes_per_s_max` it comes in an eighth of a second, so that long is no look away."""
    resident_share_max: float = 0.9
    """Of the memory of the machine, or of the control group: when this process alone uses more, no more connections are
    taken and those that others have made are ended."""
    guard_interval_s: float = 0.25
    """Between two looks at all that, and at most"""
    guard_interval_min_s: float = 0.005
    """this while somebody knocks: 256 files are not taken in that time."""

    control_messages_queued_max: int = 256
    data_messages_queued_max: int = 4
    """In the queue of one socket: at most 4 x `piece_bytes_max` = 16 MiB, and views of the payload at that."""
    control_buffer_bytes: int = 256 * 1024
    data_buffer_bytes: int = 2 * MIB
    """Of the kernel, each way: reader and writer need not take turns."""
    handshake_timeout_s: float = 5.0
    turn_messages_max: int = 32
    """Messages read from one socket, or pieces handed out (which copies nothing), in one turn of the network loop, so
    that no turn exceeds a few milliseconds."""
    turn_bytes_max: int = 4 * MIB
    """Bytes read from one socket in one turn: copying them takes a millisecond or less."""
    flush_s: float = 0.2
    """How long the last words of a leaving peer may take to reach the wire."""

    def waiting_bytes_max(self, largest: int) -> int:
        """How many bytes of one sender may wait for a learner whose own largest payload has so many."""
        return self.sender_bytes_max + 4 * largest


DEFAULT_LIMITS = Limits()
