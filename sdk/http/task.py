"""One run, as its clients see it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from enum import IntEnum

import orjson

from warmd.http.moments import moment, now
from warmd.protocol.messages import MAX_NOTE_CHARACTERS
from warmd.protocol.record import record

PREFIX = "task_"
NOTE_MARK = "warmd.http "
"""How the notes of this gateway's calls begin: other detached calls are none of its tasks."""
NULL = b"null"
REPEATED_INPUT_BYTES = 4096


class Status(IntEnum):
    """As the clients' own enumeration has it; 13 (rejected) is never sent, for one of them hangs on it."""

    QUEUED = 2
    SETTING_UP = 6
    RUNNING = 7
    CANCELLING = 8
    COMPLETED = 10
    FAILED = 11
    CANCELLED = 12

    @property
    def final(self) -> bool:
        return self >= Status.COMPLETED

    @property
    def text(self) -> str:
        return self.name.lower()


OF_STATE = {
    "queued": Status.QUEUED,
    "starting": Status.SETTING_UP,
    "running": Status.RUNNING,
    "cancelling": Status.CANCELLING,
}


@record
class Facts:
    """What never changes about a task; what of it fits travels as the call's note."""

    owner: str
    app: str
    function: str
    input: bytes
    """JSON."""
    created: float
    session_timeout: float | str | None = None
    webhook: str | None = None
    base_url: str = ""
    """Where the client reached the gateway: addresses of files begin so."""
    request_id: str = ""

    def note(self) -> str:
        facts = [self.owner, self.app, self.created, self.session_timeout, self.webhook, self.base_url]
        text = NOTE_MARK + orjson.dumps([*facts, self.request_id]).decode()
        input = self.input if len(text) + len(self.input) < MAX_NOTE_CHARACTERS else NULL
        return f"{text[:-1]},{input.decode()}]"

    @classmethod
    def of_note(cls, note: str, function: str) -> Facts | None:
        """None for a call that no gateway made."""
        if not note.startswith(NOTE_MARK):
            return None
        owner, app, created, session_timeout, webhook, base_url, request_id, input = orjson.loads(
            note.removeprefix(NOTE_MARK)
        )
        json = orjson.dumps(input)
        return cls(owner, app, function, json, created, session_timeout, webhook, base_url, request_id)


@dataclass(slots=True, eq=False)
class Task:
    """A run under way or over.  `ended` is set when `status` is final."""

    call: str
    facts: Facts
    session: str | None
    status: Status = Status.QUEUED
    updated: float = field(default_factory=now)
    output: bytes = NULL
    """JSON: the last that it yielded so far, or its result."""
    error: str | None = None
    code: str | None = None
    ran: str | None = None
    traceback: str = ""
    progress: bytes = NULL
    """JSON: the last that the app told of how far it is."""
    events: list[tuple[str | None, Status]] = field(default_factory=list)
    """When it became what, as it is told."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    _head: bytes = b""

    def __post_init__(self) -> None:
        self.events.append((moment(self.facts.created), self.status))

    @property
    def id(self) -> str:
        return PREFIX + self.call

    @property
    def size(self) -> int:
        """Bytes that it holds, more or less."""
        return len(self.output) + len(self.facts.input) + len(self.head())

    def becomes(self, status: Status) -> bool:
        """Whether that is news."""
        if status is self.status or self.status.final:
            return False
        self.status, self.updated = status, now()
        self.events.append((moment(self.updated), status))
        if status.final:
            self.ended.set()
        return True

    def head(self) -> bytes:
        """The beginning of its JSON, which stays; its input is not in there."""
        if not self._head:
            facts = self.facts
            self._head = orjson.dumps(
                {
                    "id": self.id,
                    "short_id": self.call[:8],
                    "created_at": moment(facts.created),
                    "app_id": facts.app,
                    "app": facts.app,
                    "function": facts.function,
                    "session_id": self.session,
                    "session_timeout": facts.session_timeout,
                    "webhook": facts.webhook,
                }
            )[:-1]
        return self._head

    def json(self) -> bytes:
        """All of it but its logs."""
        return b"".join(self.pieces())

    def pieces(self) -> tuple[bytes, ...]:
        """Its JSON, in parts of which the large ones are not copied."""
        id, short = self.id, self.call[:8]
        told = {
            "status": self.status,
            "status_text": self.status.text,
            "updated_at": moment(self.updated),
            "error": self.error,
            "error_code": self.code,
            "ran": self.ran,
            "events": [
                {"id": f"{short}-{n}", "task_id": id, "status": status, "created_at": at, "event_time": at}
                for n, (at, status) in enumerate(self.events)
            ],
        }  # fmt: skip
        rest = b"," + orjson.dumps(told)[1:-1] + b',"progress":' + self.progress + b',"output":'
        return (self.head() + b',"input":', self.facts.input, rest, self.output, b"}")

    def line(self, output: bytes) -> bytes:
        """Its JSON with one of its parts, for a stream: never that of its end, which clients stop at.

        Its input is in there while it is short: a long one is in the first line and in the last.
        """
        head = self.head()
        if len(self.facts.input) <= REPEATED_INPUT_BYTES:
            head += b',"input":' + self.facts.input
        status = Status.RUNNING if self.status.final else self.status
        return b'%b,"status":%d,"updated_at":"%b","output":%b}' % (
            head, status, (moment(self.updated) or "").encode(), output,
        )  # fmt: skip
