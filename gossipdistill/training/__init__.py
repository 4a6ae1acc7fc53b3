"""One peer's training: the gossip half, the half that computes, and how a peer joins and leaves a run."""
