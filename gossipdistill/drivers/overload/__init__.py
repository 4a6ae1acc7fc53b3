"""Protection against floods of messages or connections: bounds on memory, files and time. No ZeroMQ, no event loop."""
