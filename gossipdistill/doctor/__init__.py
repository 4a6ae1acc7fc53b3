"""Checks before training whether a run between these machines can work, and says what to do where it cannot.

    local     facts of this machine: addresses, ports, limits, versions      (files, sockets, look-ups)
    meetings  which messages to send, and what the answers mean              (values only)
    talk      the same over the sockets that a worker uses
    case      all facts that were found, frozen
    checks    one file each: a function from a case to findings              (values only)
    examine   puts these together

A doctor opens the ports of its own peer, control and data, for as long as it runs, and sends the messages of a peer:
greetings, pings and pieces of a large body. Doctors answer one another. A worker refuses the greeting, because it is
addressed to a name that no peer has, and keeps no state of the caller; the refusal shows that the worker is there.
"""
