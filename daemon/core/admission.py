"""A call arrives: is it sound, where does it belong, and is there room for it?

1. An id that is in use, or that of a detached call or an attachment: it runs no second time.
2. A value out of its bounds, or an option that does not fit: refused, before anything starts.
3. `session` names an id: the live session's queue, or the reason why it is no more.
4. `session` is "new", with a name that a live session has: joined, if it is the same.
5. `session` is "new", and a spare is ready that is like it: that is taken.
6. `session` is "new": a session, its app to be looked up, if there is a place for a process.
7. No session: the pool of its app and `setup`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator

from warmd.daemon.core import ahead, chains, detached, policy, pools, readers, serving, spares
from warmd.daemon.core import effects as fx
from warmd.daemon.core.book import Book
from warmd.daemon.core.events import CallArrived
from warmd.daemon.core.holdings import size_of
from warmd.daemon.core.session import Job, Phase, Session
from warmd.daemon.core.spares import NO_OPTIONS
from warmd.protocol import names
from warmd.protocol.errors import Problem, quoted
from warmd.protocol.messages import (
    CALL_ID_BYTES,
    MAX_NOTE_CHARACTERS,
    NEW_SESSION,
    Call,
    NewSession,
    SessionId,
)

NOT_FUNCTIONS = frozenset({"setup", "unload", "on_cancel"})
MIN_SESSION_TIMEOUT_SECONDS = 1.0
MAX_NAME_CHARACTERS = 128
MAX_FUNCTION_CHARACTERS = 256
MAX_APP_CHARACTERS = 4096
"""The longest path that Linux takes."""


def call_arrived(book: Book, event: CallArrived) -> None:
    call = event.call
    if (call.detach and detached.repeated(book, event)) or _goes_on(book, event):
        return
    outcome = _objection_to_id(book, call) or _objection(book, call) or _place(book, event)
    if outcome is not None:
        book.refuse(event.client, call.id, None, outcome)


def _goes_on(book: Book, event: CallArrived) -> bool:
    """Whether the id names a call or attachment of this client that is under way."""
    known = book.jobs.get(event.call.id)
    own = known is not None and known.client == event.client
    return own or book.keep.reader(event.client, event.call.id) is not None


def _objection_to_id(book: Book, call: Call) -> Problem | None:
    if call.id in book.jobs:
        return Problem("INVALID", "the call's id is in use by another client: choose 16 random bytes")
    if call.id in book.keep.calls:
        return Problem("INVALID", "the call's id is that of a detached call: choose 16 random bytes")
    return None


def _place(book: Book, event: CallArrived) -> Problem | None:
    call = event.call
    if book.behind and (problem := readers.refusal(book, event.client)) is not None:
        return problem
    if call.session is None:
        return _into_pool(book, event)
    if call.session == NEW_SESSION:
        return _into_new_session(book, event)
    return _into_session(book, event, SessionId(call.session))


def _into_session(book: Book, event: CallArrived, wanted: SessionId) -> Problem | None:
    session = book.find(wanted)
    if isinstance(session, Problem):
        return session
    if event.call.app is not None and event.call.app != session.app:
        return Problem(
            "APP_MISMATCH",
            f"session {wanted} belongs to app {session.app.name!r}, not to {event.call.app.name!r}"
            + (" of another interpreter or folder" if event.call.app.name == session.app.name else ""),
        )
    return _enqueue(book, event, session)


def _into_new_session(book: Book, event: CallArrived) -> Problem | None:
    call, options = event.call, event.call.new or NO_OPTIONS
    assert call.app is not None
    named = book.names.get(options.name) if options.name is not None else None
    if named is not None:
        return _objection_to_joining(call, options, named) or _enqueue(book, event, named)
    size = size_of(call.input, call.setup, call.pickled)
    if (problem := book.held.refusal(book.limits, event.client, size)) is not None:
        return problem
    if (spare := spares.find(book, call)) is not None:
        spares.take(book, spare, event)
        return _enqueue(book, event, spare)
    if not book.has_room():
        return Problem("NO_ROOM", pools.no_room(book), details={"limit": book.limits.max_sessions})
    asked = options.idle_seconds
    session = Session(
        id=SessionId(f"sess_{event.fresh}"),
        app=call.app,
        created=book.now,
        idle_seconds=book.limits.session_timeout_seconds if asked is None else asked,
        lifetime_seconds=min(options.lifetime_seconds or math.inf, book.limits.max_lifetime_seconds),
        opener=event.client,
        idle_asked=asked is not None,
        setup=call.setup,
        pickled=call.pickled,
        env=options.env,
        name=options.name,
        labels=options.labels,
        spare=options.spare,
    )
    book.add(session)
    book.hold_for_start(session)
    book.emit(fx.LookUp(session.id, call.app))
    return _enqueue(book, event, session)


def _into_pool(book: Book, event: CallArrived) -> Problem | None:
    call, options = event.call, event.call.new or NO_OPTIONS
    assert call.app is not None
    key = (call.app, bytes(call.setup), tuple(sorted(options.env.items())))
    pool = book.pools.get(key)
    size = len(call.input) if pool is not None else size_of(call.input, key[1], call.pickled)
    if pool is not None and len(pool.queue) >= book.limits.max_queue:
        return _queue_full(book, f"app {call.app.name!r}")
    if (problem := book.held.refusal(book.limits, event.client, size)) is not None:
        return problem
    if pool is None:
        pool = pools.open_pool(book, key, call.pickled, event.client)
    job = _job(book, event, pool.queue)
    book.register(job)
    book.hold(job)
    pools.submit(book, pool, job)
    return None


def _enqueue(book: Book, event: CallArrived, session: Session) -> Problem | None:
    if book.inside and (problem := chains.objection(book, event.client, event.call, session)) is not None:
        return problem
    if len(session.queue) + len(session.ahead) >= book.limits.max_queue:
        return _queue_full(book, f"session {session.id}")
    # To an idle session it goes at once: then it never waits here.
    waits = session.phase is not Phase.IDLE
    if waits:
        problem = book.held.refusal(book.limits, event.client, len(event.call.input))
        if problem is not None:
            return problem
    job = _job(book, event, session.queue)
    job.session = session
    book.register(job)
    if waits:
        book.hold(job)
    session.queue.append(job)
    if session.phase is not Phase.LOOKING_UP:
        book.accept(job)
    if session.phase is Phase.IDLE:
        serving.serve_next(book, session)
    elif session.phase is Phase.BUSY:
        ahead.refill(book, session)
    elif session.phase is Phase.PARKED:
        book.wait_for_room(session)
    return None


def _job(book: Book, event: CallArrived, queue: deque[Job]) -> Job:
    call = event.call
    timeout = call.timeout_seconds
    return Job(
        client=event.client,
        id=call.id,
        function=call.function,
        window=policy.DETACHED_WINDOW if call.detach else call.window,
        input=call.input,
        arrived=book.now,
        timeout_seconds=book.limits.call_timeout_seconds if timeout is None else timeout,
        wants_accepted=call.session is None or call.session == NEW_SESSION or call.detach,
        queue=queue,
        request_id=call.request_id,
        kept=detached.opened(book, event) if call.detach else None,
    )


def _queue_full(book: Book, where: str) -> Problem:
    limit = book.limits.max_queue
    return Problem(
        "QUEUE_FULL",
        f"{limit} calls wait for {where} already (max_queue): wait for answers before sending more, "
        "or use more sessions",
        details={"limit": limit},
    )


def _objection(book: Book, call: Call) -> Problem | None:
    """The first thing wrong with the call itself, or None."""
    if book.draining:
        return Problem("DRAINING", "the daemon is stopping and takes no more calls: start it again")
    if call.function.startswith("_") or call.function in NOT_FUNCTIONS:
        text = f"{quoted(call.function, 100)} is private: only public functions can be called"
        return Problem("FUNCTION_NOT_FOUND", text)
    complaint = next(_complaints(book, call), None)
    return Problem("INVALID", complaint) if complaint else None


def _complaints(book: Book, call: Call) -> Iterator[str]:
    timeout, window = call.timeout_seconds, call.window
    if len(call.id) != CALL_ID_BYTES:
        yield f"a call's id has {CALL_ID_BYTES} bytes, not {len(call.id)}"
    if timeout is not None and not 0 < timeout < math.inf:
        yield f"timeout is {timeout:g}: give a number of seconds above 0"
    if window is not None and window < 0:
        yield f"window is {window}: give the number of parts that can be taken now, 0 or more"
    if call.detach and window is not None:
        yield f"window is {window}: a detached call has none, its parts are read by attaching to it"
    if window is not None and window > book.limits.max_stream_window:
        yield f"window is {window}: the limit is {book.limits.max_stream_window} parts (max_stream_window)"
    if call.note and not call.detach:
        yield "note is given: it is kept with detached calls alone, so leave it out, or detach the call"
    if len(call.note) > MAX_NOTE_CHARACTERS:
        yield f"note has {len(call.note)} characters, the limit is {MAX_NOTE_CHARACTERS}"
    if call.request_id and not names.is_request_id(call.request_id):
        yield f"request_id is {call.request_id[:70]!r}: {names.REQUEST_ID_IS}"
    if len(call.function) > MAX_FUNCTION_CHARACTERS:
        size = len(call.function)
        yield f"the function's name has {size} characters, the limit is {MAX_FUNCTION_CHARACTERS}"
    if call.app is not None and len(call.app.name) > MAX_APP_CHARACTERS:
        yield f"the app's name has {len(call.app.name)} characters, the limit is {MAX_APP_CHARACTERS}"
    new = call.session == NEW_SESSION
    if (new or call.session is None) and call.app is None:
        yield "a call without an existing session must name its app"
    if not new and call.session is not None and (call.new or len(call.setup) or len(call.pickled)):
        yield (
            "session_timeout, max_lifetime, name, labels, env and setup belong to a new session, "
            "not to an existing one"
        )
    if call.new is not None:
        yield from _complaints_about_options(book, call.new, new)
        if call.new.spare:
            yield from _complaints_about_spare(call, call.new)


def _complaints_about_spare(call: Call, options: NewSession) -> Iterator[str]:
    if call.session != NEW_SESSION or call.function or call.detach:
        yield 'a spare is only started: it needs session="new", and no function'
    if options.name is not None or options.labels or options.lifetime_seconds is not None:
        yield "a spare has no name, labels or max_lifetime: those of the call that takes it count"


def _complaints_about_options(book: Book, options: NewSession, new: bool) -> Iterator[str]:
    idle, name = options.idle_seconds, options.name
    lifetime, longest = options.lifetime_seconds, book.limits.max_lifetime_seconds
    if not new and (any(option is not None for option in (idle, lifetime, name)) or options.labels):
        yield (
            'session_timeout, max_lifetime, name and labels need session="new": '
            "workers of the shared pool have none"
        )
    if lifetime is not None and not MIN_SESSION_TIMEOUT_SECONDS <= lifetime <= longest:
        bounds = f"{MIN_SESSION_TIMEOUT_SECONDS:g} to {_span(longest)} (the daemon's max_lifetime)"
        yield f"max_lifetime is {_span(lifetime)}: it must be from {bounds}"
    ceiling = book.limits.max_session_timeout_seconds
    if idle is not None and not MIN_SESSION_TIMEOUT_SECONDS <= idle <= ceiling:
        bounds = f"{MIN_SESSION_TIMEOUT_SECONDS:g} to {_span(ceiling)} (max_session_timeout)"
        yield f"session_timeout is {_span(idle)}: it must be from {bounds}"
    if name is None:
        return
    if name == NEW_SESSION or name.startswith("sess_") or not 0 < len(name) <= MAX_NAME_CHARACTERS:
        yield (
            f"the name {quoted(name, 60)} cannot be used: give 1 to {MAX_NAME_CHARACTERS} characters "
            f"that are not {NEW_SESSION!r} and do not begin with 'sess_'"
        )


def _span(seconds: float) -> str:
    return "never" if seconds == math.inf else f"{seconds:g} s"


def _objection_to_joining(call: Call, options: NewSession, named: Session) -> Problem | None:
    same = call.app == named.app and call.setup == named.setup and options.env == named.env
    if not same:
        return Problem(
            "APP_MISMATCH",
            f"the name {named.name!r} belongs to session {named.id} of app {named.app.name!r} "
            "with another app, setup or env: choose another name, or end that session",
        )
    asked = options.idle_seconds
    if asked is not None and asked != named.idle_seconds:
        return Problem(
            "INVALID",
            f"session_timeout is {_span(asked)}, but the session named {named.name!r} exists "
            f"with {_span(named.idle_seconds)}: leave the option out, or choose another name",
        )
    lifetime = options.lifetime_seconds
    if lifetime is not None and lifetime != named.lifetime_seconds:
        return Problem(
            "INVALID",
            f"max_lifetime is {_span(lifetime)}, but the session named {named.name!r} exists "
            f"with {_span(named.lifetime_seconds)}: leave the option out, or choose another name",
        )
    if options.labels and options.labels != named.labels:
        text = f"the session named {named.name!r} exists with other labels"
        return Problem("INVALID", f"{text}: leave them out, or choose another name")
    return None
