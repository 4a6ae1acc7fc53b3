"""Whether a run between these machines can work, and what to do where it cannot; before anything is trained.

    local     what this machine says: addresses, ports, limits, versions     (files, sockets, look-ups)
    meetings  what to say to the others and what their answers mean          (values only)
    talk      the same over the sockets that a worker would have
    case      all that was found out, frozen
    checks    one file each: a function from a case to findings              (values only)
    examine   puts them together

A doctor opens the very ports of its peer, control and data, for as long as it runs, and says what peers say to one
another: greetings, pings and pieces of a large body. Doctors answer one another; a worker that is under way turns the
greeting away, for it is addressed to nobody's name, and that is answer enough: it takes no note of the caller.
"""
