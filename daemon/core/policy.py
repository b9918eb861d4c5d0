"""The numbers that the rule book goes by, each with its unit in its name."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

STACK_SECONDS = 0.15
"""How long a stack may take; 13 ms were measured with C code holding the interpreter."""
INTERRUPT_EVERY_SECONDS = 0.1
"""An interrupt that lands in `__del__` is swallowed, so it is repeated."""
INTERRUPT_FOR_SECONDS = 1.0
"""Then the worker is killed."""
GRACE_AT_DEADLINE_SECONDS = 0.3
"""The ladder of a call past its deadline takes 1.5 s at most: stack, this, interrupts."""
ABANDONED_SECONDS = 1.0
"""A stream that its reader has left has this long to come to its next part; then it is interrupted."""
ABANDONED_AGAIN_SECONDS = 1.0
AHEAD_INPUT_BYTES = 64 * 1024
"""A call with a larger input is not sent before its turn: it would only lie in memory twice."""
CATCH_UP_SECONDS = 1.0
"""A client that is behind in reading has this long to catch up before results are lost to it."""
ALWAYS_SENT_BYTES = 1024
"""A result of no more is never dropped: the error in its place would be as large."""
LISTED = 1000
"""How many of the sessions that are gone, or of the calls that are over, a listing shows: the newest."""
REMEMBERED_SESSIONS = 10_000
"""How many sessions that are gone still have an answer that says why."""

FORK_SECONDS = 10.0
"""A template that has not forked by then is stopped or hangs: it is killed."""
UNFORKABLE_SECONDS = 600.0
"""For how long an app that could not be forked is spawned without another try."""
REMEMBERED_UNFORKABLE = 1000

LOOK_SECONDS = 1.0
"""How often the GPUs are looked at while there are sessions: their drivers tell nothing by themselves."""
LOOK_OFTEN_SECONDS = 0.1
"""The same while somebody waits for memory that may come free."""
LOOK_FOR_GPUS_SECONDS = 5.0
"""The same while there is none, and sessions had some."""
REMEMBERED_FOOTPRINTS = 1000
"""Of how many apps and setups it is remembered what they need."""
MIN_RESIDENT_SECONDS = 0.1
"""So long a session keeps its GPU memory at least, and for as long as its last moves took."""
YIELD_AFTER_SECONDS = 1.0
"""So long a session that waits for GPU memory lets calls that wait for others go first."""
MOVE_SECONDS = 30.0
MOVE_BYTES_PER_SECOND = 2**29
"""A move of GPU memory may take so long, and so much more by its size: then its process is killed."""
UNPARK_BYTES_PER_SECOND = 5 * 2**30
"""How fast memory comes back, where that was not measured yet."""
TRY_AGAIN_SECONDS = 5.0
"""At most so long after the last try a session is parked, or brought back, again."""
MOST_DOUBLED = 10
"""Of the time between two tries; it has reached its most before."""
MOST_OF_STRANGERS = 0.1
"""Of a GPU's memory: who asks for it to itself bears with so much of other programs on it."""
LEAST_FREED = 0.1
"""A park that frees less of the memory has freed none."""

DETACHED_WINDOW = 64
"""Parts that a worker may send ahead of the daemon in a detached call: only its budget bounds those kept."""
KEPT_CALL_BYTES = 1024
KEPT_PART_BYTES = 128
"""What keeping one costs beside its value."""
REMEMBERED_CALLS = 10_000
"""How many detached calls that are no longer kept still have an answer that says why."""
TOLD_AT_ONCE_BYTES = 2**20
"""What one event tells a reader of what is kept; nobody else is served meanwhile."""
TOLD_PART_BYTES = 8192
"""To tell a part takes as long as to copy so much, beside its value."""
TELL_AGAIN_SECONDS = 0.001
"""Then the next slice follows."""
MAX_READERS = 64
"""How many may be attached to one call at one time."""
MAX_WATCHED = 256
"""Of so many calls one client may hear how far they are."""


@dataclass(frozen=True, slots=True)
class Limits:
    max_sessions: int = 256
    """Processes at once: sessions and workers of the shared pool, dying ones included."""
    max_queue: int = 256
    """Calls that wait for one session, or for one app of the shared pool."""
    max_queued_bytes: int = 2 * 2**30
    """All bodies that are held: inputs of calls that wait, and what starts may still need."""
    max_client_queued_bytes: int = 512 * 2**20
    """The same of one client."""
    max_unread_bytes: int = 32 * 2**20
    """What may lie sent and unread for one client."""
    max_stream_window: int = 10_000
    """Parts of one stream that may have been allowed and not been yielded."""
    max_pool_workers: int = 4
    """Workers of the shared pool for one app and `setup`."""
    session_timeout_seconds: float = 60.0
    """Idle time of a session that does not ask for another, and of pool workers."""
    max_lifetime_seconds: float = inf
    """Then a session expires, also one that is called all the time; inf: never."""
    max_hold_seconds: float = 3600.0
    max_session_timeout_seconds: float = 3600.0
    """The longest that a session may ask for; inf allows "never"."""
    call_timeout_seconds: float = 3600.0
    dispatch_ahead: int = 0
    """Calls that a worker may have before their turn (`ahead.py`); 0: each waits for the last."""
    max_templates: int = 0
    """Processes that have imported an app and are forked for each start; 0: each start is spawned."""
    template_bytes: int = 2 * 2**30
    """Their private memory together; the least recently used goes first."""
    template_seconds: float = 600.0
    """A template that was not forked for so long ends; inf: never."""
    start_timeout_seconds: float = 600.0
    end_grace_seconds: float = 10.0
    """For `unload` and the exit after it."""
    cancel_grace_seconds: float = 10.0
    """For an app that has an `on_cancel`."""
    gpu_wait_seconds: float = 300.0
    """The longest that a start, or calls of a parked session, wait for GPU memory."""
    park_bytes: int = 2**40
    """Host memory for the GPU memory of all parked sessions."""
    detached_keep_seconds: float = 600.0
    """How long what a detached call gave is kept after its end."""
    detached_max_bytes: int = 64 * 2**20
    """Results and parts of all detached calls together."""
