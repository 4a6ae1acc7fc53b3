"""One suite of scenes, run on every kind of network that a peer can be put on."""
