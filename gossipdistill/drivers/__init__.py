"""The protocol on real sockets, clocks and threads. No decision is taken here: those belong to protocol/."""
