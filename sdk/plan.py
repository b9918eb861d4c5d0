"""The caller's options -> the message that asks for it: all that can be refused before sending.

Both clients, the session handles and the manager build their calls here, so that an option means
the same everywhere and an error in one is found before anything starts.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from warmd.protocol import names
from warmd.protocol.errors import Invalid, quoted
from warmd.protocol.messages import (
    CALL_ID_BYTES,
    MAX_NOTE_CHARACTERS,
    NEW_SESSION,
    NOTHING,
    AppRef,
    Attach,
    Body,
    Call,
    CallId,
    NewSession,
    Request,
)
from warmd.protocol.parcels import Value
from warmd.protocol.units import seconds
from warmd.protocol.values import Unpackable, pack, pack_apart
from warmd.reference import reference

OPTIONS = (
    "app",
    "function",
    "input",
    "session",
    "session_timeout",
    "max_lifetime",
    "timeout",
    "setup",
    "name",
    "env",
    "labels",
    "detach",
    "note",
    "request_id",
)
OPENING = ("session_timeout", "max_lifetime", "name", "labels")
"""Say something about a session that is yet to be."""
DEFAULT_FUNCTION = "run"
WINDOW = 64
"""How many parts of a stream may be on their way before the reader has taken one."""
MOST_SPARES = 1000
SPARE_SECONDS = 600.0
"""How long a spare waits for a call that takes it, unless another time is asked for."""
ANSWER_SECONDS = 30.0
"""How soon an administrative request is answered."""
DESCRIBING_SECONDS = 900.0
"""How soon an app is described: its environment is made, and it is imported."""
ENDING_SECONDS = 120.0
"""How soon a session has ended: its call is cancelled, `unload` runs, the tree is killed."""
_NONE = pack(None)


def options(given: Mapping[str, Any] | None, named: Mapping[str, Any]) -> dict[str, Any]:
    """The dict form and the keyword form of a call, in one.  Raises Invalid for unknown options."""
    if given is None:
        merged = dict(named)
    elif not isinstance(given, Mapping):
        raise Invalid(
            f"expected a dict of options or keywords, got {type(given).__name__}: "
            'run({"app": "counter", "input": ...}) or run(app="counter", input=...)'
        )
    else:
        twice = sorted(set(given) & set(named))
        if twice:
            raise Invalid(f"given twice, in the dict and as a keyword: {', '.join(map(str, twice))}")
        merged = {**given, **named}
    for option in merged:
        if option not in OPTIONS:
            raise Invalid(unknown("option", str(option), OPTIONS))
    return merged


def unknown(what: str, value: str, known: tuple[str, ...]) -> str:
    """The text of an error about a name that does not exist."""
    close = difflib.get_close_matches(value, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known)}"
    return f"unknown {what} {value!r}; {hint}"


def call(given: Mapping[str, Any], window: int | None = None) -> Call:
    """The message for these options.  Raises Invalid, naming the option and the remedy."""
    if given.get("detach"):
        raise Invalid("detach: only submit() leaves a call to the daemon; client.calls.attach(id) reads it")
    return _function_call(given, window)


def submission(given: Mapping[str, Any]) -> Call:
    """The message for a call that is not waited for, and may be detached.  Raises Invalid."""
    _switch(given.get("detach"), "detach")
    return _function_call(given, None)


def _switch(value: object, what: str) -> bool:
    if value is not None and not isinstance(value, bool):
        raise Invalid(f"{what}: expected True or False, got {value!r}")
    return bool(value)


def _function_call(given: Mapping[str, Any], window: int | None) -> Call:
    return _call(given, _function(given.get("function")), _packed_input(given.get("input")), window)


def _function(name: object) -> str:
    if name is None:
        return DEFAULT_FUNCTION
    if not isinstance(name, str) or not name:
        raise Invalid(f"function: expected the name of a public method, got {name!r}")
    return name


def opening(given: Mapping[str, Any]) -> Call:
    """The call that only waits until a new session is ready."""
    return _call({**given, "session": NEW_SESSION}, "", _NONE, None)


def opening_options(app: object, id: str | None, **given: object) -> dict[str, Any]:
    """The options of `session(...)`: an app to open, or the id of what is open.  Raises Invalid."""
    told = {option: value for option, value in given.items() if value is not None}
    if id is not None and (app is not None or told):
        raise Invalid(
            f"id: names a session that is open already; leave out {', '.join(['app', *told][app is None :])}"
        )
    if id is None and app is None:
        raise Invalid("session: give the app to open, or the id of a session")
    return {"app": app, **told}


def warming(app: object, spares: object, **given: object) -> list[Call]:
    """The calls that wait, each, until a spare of the app is ready.  Raises Invalid."""
    if type(spares) is not int or not 1 <= spares <= MOST_SPARES:
        raise Invalid(f"spares: expected a number of sessions from 1 to {MOST_SPARES}, got {spares!r}")
    options = opening_options(app, None, **given)
    return [_as_spare(opening(options)) for _ in range(spares)]


def _as_spare(call: Call) -> Call:
    return replace(call, new=(call.new or NewSession())._replace(spare=True))


def call_to(
    session: str,
    function: str | None,
    input: object,
    timeout: float | str | None,
    window: int | None = None,
    detach: bool = False,
) -> Call:
    """The message for a call to a session that is open.  Raises Invalid."""
    return Call(
        id=new_id(),
        session=session,
        app=None,
        function=_function(function),
        timeout_seconds=duration(timeout, "timeout"),
        window=window,
        detach=_switch(detach, "detach"),
        input=_packed_input(input),
    )


def attach(id: object, offset: object = 0, window: int | None = None) -> Attach:
    """The message that reads a detached call.  Raises Invalid."""
    if type(offset) is not int or offset < 0:
        raise Invalid(f"offset: expected the number of the first part wanted, from 0 up, got {offset!r}")
    return Attach(new_id(), call_id(id), offset, window)


def call_id(value: object) -> CallId:
    """A call's id, as `call_id` of what was submitted gives it.  Raises Invalid for what can be none."""
    if not isinstance(value, str) or not names.is_whole_call(value):
        digits = 2 * CALL_ID_BYTES
        raise Invalid(f"call: expected the id of a call ({digits} hex digits), got {quoted(value, 100)}")
    return CallId(bytes.fromhex(value))


def session_of(message: Call | Request | Attach) -> str | None:
    """The session that a call names by id."""
    named = message.session if isinstance(message, Call) else None
    return None if named == NEW_SESSION else named


def ending(id: str | None, app: object, all: bool, running: str) -> tuple[str, dict[str, Any], float | None]:
    """Verb, arguments and patience of `sessions.end`.  Raises Invalid."""
    if (id is not None) + (app is not None) + bool(all) != 1:
        raise Invalid("end: give the id of a session, or app=..., or all=True")
    if running not in ("cancel", "finish"):
        raise Invalid(f'running: expected "cancel" or "finish", got {running!r}')
    arguments: dict[str, Any] = {"running": running}
    if id is not None:
        arguments["session"] = session_id(id)
    elif app is not None:
        arguments["app"] = reference(app)[0].name
    else:
        arguments["all"] = True
    # A call that is to finish takes as long as it takes.
    return "sessions.end", arguments, ENDING_SECONDS if running == "cancel" else None


def move(verb: str, id: object) -> tuple[str, dict[str, Any], None]:
    """Verb, arguments and patience of `sessions.park` and `sessions.unpark`.  Raises Invalid."""
    return verb, {"session": session_id(id)}, None  # the daemon bounds it, by size and by `gpu_wait`


def logs(session: str, tail: int | None, follow: bool) -> tuple[str, dict[str, Any]]:
    """Verb and arguments of `logs`.  Raises Invalid."""
    if tail is not None and (type(tail) is not int or tail < 0):
        raise Invalid(f"tail: expected a number of lines, got {tail!r}")
    return "logs", {"session": session_id(session), "tail": tail, "follow": bool(follow)}


def request(verb: str, arguments: dict[str, Any], window: int | None = None) -> Request:
    """The message for an administrative verb."""
    return Request(new_id(), verb, arguments, window)


def new_id() -> CallId:
    return CallId(os.urandom(CALL_ID_BYTES))


def session_id(value: object) -> str:
    """The id of a session that exists already.  Raises Invalid for what can be none."""
    if not isinstance(value, str) or not value or value == NEW_SESSION:
        id = getattr(value, "id", None)
        hint = f"; give its id, {id}" if isinstance(id, str) else ""
        raise Invalid(f"session: expected the id of a session (sess_...), got {value!r}{hint}")
    return value


def duration(value: object, what: str) -> float | None:
    """Seconds of a time-out; None for the default.  Raises Invalid."""
    try:
        return None if value is None else seconds(value, what=what)
    except ValueError as error:
        raise Invalid(str(error)) from None


def packed(value: object, name: str) -> bytes:
    """A value as it travels.  Raises Invalid, naming the part of it that cannot."""
    try:
        return _NONE if value is None else pack(value, name)
    except Unpackable as error:
        raise _unsendable(error) from None


def _packed_input(value: object) -> Value:
    try:
        return _NONE if value is None else pack_apart(value, "input")
    except Unpackable as error:
        raise _unsendable(error) from None


def _unsendable(error: Unpackable) -> Invalid:
    return Invalid(
        f"{error}; inputs are plain values: None, bool, numbers, text, bytes, lists, dicts, arrays, "
        "tensors, tables"
    )


def _call(given: Mapping[str, Any], function: str, body: Value, window: int | None) -> Call:
    session = given.get("session")
    if session is not None and session != NEW_SESSION:
        session = session_id(session)
    app, pickled = _app(given, session)
    _check_place(given, session)
    setup = given.get("setup")
    return Call(
        id=new_id(),
        session=session,
        app=app,
        function=function,
        timeout_seconds=duration(given.get("timeout"), "timeout"),
        window=window,
        new=_new_session(given) if session in (None, NEW_SESSION) else None,
        detach=given.get("detach") is True,
        note=_note(given),
        request_id=_request_id(given),
        input=body,
        setup=NOTHING if setup is None else packed(setup, "setup"),
        pickled=pickled,
    )


def _note(given: Mapping[str, Any]) -> str:
    note = given.get("note")
    if note is None:
        return ""
    if given.get("detach") is not True:
        raise Invalid("note: is kept with detached calls alone; leave it out, or submit with detach=True")
    if not isinstance(note, str) or len(note) > MAX_NOTE_CHARACTERS:
        raise Invalid(f"note: expected at most {MAX_NOTE_CHARACTERS} characters, got {quoted(note, 60)}")
    return note


def _request_id(given: Mapping[str, Any]) -> str:
    id = given.get("request_id")
    if id is None:
        return ""
    if not isinstance(id, str) or not names.is_request_id(id):
        raise Invalid(f"request_id: {names.REQUEST_ID_IS}, got {quoted(id, 70)}")
    return id


def _app(given: Mapping[str, Any], session: str | None) -> tuple[AppRef | None, Body]:
    app = given.get("app")
    if app is not None:
        return reference(app)
    if session in (None, NEW_SESSION):
        raise Invalid(
            "app: missing; give a registered name, a folder, module:Class or a class (only a call to an "
            "existing session can leave it out)"
        )
    return None, NOTHING


def _check_place(given: Mapping[str, Any], session: str | None) -> None:
    if session == NEW_SESSION:
        return
    refused: tuple[str, ...]
    if session is None:
        refused, remedy = OPENING, 'only with session="new", not without a session'
    else:
        refused, remedy = (
            (*OPENING, "setup", "env"),
            f'the session {quoted(session, 60)} was opened with its own; only with session="new"',
        )
    for option in refused:
        if given.get(option) is not None:
            raise Invalid(f"{option}: {remedy}")


def _new_session(given: Mapping[str, Any]) -> NewSession | None:
    name = given.get("name")
    if name is not None and (not isinstance(name, str) or not name.strip()):
        raise Invalid(f"name: expected a text that is not empty, got {name!r}")
    idle = _age(given.get("session_timeout"), "session_timeout", "the least is 1, the default 60")
    lifetime = _age(given.get("max_lifetime"), "max_lifetime", "the least is 1")
    labels, env = texts(given.get("labels"), "labels"), texts(given.get("env"), "env")
    for variable, value in env.items():
        if not variable or "=" in variable or "\0" in variable + value:
            raise Invalid(f"env: {variable!r} is no possible variable (no '=' and no NUL)")
    if all(option is None for option in (idle, lifetime, name)) and not labels and not env:
        return None
    return NewSession(idle, name, labels, env, lifetime)


def _age(value: object, what: str, bounds: str) -> float | None:
    if value is None:
        return None
    try:
        age = seconds(value, what=what, allow_never=True)
    except ValueError as error:
        raise Invalid(str(error)) from None
    if age < 1:
        raise Invalid(f"{what}: {value!r} is less than 1 second; {bounds}")
    return age


def hold(id: str, ttl: object) -> tuple[str, dict[str, Any]]:
    """Verb and arguments of a hold.  Raises Invalid."""
    if ttl is None:
        raise Invalid('ttl: missing; say how long, such as "10m" (release() ends a hold)')
    try:
        span = seconds(ttl, what="ttl")
    except ValueError as error:
        raise Invalid(str(error)) from None
    return "sessions.hold", {"session": session_id(id), "seconds": span}


def release(id: str) -> tuple[str, dict[str, Any]]:
    """Verb and arguments of the end of a hold.  Raises Invalid."""
    return "sessions.hold", {"session": session_id(id), "seconds": None}


def texts(value: object, what: str) -> dict[str, str]:
    """A dict of texts, such as labels.  Raises Invalid."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise Invalid(f"{what}: expected a dict of texts, got {type(value).__name__}")
    for key, text in value.items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise Invalid(f"{what}: keys and values are texts, got {key!r}: {text!r}")
    return dict(value)
