"""Derives the exit code of a run, and the notes on each peer, from how the peers ended."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from gossipdistill.errors import EXIT_LOST, EXIT_NONE_FINISHED
from gossipdistill.observe.records import PeerRecord

REACHED = ("finished", "diverged", "collapsed", "short")
"""The statuses of peers that have trained to the end, with any result."""


def ended_well(peer: PeerRecord) -> bool:
    """Whether the peer's entry is a success. Results of earlier releases contain no troubles."""
    return peer.status == "finished" and not peer.troubles


def exit_code_of(peers: Sequence[PeerRecord], asked: Collection[str] = ()) -> int:
    """0 if all have ended well or as requested; 11 if none has reached its end; else 10."""
    if not any(peer.status in REACHED for peer in peers):
        return EXIT_NONE_FINISHED
    return 0 if all(ended_well(peer) or peer.name in asked for peer in peers) else EXIT_LOST


def trouble_of(peer: PeerRecord) -> str:
    """One line on why a peer has not ended well; empty if it has."""
    if ended_well(peer):
        return ""
    reasons = [text for text in (peer.reason, *peer.troubles) if text]
    told = "; ".join(reasons or peer.warnings[-1:])
    return f"{peer.name} {peer.status}" + (f" ({told})" if told else "")


def reasons_of(peer: PeerRecord) -> list[str]:
    """Why a peer that has trained to its end has not ended well: lines that are among its warnings."""
    ending = [f"{peer.status}: {peer.reason}"] if peer.reason else []
    return [*ending, *peer.troubles]


def warnings_of(peer: PeerRecord) -> list[str]:
    """The other warnings of a peer."""
    reasons = reasons_of(peer)
    return [text for text in peer.warnings if text not in reasons]
