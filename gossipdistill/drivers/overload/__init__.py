"""What keeps a flood of messages or connections from taking all memory, files and time. No ZeroMQ, no event loop."""
