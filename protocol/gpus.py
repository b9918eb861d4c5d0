"""What an app asks of GPUs, and how its worker hands their memory back and takes it again.

    daemon -> worker                     worker -> daemon
    Park      hand back GPU memory       Offloaded       done, it is in host memory
    Unpark    take it again              Checkpointable  the driver may do it instead
                                         KeepsMemory     neither, and why: it works on
                                         ParkFailed      a hook raised: it must end
                                         Unparked        it works as before

Moves are numbered, so that an answer to one that was given up means nothing.
"""

from __future__ import annotations

from typing import NamedTuple

from warmd.protocol.record import record


class GpuAsk(NamedTuple):
    """What an app asks of the machine's GPUs; exactly one of these is set."""

    whole: int = 0
    """So many GPUs, each to itself."""
    share: float = 0.0
    """This part of one GPU's memory, above 0 and below 1."""
    bytes: int = 0
    """So much of one GPU's memory."""


@record
class Park:
    """To an idle worker, which runs nothing until `Unpark`, or until it has said that it keeps its memory."""

    move: int


@record
class Unpark:
    """After `Offloaded`; where memory is short `KeepsMemory` answers, and it is parked as before."""

    move: int


@record
class Offloaded:
    """Its own hooks have moved what it had to host memory."""

    move: int


@record
class Checkpointable:
    """It has no hooks for that.  The driver may move its memory, as long as nothing is asked of it."""

    move: int


@record
class KeepsMemory:
    move: int
    message: str


@record
class ParkFailed:
    """`park` or `unpark` raised, and what it had done could not be undone."""

    move: int
    message: str


@record
class Unparked:
    move: int
