"""What the ends of the peers of a run mean for the run: its exit code, and what is said of each."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from gossipdistill.errors import EXIT_LOST, EXIT_NONE_FINISHED
from gossipdistill.observe.records import PeerRecord

REACHED = ("finished", "diverged", "collapsed", "short")
"""Statuses of peers that have trained to the end, whatever came of it."""


def ended_well(peer: PeerRecord) -> bool:
    """Whether the peer's entry is one of success. Results of earlier releases know of no troubles."""
    return peer.status == "finished" and not peer.troubles


def exit_code_of(peers: Sequence[PeerRecord], asked: Collection[str] = ()) -> int:
    """0 when all have ended well or as they were asked to; 11 when none has reached its end; else 10."""
    if not any(peer.status in REACHED for peer in peers):
        return EXIT_NONE_FINISHED
    return 0 if all(ended_well(peer) or peer.name in asked for peer in peers) else EXIT_LOST


def trouble_of(peer: PeerRecord) -> str:
    """In one line, why a peer has not ended well; empty if it has."""
    if ended_well(peer):
        return ""
    reasons = [text for text in (peer.reason, *peer.troubles) if text]
    told = "; ".join(reasons or peer.warnings[-1:])
    return f"{peer.name} {peer.status}" + (f" ({told})" if told else "")


def reasons_of(peer: PeerRecord) -> list[str]:
    """Why a peer that has trained to its end has not ended well, as lines that are among its warnings."""
    ending = [f"{peer.status}: {peer.reason}"] if peer.reason else []
    return [*ending, *peer.troubles]


def warnings_of(peer: PeerRecord) -> list[str]:
    """What else is to be said of a peer."""
    reasons = reasons_of(peer)
    return [text for text in peer.warnings if text not in reasons]
