"""Calls that outlive their client: what comes for them from outside (`kept` says what is kept).

A detached call runs like any other; only its parts and its end go into the `Keep` and from there
to whoever is attached.  Its worker need not wait for readers, so the daemon itself gives it credit.
A call whose id is known, also after its end, is a repetition: it is read, and not run again.
"""

from __future__ import annotations

from warmd.daemon.core import effects as fx
from warmd.daemon.core import policy
from warmd.daemon.core.ahead import worker_of
from warmd.daemon.core.book import Book
from warmd.daemon.core.events import AttachArrived, CallArrived
from warmd.daemon.core.record import Kept
from warmd.daemon.core.session import Job, Session
from warmd.protocol.errors import Problem
from warmd.protocol.parcels import Value
from warmd.protocol.work import MoreCredit

CREDIT_AT_ONCE = policy.DETACHED_WINDOW // 2


def opened(book: Book, event: CallArrived) -> Kept:
    """The record of a new detached call, and its caller as the first reader."""
    kept = book.keep.open(event.call.id, event.call.function, event.call.note)
    book.keep.attach(kept, event.client, kept.id, 0, None)
    return kept


def repeated(book: Book, event: CallArrived) -> bool:
    """Whether the call came here before; then it is answered from what is kept."""
    call = event.call
    kept = book.keep.calls.get(call.id)
    if kept is not None:
        if book.keep.reader(event.client, call.id) is None:
            problem = _objection(book, kept, 0, None)
            if problem is None:
                book.keep.attach(kept, event.client, call.id, 0, None)
            else:
                book.refuse(event.client, call.id, kept.session, problem)
        return True
    if call.id in book.keep.graves:
        book.refuse(event.client, call.id, None, book.keep.missing(call.id, book.now))
        return True
    return False


def attach_arrived(book: Book, event: AttachArrived) -> None:
    """Another reader of a detached call; refused when that is not kept, or the attachment is odd."""
    attach, client = event.attach, event.client
    if book.keep.reader(client, attach.id) is not None:
        return
    kept = book.keep.calls.get(attach.call)
    if attach.id in book.jobs:
        problem: Problem | None = Problem("INVALID", "the id is in use by a call: choose 16 random bytes")
    elif kept is not None:
        problem = _objection(book, kept, attach.offset, attach.window)
    elif attach.call in book.jobs:
        text = f"call {attach.call.hex()} is not detached: submit it so for others to hear of it"
        problem = Problem("INVALID", text)
    else:
        problem = book.keep.missing(attach.call, book.now)
    if problem is not None or kept is None:
        assert problem is not None
        book.refuse(client, attach.id, kept.session if kept else None, problem)
    else:
        book.keep.attach(kept, client, attach.id, attach.offset, attach.window)


def yielded(book: Book, session: Session, job: Job, kept: Kept, value: Value) -> None:
    """The worker gave a part; it is never kept waiting for more credit."""
    book.keep.add(kept, value)
    if kept.next % CREDIT_AT_ONCE == 0:
        book.emit(fx.Tell(worker_of(session), MoreCredit(job.ordinal, CREDIT_AT_ONCE)))


def _objection(book: Book, kept: Kept, offset: int, window: int | None) -> Problem | None:
    if window is not None and window < 0:
        text = f"window is {window}: give the number of parts that can be taken now, 0 or more"
        return Problem("INVALID", text)
    if window is not None and window > book.limits.max_stream_window:
        limit = book.limits.max_stream_window
        return Problem("INVALID", f"window is {window}: the limit is {limit} parts (max_stream_window)")
    if window is None and offset:
        return Problem("INVALID", f"offset is {offset}: without a window no parts come, only the result")
    if offset < 0 or (kept.final is not None and offset > kept.next):
        return book.keep.beyond(kept, offset)
    if len(kept.readers) >= policy.MAX_READERS:
        text = f"{policy.MAX_READERS} readers are attached to call {kept.id.hex()} already: close one of them"
        return Problem("QUEUE_FULL", text, details={"limit": policy.MAX_READERS})
    return book.keep.dropped(kept, offset) if window is not None and offset < kept.first else None
