"""One protocol on ZeroMQ sockets."""

from gossipdistill.drivers.zeromq.driver import Driver

__all__ = ["Driver"]
