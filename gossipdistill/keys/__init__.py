"""Keys on disk: one secret file per peer, public keys in the roster, and what becomes of both.

Rules of this package
1. A secret is read from a file that nobody else may read, and handed to sockets. It is never printed, logged, put into
   a run's folder, a command line, an environment variable or a message of an error.
2. Nothing that exists is overwritten unless the user says so.
3. Files are changed as a whole, by a rename; who changes a roster holds its folder's lock, so that the machines of a
   shared folder can each write their own key.
"""
