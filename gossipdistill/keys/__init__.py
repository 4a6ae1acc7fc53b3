"""Keys on disk: one secret file per peer, public keys in the roster, and their management.

Rules of this package
1. A secret is read from a file that only its owner may read, and passed to sockets. It is never printed, logged, or put
into a run's folder, a command line, an environment variable or an error message.
2. Nothing that exists is overwritten unless the user says so.
3. Files are replaced as a whole, by a rename. A process that changes a roster holds the lock of its folder, so that
machines with a shared folder can each write their own key.
"""
