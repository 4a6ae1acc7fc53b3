"""The value machine: messages, clock readings and random generators in; messages, events and the next wake-up out.

Nothing here reaches a socket, a clock, a thread or torch (import-linter holds that). The same object runs on real
sockets and in virtual time.
"""
