"""Where a coroutine waits, as text like faulthandler's.

While an event loop is idle the thread's own stack shows only the loop.  What an app waits for is
in the chain of coroutines, each of which holds the one that it awaits.
"""

from __future__ import annotations

import asyncio
import os
from types import AsyncGeneratorType, CoroutineType, FrameType, GeneratorType
from typing import Any

MAX_FRAMES = 100
_ASYNCIO = os.path.dirname(asyncio.__file__) + os.sep


def stack_of(awaited: Any) -> str:
    """The frames of a suspended coroutine, generator or async generator, innermost first.

    Those of asyncio itself at the inner end are left out: the app's line is what hangs.
    """
    frames: list[FrameType] = []
    while awaited is not None and len(frames) < MAX_FRAMES:
        frame, awaited = _step(awaited)
        if frame is not None:
            frames.append(frame)
    while len(frames) > 1 and frames[-1].f_code.co_filename.startswith(_ASYNCIO):
        frames.pop()
    return "".join(
        f'  File "{frame.f_code.co_filename}", line {frame.f_lineno} in {frame.f_code.co_name}\n'
        for frame in reversed(frames)
    )


def _step(awaited: Any) -> tuple[FrameType | None, Any]:
    """The frame of one link of the chain, and the next link."""
    if isinstance(awaited, CoroutineType):
        return awaited.cr_frame, awaited.cr_await
    if isinstance(awaited, AsyncGeneratorType):
        return awaited.ag_frame, awaited.ag_await
    if isinstance(awaited, GeneratorType):
        return awaited.gi_frame, awaited.gi_yieldfrom
    return None, None
