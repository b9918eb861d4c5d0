"""How slowly a body may come.

Whoever sends one has so many seconds of waiting, and gets some back with each byte: so one of which
nothing comes is given up, and so is one that comes drop by drop.  Time in which nobody waits for it is
not counted: a gateway that is busy is not the client's fault.
"""

from __future__ import annotations

import asyncio

from starlette.types import Message, Receive

from warmd.http.problems import HttpProblem

STALL_SECONDS = 60.0
LEAST_BYTES_PER_SECOND = 16 * 1024


class Arrival:
    """Of one body."""

    def __init__(self) -> None:
        self._left_seconds = STALL_SECONDS

    async def next(self, receive: Receive) -> Message:
        """Its next piece.  Raises HttpProblem for what comes too slowly."""
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            async with asyncio.timeout(self._left_seconds):
                message = await receive()
        except TimeoutError:
            raise HttpProblem(
                "BODY_STALLED",
                f"the body comes too slowly: nothing for {STALL_SECONDS:g} s, or less than "
                f"{LEAST_BYTES_PER_SECOND} bytes a second for long: send the request again",
            ) from None
        won = len(message.get("body", b"")) / LEAST_BYTES_PER_SECOND
        self._left_seconds = min(STALL_SECONDS, self._left_seconds + won - (clock() - began))
        return message
