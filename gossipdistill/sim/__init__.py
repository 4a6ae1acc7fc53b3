"""The simulated world: real protocol objects, real mailboxes, and a network, clocks and processes made of arithmetic.

Rules of this package
1. Time and chance come from the seed alone: no clock, no thread, no socket, no torch, and no order of a set of names.
2. Nothing here decides for a peer. What runs in `protocol/` and `mailbox.py` is what runs on real sockets.
3. No event costs work in proportion to the number of peers.
"""
