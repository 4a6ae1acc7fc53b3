"""The simulated world: real protocol objects and mailboxes, and a computed network, clocks and processes.

Rules of this package
1. Time and randomness come from the seed alone: no clock, no thread, no socket, no torch, and no order of a set of
   names.
2. Nothing here decides for a peer. What runs in `protocol/` and `mailbox.py` is what runs on real sockets.
3. No event costs work in proportion to the number of peers.
"""
