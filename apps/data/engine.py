"""polars, and queries of it that a cancelled call leaves at once.

While polars computes, no Python runs in the main thread, and an interrupt waits for the end of that.
But polars looks for SIGINT while it computes.  So where a call may be cancelled a thread looks
whether it was, and then sends that signal to this process.
"""

from __future__ import annotations

import signal
import threading

from warmd.app import Interrupted, context

try:
    import polars as pl
except ImportError as error:
    raise ImportError("the app needs polars: pip install 'warmd[data]'") from error

__all__ = ["collect", "pl"]

LOOK_SECONDS = 0.05


def collect(query: pl.LazyFrame) -> pl.DataFrame:
    """The result of a query.  Raises Interrupted when the call was cancelled meanwhile."""
    if context.call_id is None:
        return query.collect()
    done = threading.Event()
    thread = threading.Thread(target=_stop_when_cancelled, args=(done, context.call_id), daemon=True)
    try:
        try:
            thread.start()
            return query.collect()
        finally:
            _end(done, thread)
    except KeyboardInterrupt:
        raise Interrupted("the call was cancelled while polars computed") from None


def _stop_when_cancelled(done: threading.Event, call_id: str) -> None:
    while not done.wait(LOOK_SECONDS) and context.call_id == call_id:
        if context.cancelled:
            signal.raise_signal(signal.SIGINT)


def _end(done: threading.Event, thread: threading.Thread) -> None:
    """Python sees each SIGINT too, a moment later than polars: none may be left for the code after."""
    interrupted: Interrupted | None = None
    while True:
        try:
            done.set()
            if thread.ident is not None:
                thread.join()
            break
        except KeyboardInterrupt:
            continue
        except Interrupted as error:
            interrupted = error
    if interrupted is not None:
        raise interrupted
