"""What the gateway offers, as OpenAPI: for generated clients, and for tests that try all of it."""

from __future__ import annotations

import re
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from warmd import __version__
from warmd.http.fileroutes import ADDRESS as CONTENT
from warmd.http.fileroutes import ANNOUNCED_FIELDS, MOST_ANNOUNCED
from warmd.http.options import Options
from warmd.http.proxy import METHODS, TARGET_HEADER, TARGET_PARAMETER
from warmd.http.proxy import PATH as PROXY
from warmd.http.requests import IGNORED
from warmd.http.taskfiles import PATH as TASK_FILES
from warmd.http.taskfiles import ROLES

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
MAYBE_TEXT: Schema = {"type": ["string", "null"]}
WHOLE: Schema = {"type": "integer"}
ANY: Schema = {}
APP: Schema = {"type": ["string", "null"], "minLength": 1, "description": "`name`, or `name:function`"}
DURATION: Schema = {"type": ["number", "string", "null"]}
"""Seconds, or a text such as `90s`; `never` where that is allowed."""

FILE_FIELDS: Schema = {
    "filename": MAYBE_TEXT,
    "content_type": {"type": ["string", "null"], "description": "Such as `image/png`."},
    "size": {"type": ["integer", "null"], "minimum": 0},
}
"""Of a file that is announced; the other fields mean nothing here."""
ANYTHING = "*/*"


def _object(required: Schema, more: Schema | None = None, closed: bool = False) -> Schema:
    told = {"type": "object", "required": [*required], "properties": {**required, **(more or {})}}
    return {**told, "additionalProperties": False} if closed else told


def _named(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _list(item: Schema) -> Schema:
    return {"type": "array", "items": item}


SCHEMAS = {
    "Run": _object(
        {},
        {
            "app": APP,
            "app_id": {**APP, "description": "The same as `app`."},
            "function": {"type": ["string", "null"], "minLength": 1},
            "input": ANY,
            "setup": ANY,
            "session": {"type": ["string", "null"], "minLength": 1, "description": "`new`, or an id"},
            "session_timeout": DURATION,
            "max_lifetime": DURATION,
            "timeout": DURATION,
            "webhook": {"type": ["string", "null"], "pattern": "^https?://.", "maxLength": 2000},
            "wait": {"type": ["boolean", "number", "string", "null"]},
            "run_at": {"type": "null", "description": "There are no delayed starts."},
            **{name: {"description": "Means nothing here."} for name in IGNORED},
        },
        closed=True,
    ),
    "Task": _object(
        {"id": TEXT, "status": {"enum": [2, 6, 7, 8, 10, 11, 12]}, "output": ANY, "function": TEXT},
        {
            "status_text": TEXT,
            "app": TEXT,
            "input": ANY,
            "session_id": MAYBE_TEXT,
            "error": MAYBE_TEXT,
            "error_code": MAYBE_TEXT,
            "ran": {"enum": ["no", "yes", "maybe", None]},
            "progress": {"description": "The last that the app told of how far it is; null for nothing."},
            "created_at": TEXT,
            "updated_at": TEXT,
        },
    ),
    "TaskStatus": _object({"id": TEXT, "status": WHOLE, "updated_at": TEXT}),
    "Log": _object({"id": TEXT, "task_id": TEXT, "log_type": WHOLE, "content": TEXT}),
    "Session": _object(
        {"id": TEXT, "status": {"enum": ["active", "expired", "ended"]}, "call_count": WHOLE, "state": TEXT},
        {"expires_at": MAYBE_TEXT, "idle_timeout": {"type": ["number", "null"]}, "reason": ANY},
    ),
    "App": _object({"name": TEXT, "target": TEXT}),
    "Description": _object(
        {"app": TEXT, "functions": _list(_object({"name": TEXT, "input_schema": ANY, "streams": ANY}))},
        {"summary": TEXT, "default_function": MAYBE_TEXT, "setup_schema": ANY},
    ),
    "Announcement": _object(
        {
            "files": {
                **_list(
                    _object({}, {name: FILE_FIELDS.get(name, ANY) for name in ANNOUNCED_FIELDS}, closed=True)
                ),
                "minItems": 1,
                "maxItems": MOST_ANNOUNCED,
            }
        },
    ),
    "File": _object(
        {
            "id": TEXT,
            "uri": TEXT,
            "filename": TEXT,
            "content_type": TEXT,
            "size": {"type": ["integer", "null"]},
            "created_at": TEXT,
            "expires_at": TEXT,
        },
        {
            "upload_url": {"type": "string", "description": "Where the bytes are to be PUT; told once."},
            "role": {"enum": [*ROLES]},
        },
    ),
    "Deleted": _object({"deleted": _list(TEXT), "skipped": _list(ANY)}),
    "Problem": _object(
        {
            "type": TEXT,
            "title": TEXT,
            "status": WHOLE,
            "detail": TEXT,
            "code": TEXT,
            "success": {"const": False},
        },
        {"ran": TEXT, "session_id": TEXT, "outcome": TEXT},
    ),
}
OPERATIONS: dict[tuple[str, str], tuple[str, Schema | str | None]] = {
    # summary, and what a good answer holds: data, a content type, nothing (None), or nothing as 204 ("")
    ("/apps/run", "post"): ("Begin a run; with `wait` answer at its end.", _named("Task")),
    ("/apps", "get"): ("The apps that the daemon knows.", _list(_named("App"))),
    ("/apps/{app}", "get"): ("What an app's functions take and give.", _named("Description")),
    ("/tasks", "get"): ("The newest tasks of the key.", _list(_named("Task"))),
    ("/tasks/{id}", "get"): ("A task.", _named("Task")),
    ("/tasks/{id}", "delete"): ("Cancel a task.", _named("Task")),
    ("/tasks/{id}/cancel", "post"): ("Cancel a task.", _named("Task")),
    ("/tasks/{id}/status", "get"): ("How far a task is.", _named("TaskStatus")),
    ("/tasks/{id}/logs", "get"): ("What its session printed.", _list(_named("Log"))),
    ("/tasks/{id}/stream", "get"): ("A task, a line for each state.", "application/x-ndjson"),
    (TASK_FILES, "get"): ("The files that its input and output name.", _list(_named("File"))),
    (TASK_FILES, "delete"): ("Delete them, when it has ended.", _named("Deleted")),
    ("/sessions", "get"): ("The key's sessions.", _list(_named("Session"))),
    ("/sessions/{id}", "get"): ("A session, also one that is over.", _named("Session")),
    ("/sessions/{id}", "delete"): ("End a session.", ""),
    ("/sessions/{id}/keepalive", "post"): ("Start its idle time anew.", _named("Session")),
    ("/sessions/{id}/logs", "get"): ("What its processes have written, and will.", "text/plain"),
    ("/files", "post"): ("Announce files; each gets an address to upload to.", _list(_named("File"))),
    ("/files/{id}", "get"): ("A file, without its bytes.", _named("File")),
    ("/files/{id}", "delete"): ("Delete a file.", ""),
    (CONTENT, "get"): ("The bytes of a file, or ranges of them.", ANYTHING),
    (CONTENT, "put"): ("Upload the bytes of a file, whole.", None),
    **{(PROXY, method.lower()): ("What the target says; with --proxy-key.", ANYTHING) for method in METHODS},
    ("/live", "get"): ("What changes, as it changes, a line each; without end.", "application/x-ndjson"),
    ("/", "get"): ("The dashboard.", "text/html"),
    ("/page/{name:path}", "get"): ("What belongs to it.", ANYTHING),
    ("/healthz", "get"): ("Whether the gateway serves.", "text/plain"),
    ("/readyz", "get"): ("Whether the daemon takes calls.", "text/plain"),
    ("/metrics", "get"): ("For Prometheus.", "text/plain"),
}
BODIES: dict[tuple[str, str], tuple[str, Schema]] = {
    ("/apps/run", "post"): ("application/json", _named("Run")),
    ("/files", "post"): ("application/json", _named("Announcement")),
    (CONTENT, "put"): ("application/octet-stream", {"type": "string", "format": "binary"}),
}
OPEN = (CONTENT, PROXY, "/", "/page/{name:path}", "/healthz", "/readyz")
"""Each carries its own secret, has the gateway's key, or is nobody's."""
_IN_PATH = re.compile(r"{(\w+)(?::path)?}")


class OpenApi:
    """`/openapi.json`."""

    def __init__(self, options: Options) -> None:
        self._options = options

    def routes(self) -> list[Route]:
        return [Route("/openapi.json", self.get)]

    def document(self) -> Schema:
        """The whole document."""
        paths: dict[str, Schema] = {}
        for (path, method), (summary, content) in OPERATIONS.items():
            shown = path.replace(":path", "")
            paths.setdefault(shown, {})[method] = _operation(path, method, summary, content)
        return {
            "openapi": "3.1.0",
            "info": {"title": "warmd", "version": __version__},
            "servers": [{"url": self._options.public_url or "/"}],
            "security": [] if self._options.open else [{"key": []}],
            "paths": paths,
            "components": {
                "schemas": SCHEMAS,
                "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            },
        }

    async def get(self, _request: Request) -> Response:
        return JSONResponse(self.document())


def _operation(path: str, method: str, summary: str, content: Schema | str | None) -> Schema:
    good: Schema = {"description": summary}
    if isinstance(content, dict):
        body = _object({"success": {"const": True}, "status": WHOLE, "data": content, "messages": _list(ANY)})
        good["content"] = {"application/json": {"schema": body}}
    elif content:
        good["content"] = {content: {"schema": {} if content == ANYTHING else TEXT}}
    problem = {"application/problem+json": {"schema": _named("Problem")}}
    told: Schema = {
        "summary": summary,
        "parameters": _parameters(path, method),
        "responses": {
            "204" if content == "" else "200": good,
            "default": {"description": "What is wrong (RFC 9457).", "content": problem},
        },
    }
    if (path, method) == (CONTENT, "get"):
        told["responses"]["206"] = good
    if (path, method) in BODIES:
        kind, schema = BODIES[path, method]
        told["requestBody"] = {"required": True, "content": {kind: {"schema": schema}}}
    if path in OPEN:
        told["security"] = []
    return told


def _parameters(path: str, method: str) -> list[Schema]:
    told = [{"name": name, "in": "path", "required": True, "schema": TEXT} for name in _IN_PATH.findall(path)]
    if (path, method) == (CONTENT, "get"):
        told.append({"name": "Range", "in": "header", "schema": TEXT, "example": "bytes=0-99"})
    if path == "/tasks/{id}/stream":
        number = {"type": "string", "pattern": r"^\d{1,9}$", "description": "The first part that is wanted."}
        told.append({"name": "offset", "in": "query", "schema": number})
    if path == "/sessions/{id}/logs":
        lines = {"type": "string", "pattern": r"^(\d{1,9}|all)$"}
        told.append({"name": "tail", "in": "query", "schema": lines})
        told.append({"name": "follow", "in": "query", "schema": {"enum": ["true", "false"]}})
    if path == TASK_FILES:
        told.append({"name": "role", "in": "query", "schema": {"enum": [*ROLES]}})
    if path == PROXY:
        told.append({"name": TARGET_HEADER, "in": "header", "schema": TEXT})
        if method == "get":
            told.append({"name": TARGET_PARAMETER, "in": "query", "schema": TEXT})
    return told
