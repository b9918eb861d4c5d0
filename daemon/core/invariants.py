"""What is always true of the book between two events; checked in tests and under WARMD_CHECK=1."""

from __future__ import annotations

from collections import Counter
from math import inf

from warmd.daemon.core.book import Book
from warmd.daemon.core.gpus import Tenancy
from warmd.daemon.core.holdings import size_of
from warmd.daemon.core.readers import is_paused
from warmd.daemon.core.record import Kept, final_bytes
from warmd.daemon.core.session import Job, Phase, Session, Template
from warmd.daemon.core.views import runs
from warmd.protocol.messages import ClientId

TIMERS_OF_CALLS = ("call", "ladder", "left")
TIMERS_OF_CLIENTS = ("behind",)
TIMERS_OF_TEMPLATES = ("import", "fork", "template")
TIMERS_OF_SESSIONS = ("start", "idle", "finish", "room", "move")
TIMER_OF_LIFE = "lifetime"
OF_TENANTS = (Phase.PLACING, Phase.PARKING, Phase.PARKED, Phase.UNPARKING)


def check(book: Book) -> None:
    """Raise AssertionError, with the reason, at the first contradiction."""
    assert len(book.sessions) <= book.limits.max_sessions, "more processes than max_sessions"
    for session in book.sessions.values():
        _check_session(book, session)
    for job in book.jobs.values():
        _check_job(book, job)
    for name, session in book.names.items():
        assert session.name == name, f"{name} is the name of another session"
        assert session.phase not in (Phase.STOPPING, Phase.GONE), f"{name} names a stopping session"
    _check_pools(book)
    _check_spares(book)
    _check_templates(book)
    _check_gpus(book)
    _check_held(book)
    _check_indexes(book)
    _check_timers(book)
    _check_keep(book)
    _check_watchers(book)
    assert not book.effects, "effects were left from an event before"


def _check_session(book: Book, session: Session) -> None:
    label = f"{session.id} ({session.phase.value})"
    timers = {kind for kind in TIMERS_OF_SESSIONS if (kind, session.id) in book.deadlines}
    waiting = bool(session.queue) if session.pool is None else False
    assert len(session.queue) <= book.limits.max_queue, f"{label} has more waiting calls than max_queue"
    mortal = session.verdict is None and session.lifetime_seconds < inf
    assert ((TIMER_OF_LIFE, session.id) in book.deadlines) == mortal, f"{label} would live too long"
    if session.phase is Phase.LOOKING_UP:
        assert session.worker is None and not timers, f"{label} has a worker or a timer"
    elif session.phase is Phase.STARTING:
        assert timers == {"start"}, f"{label} must have its start timer alone, has {timers}"
        assert session.kill_wanted == (session.lost_link is not None), f"{label} is being killed"
    elif session.phase is Phase.IDLE:
        assert timers == {"idle"}, f"{label} must have its idle timer alone, has {timers}"
        idle = session.running is None and not session.queue and not session.ahead
        assert idle, f"{label} has work and does not do it"
    elif session.phase is Phase.BUSY:
        assert session.running is not None and not timers, f"{label} runs nothing, or would expire"
    elif session.phase is Phase.PLACING:
        assert session.worker is None and timers == {"room"}, f"{label} waits for no room: {timers}"
    elif session.phase in (Phase.PARKING, Phase.UNPARKING):
        assert timers == {"move"} and session.running is None, f"{label} works, or moves for ever: {timers}"
    elif session.phase is Phase.PARKED:
        assert timers == ({"room"} if session.waits_for_room else {"idle"}), f"{label} has timers {timers}"
        assert not waiting or session.waits_for_room, f"{label} has work and does not come back"
    elif session.phase is Phase.STOPPING:
        assert session.verdict is not None and not waiting, f"{label} has no verdict, or waiting calls"
        going = session.running or session.kill_wanted or "finish" in timers
        assert going, f"{label} will never end"
    else:
        raise AssertionError(f"{label} is gone and still listed")
    _check_sent(book, session, label)
    if not session.kill_wanted:
        assert session.paused == is_paused(book, session), f"{label} is paused: {session.paused}"
    if session.running is not None:
        assert session.running.session is session and session.running.ordinal, f"{label} runs a stranger"
        assert session.running.id in book.jobs, f"{label} runs a call that was answered"


def _check_sent(book: Book, session: Session, label: str) -> None:
    ordinals = [job.ordinal for job in session.ahead]
    assert ordinals == sorted(set(ordinals)), f"{label} has sent calls out of order: {ordinals}"
    assert len(ordinals) <= book.limits.dispatch_ahead, f"{label} has sent too many calls ahead"
    if session.running is not None and ordinals:
        assert session.running.ordinal < ordinals[0], f"{label} runs a call before its turn"
    if ordinals and session.running is None:
        assert session.kill_wanted, f"{label} has sent calls ahead of nothing"


def _check_job(book: Book, job: Job) -> None:
    label = f"call {job.id.hex()}"
    running = runs(job)
    sent = job.session.ahead.count(job) if job.session is not None else 0
    waiting = job.queue.count(job)
    assert running + sent + waiting == 1, f"{label} is in {running}, {sent} and {waiting} places"
    assert running + sent == bool(job.ordinal), f"{label} has ordinal {job.ordinal}; running: {running}"
    if job.ladder is None:
        watched = ("call", job.id) in book.deadlines or job.withdrawal is not None
        assert watched, f"{label} has no deadline"
    else:
        assert ("ladder", job.id) in book.deadlines, f"{label} is on a ladder that does not move"
    mine = book.jobs_of.get(job.client, {})
    assert mine.get(job.id) is job, f"{label} is not among its client's calls"


def _check_pools(book: Book) -> None:
    for pool in book.pools.values():
        assert pool.members or not pool.queue, "calls wait for a pool without workers"
        assert len(pool.queue) <= book.limits.max_queue, "a pool has more waiting calls than max_queue"
        alive = [m for m in pool.members.values() if m.phase is not Phase.STOPPING]
        assert len(alive) <= book.limits.max_pool_workers, "a pool has more workers than max_pool_workers"
        for member in pool.members.values():
            assert book.sessions.get(member.id) is member, "a pool has a worker that is gone"


def _check_spares(book: Book) -> None:
    listed = {session.id: key for key, alike in book.spares.items() for session in alike.values()}
    for session in book.sessions.values():
        assert session.spare == (session.id in listed), f"{session.id} is a spare, or is none, by half"
        if session.spare:
            assert listed[session.id] == session.start_key, f"{session.id} is not what it is listed as"
            plain = session.pool is None and session.name is None and session.phase is not Phase.STOPPING
            assert plain, f"{session.id} cannot be a spare"


def _check_templates(book: Book) -> None:
    for key, template in book.templates.items():
        known = book.template_workers.get(template.worker) is template
        assert template.key == key and known and not template.retired, "a template is listed that is none"
    assert len(book.templates) <= book.limits.max_templates, "more templates than max_templates"
    memory = sum(template.memory_bytes for template in book.templates.values())
    assert memory <= book.limits.template_bytes, "templates have more memory than template_bytes"
    assert not book.left_templates, "a template was left and not looked at"
    for template in book.template_workers.values():
        _check_template(book, template)
    for session in book.sessions.values():
        awaits, origin = session.awaits, session.forked_from
        assert awaits is None or session in awaits.waiting, f"{session.id} awaits what does not know"
        assert origin is None or session in origin.forking.values(), f"{session.id} is not being forked"


def _check_template(book: Book, template: Template) -> None:
    label = template.id
    assert template.worker not in book.workers, f"{label} is a session's worker too"
    assert template.retired or book.templates.get(template.key) is template, f"{label} is not listed"
    for session in template.waiting:
        waits = session.awaits is template and session.phase is Phase.STARTING and session.worker is None
        assert waits, f"{session.id} is not waiting for {label}"
    for worker, session in template.forking.items():
        coming = session.forked_from is template and session.worker == worker and session.pid is None
        assert coming, f"{session.id} is not a fork on its way from {label}"
    if template.retired:
        assert not template.waiting, f"{label} is waited for, in vain"
        doomed = template.kill_ordered or template.forking or template.pid is None
        assert doomed, f"{label} will never end"
    elif not template.up:
        assert template.waiting, f"{label} imports for nobody"
        timed = ("import", template.worker) in book.deadlines or template.unforkable
        assert timed, f"{label} may import for ever"
    else:
        assert not template.waiting, f"{label} is up and waited for"
    forks = bool(template.forking) and not template.doomed
    assert (("fork", template.worker) in book.deadlines) == forks, f"{label} may fork for ever"


def _check_gpus(book: Book) -> None:
    gpus = book.gpus
    assert not gpus.stirred, "something has changed for the line, and nobody has gone through it"
    for session in gpus.line.values():
        assert session.phase in (Phase.PLACING, Phase.PARKED), f"{session.id} waits for a place and has one"
    for session in book.sessions.values():
        if session.tenancy is not None:
            _check_tenancy(book, session, session.tenancy)
        else:
            assert session.phase not in OF_TENANTS, f"{session.id} is {session.phase.value} without a tenancy"
    assert all(book.sessions.get(id) is tenant for id, tenant in gpus.tenants.items()), "a tenant is gone"
    assert gpus.parked_bytes() <= book.limits.park_bytes, "parked sessions have more than park_memory"
    timed = ("gpus", None) in book.deadlines or book.stopped
    assert timed or not (gpus.line or (gpus.known and book.sessions)), "nobody will look at the GPUs again"


def _check_tenancy(book: Book, session: Session, tenancy: Tenancy) -> None:
    label = f"{session.id} ({session.phase.value})"
    assert session.waits_for_room == (session.id in book.gpus.line), f"{label} waits by half"
    assert (session.id in book.gpus.tenants) == (tenancy.where != "nowhere"), f"{label} is a tenant by half"
    parked = tenancy.where == "parked"
    assert not parked or session.phase in (Phase.PARKED, Phase.STOPPING), f"{label} works without its memory"
    assert session.phase is not Phase.PARKED or (parked and tenancy.way), f"{label} is not parked"
    moves = session.phase in (Phase.PARKING, Phase.UNPARKING)
    assert not moves or tenancy.move, f"{label} is in no move"
    asked = tenancy.parks_for if session.phase is not Phase.PARKING else []
    assert not asked, f"{label} owes somebody an answer who wants it parked"


def _check_held(book: Book) -> None:
    """What is counted as waiting is what waits, to the byte and to the client."""
    counted: Counter[ClientId] = Counter()
    for job in book.jobs.values():
        waits = len(job.input) if not job.ordinal else 0
        assert job.held == waits, f"call {job.id.hex()} holds {waits} bytes and counts {job.held}"
        counted[job.client] += waits
    for session in book.sessions.values():
        if session.pool is None:
            counted[session.opener] += size_of(session.setup, session.pickled)
    for pool in book.pools.values():
        counted[pool.opener] += size_of(pool.key[1], pool.pickled)
    assert +counted == book.held.of, f"{dict(counted)} bytes are held, {book.held.of} counted"
    assert book.held.total == counted.total(), "the sum of what is held is wrong"
    assert book.held.total <= book.limits.max_queued_bytes, "more bytes held than max_queued_bytes"
    most = book.limits.max_client_queued_bytes
    assert all(count <= most for count in counted.values()), "more held than max_client_queued_bytes"


def _check_indexes(book: Book) -> None:
    for worker, session in book.workers.items():
        assert session.worker == worker and session.id in book.sessions, f"worker {worker} has no session"
    assert sum(map(len, book.jobs_of.values())) == len(book.jobs), "clients have calls that are not listed"
    waited_for = {end.id for session in book.sessions.values() for end in session.ends}
    assert waited_for == set(book.ends), "an end waits for nothing, or for what is not listed"
    assert not set(book.dead) & set(book.sessions), "a session is both dead and alive"


def _check_timers(book: Book) -> None:
    for kind, subject in book.deadlines:
        if kind in TIMERS_OF_CALLS:
            assert subject in book.jobs, f"a {kind} timer outlived its call"
        elif kind in TIMERS_OF_SESSIONS or kind == TIMER_OF_LIFE:
            assert subject in book.sessions, f"a {kind} timer outlived its session"
        elif kind in TIMERS_OF_TEMPLATES:
            assert subject in book.template_workers, f"a {kind} timer outlived its template"
        elif kind == "kept":
            assert subject in book.keep.ended, "a call is to be forgotten that has not ended"
        elif kind in TIMERS_OF_CLIENTS:
            assert subject in book.behind and not book.behind[subject].given_up, "a client is not behind"  # type: ignore[index]
        elif kind == "unserved":
            assert subject is None, "the slices for readers are one queue"
        elif kind == "gpus":
            assert subject is None, "the GPUs are looked at together"
        else:
            assert kind == "drain" and book.draining, f"an unknown timer: {kind}"


def _check_keep(book: Book) -> None:
    keep = book.keep
    assert sum(kept.bytes for kept in keep.calls.values()) == keep.bytes, "the bytes kept do not add up"
    assert keep.bytes <= book.limits.detached_max_bytes, "more is kept than detached_max_bytes"
    detached = {job.id for job in book.jobs.values() if job.kept is not None}
    assert detached == set(keep.calls) - set(keep.ended), "a detached call is lost, or kept on without an end"
    assert not set(keep.graves) & set(keep.calls), "a call is both kept and forgotten"
    for kept in keep.calls.values():
        _check_kept(book, kept)
    listed = [reader for mine in keep.readers.values() for reader in mine.values()]
    assert len(listed) == sum(len(kept.readers) for kept in keep.calls.values()), "a reader reads nothing"
    for reader in listed:
        assert reader in reader.kept.readers, "a reader's call does not know it"
    assert set(keep.unserved) <= set(listed), "a reader that has left is to be served"
    assert not keep.unserved or ("unserved", None) in book.deadlines, "readers wait for nothing"


def _check_watchers(book: Book) -> None:
    watchers = book.watchers
    by_client = {watcher for mine in watchers.of_client.values() for watcher in mine.values()}
    by_job = {watcher for of in watchers.of_job.values() for watcher in of}
    assert by_client == by_job, "a reader of progress is known to one side alone"
    assert all(watchers.of_client.values()) and all(watchers.of_job.values()), "readers that are none"
    for watcher in by_job:
        assert book.jobs.get(watcher.job.id) is watcher.job, "somebody watches a call that has ended"
        waits = not watcher.fresh or not watcher.credit or watcher.client in book.behind
        assert waits, "a reader was not told how far its call is"


def _check_kept(book: Book, kept: Kept) -> None:
    label = f"detached call {kept.id.hex()}"
    job, ended = book.jobs.get(kept.id), kept.id in book.keep.ended
    assert (kept.final is not None) == ended == (job is None), f"{label} has ended, or not"
    assert job is None or job.kept is kept, f"{label} writes into another's record"
    assert ended == (("kept", kept.id) in book.deadlines), f"{label} is kept for ever, or not long enough"
    size = kept.parts.bytes + (final_bytes(kept.final, kept.note) if kept.final is not None else 0)
    assert kept.bytes == size, f"{label} costs {size} bytes and counts {kept.bytes}"
    for reader in kept.readers:
        behind = reader.client in book.behind or reader in book.keep.unserved
        if reader.credit is None:
            assert not ended or behind, f"{label} has a reader who was not told of its end"
        else:
            assert kept.first <= reader.at, f"{label} has a reader of parts that it has no more"
            told = reader.at >= kept.next
            waits = told or not reader.credit or behind
            assert (behind or not (told and ended)) and waits, f"{label} does not serve a reader"
