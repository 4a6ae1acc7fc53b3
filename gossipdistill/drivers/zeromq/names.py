"""Host names to addresses, without blocking the loop or the end of the process."""

from __future__ import annotations

import asyncio
import contextlib
import socket as sockets
import threading
from typing import Any

from gossipdistill.presence import Address


async def look_up(address: Address) -> list[Any]:
    """`socket.getaddrinfo` on a daemon thread of its own.

    A look-up of a dead host can hang for long. In the loop's own pool it would outlive the loop (uvloop then crashed
    the process at its end), in an executor it would delay the end of the process; here it delays nothing.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[Any]] = loop.create_future()

    def settle(found: list[Any] | None, error: Exception | None) -> None:
        if not answer.done():
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(found or [])

    def work() -> None:
        found, problem = None, None
        try:
            found = sockets.getaddrinfo(address.host, address.port, type=sockets.SOCK_STREAM)
        except (OSError, ValueError) as error:
            problem = error
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, found, problem)

    threading.Thread(target=work, daemon=True, name="resolver").start()
    return await answer
