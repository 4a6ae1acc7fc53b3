"""The fixtures as an installation brings them (a clone that is only on the path has no entry points)."""

from gossipdistill.testing.plugin import gossip_cluster, gossip_run

__all__ = ["gossip_cluster", "gossip_run"]
