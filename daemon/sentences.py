"""The one line that `why` answers with, from the facts that `why.py` has gathered.

Each state of a session and of a call has one function below: facts in, a sentence out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from warmd.protocol.errors import BY_CODE, shorten

Facts = Mapping[str, Any]
MAX_LINE_BYTES = 1500
SHOWN_DIGITS = 8
_WHOLE_ID = re.compile(rf"\b(sess|pool)_([0-9a-f]{{{SHOWN_DIGITS}}})[0-9a-f]*")
_KINDS = {"sess": "session", "pool": "worker"}

_ENDED_WITH = {
    "app_error": "ended with an error of the app",
    "worker_died": "ended when its worker died",
    "no_session": "never ran, as its session was gone",
    "rejected": "was refused",
    "start_failed": "never ran, as its session did not start",
    "timeout": "timed out",
    "cancelled": "was cancelled",
    "daemon_lost": "met a fault of the daemon",
}


def sentence(facts: Facts) -> str:
    """One line: what is the matter, since when, and what comes next."""
    kind, state = facts["kind"], facts["state"]
    tell = _SESSIONS.get(state) if kind == "session" else _CALLS.get(state)
    text = (tell or _other)(facts)
    return shorten(" ".join(text.split()), MAX_LINE_BYTES).replace("\n", " ")


def span(seconds: float) -> str:
    """A length of time in words.

    >>> [span(s) for s in (0.0312, 4.26, 75, 300, 9000, 400_000)]
    ['0.03 s', '4.3 s', '75 s', '5 min', '2 h 30 min', '4 d 15 h']
    """
    if seconds < 0.1:
        return f"{seconds:.2f} s"
    if seconds < 10:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    if seconds < 120:
        return f"{seconds:.0f} s"
    for size, unit, small, small_unit in ((86400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if seconds >= size:
            rest = int(seconds % size // small)
            return f"{int(seconds // size)} {unit}" + (f" {rest} {small_unit}" if rest else "")
    return f"{int(seconds // 60)} min"


# sessions


def _idle(facts: Facts) -> str:
    since = "" if facts["idle_for"] is None else f" for {span(facts['idle_for'])}"
    return f"{_session(facts)} is idle{since}, {_future(facts)}"


def _future(facts: Facts) -> str:
    kept = facts["kept_by"]
    if kept:
        return f"kept alive by {kept}, for {span(facts['expires_in'])} more"
    if facts["expires_in"] is None:
        return "never expires by itself (session_timeout never)"
    return f"expires in {span(facts['expires_in'])} unless called"


def _busy(facts: Facts) -> str:
    waiting = facts["queued"]
    behind = f"; {_calls(waiting)} behind it" if waiting else "; nothing waits behind it"
    return f"{_session(facts)} is busy: {_running(facts)}{behind}"


def _running(facts: Facts) -> str:
    text = f"{facts['function']!r} has run for {span(facts['running_for'])}"
    if facts["at"]:
        text += f" at {facts['at']}"
    if facts["usual"] is not None:
        text += f", usually {span(facts['usual'])}"
    return text


def _starting(facts: Facts) -> str:
    limit = f" of start_timeout {span(facts['start_limit'])}"
    at = f" at {facts['at']}" if facts["at"] else ""
    how_long = f"for {span(facts['starting_for'])}"
    return f"{_session(facts)} is starting: {facts['phase']}, {how_long}{limit}{at}{_and_for_it(facts)}"


def _placing(facts: Facts) -> str:
    return f"{_session(facts)} waits for {_room(facts['gpu'])}{_and_for_it(facts)}"


def _parking(facts: Facts) -> str:
    how_long = f"for {span(facts['gpu']['moving_for'])}{_given_up(facts)}"
    goes = f"{_its_memory(facts)} goes to host memory"
    return f"{_session(facts)} is being parked, {how_long}: {goes}{_and_for_it(facts)}"


def _unparking(facts: Facts) -> str:
    how_long = f"for {span(facts['gpu']['moving_for'])}{_given_up(facts)}"
    return f"{_session(facts)} is being brought back, {how_long}: {_its_memory(facts)}{_and_for_it(facts)}"


def _parked(facts: Facts) -> str:
    gpu = facts["gpu"]
    if gpu["waits_for"] is not None:
        return f"{_session(facts)} is parked and waits to come back: {_room(gpu)}{_and_for_it(facts)}"
    since = "" if gpu["parked_for"] is None else f" for {span(gpu['parked_for'])}"
    takes = "" if gpu["unpark_seconds"] is None else f", in about {span(gpu['unpark_seconds'])}"
    return (
        f"{_session(facts)} is parked{since}: {_its_memory(facts)} is in host memory, and comes back with "
        f"its next call{takes}; {_future(facts)}"
    )


def _its_memory(facts: Facts) -> str:
    return f"its {_memory(facts['gpu'])}"


def _memory(gpu: Facts) -> str:
    wanted = str(gpu["wanted"])
    return wanted if "GPU" in wanted else f"{wanted} of GPU memory"


def _given_up(facts: Facts) -> str:
    limit = facts["gpu"]["given_up_in"]
    return "" if limit is None else f" (it is given up in {span(limit)})"


def _room(gpu: Facts) -> str:
    """What is waited for, who has it, and until when."""
    in_the_way = _WHOLE_ID.sub(lambda id: f"{_KINDS[id[1]]} {id[2]}", gpu["in_the_way"])
    text = f"{_memory(gpu)}, for {span(gpu['waits_for'])}: {in_the_way}"
    for holder in gpu["holders"]:
        if holder["function"]:
            text += f"; {holder['function']!r} of session {_digits(holder['id'])}"
            text += f" has run for {span(holder['running_for'])}"
            break
    refused = gpu["refused_in"]
    return text if refused is None else f"{text}; it is refused in {span(refused)} (gpu_wait)"


def _and_for_it(facts: Facts) -> str:
    waiting = facts["queued"]
    return f"; {_calls(waiting)} for it" if waiting else ""


def _stopping(facts: Facts) -> str:
    runs = f"; {_running(facts)}" if facts["function"] else ""
    return f"{_session(facts)} is ending: {facts['reason']}{runs}"


def _ended(facts: Facts) -> str:
    by = f", by {facts['ended_by']}" if facts["ended_by"] else ""
    return f"{_session(facts)} ended{_ago(facts)}: {facts['reason']}{by}"


def _expired(facts: Facts) -> str:
    return f"{_session(facts)} expired{_ago(facts)}: {facts['reason']}"


def _died(facts: Facts) -> str:
    text = f"{_session(facts)} died{_ago(facts)}: {facts['reason']}"
    if facts["function"]:
        text += f", while {facts['function']!r} ran"
    if facts["last_line"] and facts["last_line"] not in facts["reason"]:
        text += f"; its last output was: {facts['last_line']}"
    return text


def _session(facts: Facts) -> str:
    digits = facts["id"].partition("_")[2][:SHOWN_DIGITS]
    named = f" {facts['name']!r}" if facts["name"] else ""
    kind = "worker" if facts["id"].startswith("pool_") else "session"
    return f"{kind} {digits}{named} of app {facts['app']!r}"


# calls


def _queued(facts: Facts) -> str:
    before = facts["position"]
    if facts["session"] is None:
        ahead = f"{_calls(before)} before it" if before else "no call before it"
        whom = f"a worker of the shared pool of {facts['app']!r}"
        return f"{_call(facts)} has waited{_how_long(facts)} for {whom}; {ahead}"
    text = f"{_call(facts)} has waited{_how_long(facts)} in session {_digits(facts['session'])}"
    gpu, state = facts["gpu"], facts["session_state"]
    if state == "parked" and gpu["waits_for"] is not None:
        text += f", which is parked and waits to come back: {_room(gpu)}"
    elif state in _MOVES:
        text += f", which {_MOVES[state]}, for {span(gpu['moving_for'])}"
    elif facts["running_function"]:
        text += f": {facts['running_function']!r} has run for {span(facts['running_for'])}"
        text += f", and {_calls(before)} before it" if before else ", then it is its turn"
    return text


def _call_starting(facts: Facts) -> str:
    if facts["session_state"] == "placing":
        start = f"for the start of session {_digits(facts['session'])}, and that for {_room(facts['gpu'])}"
        return f"{_call(facts)} has waited{_how_long(facts)} {start}"
    return (
        f"{_call(facts)} has waited{_how_long(facts)} for the start of session {_digits(facts['session'])}: "
        f"{facts['phase']}, for {span(facts['starting_for'])} of start_timeout {span(facts['start_limit'])}"
        + (f" at {facts['at']}" if facts["at"] else "")
    )


def _call_running(facts: Facts) -> str:
    where = f" in session {_digits(facts['session'])}" if facts["session"] else " in the shared pool"
    left = f"; its deadline comes in {span(facts['deadline_in'])}" if facts["deadline_in"] > 0 else ""
    return f"call {facts['id'][:SHOWN_DIGITS]}: {_running(facts)}{where}{left}"


def _cancelling(facts: Facts) -> str:
    return f"{_call_running(facts)}; it is being stopped"


def _done(facts: Facts) -> str:
    where = f" in session {_digits(facts['session'])}" if facts["session"] else " in the shared pool"
    text = f"{_call(facts)} is done{_ago(facts)}{where}"
    timing = facts["timing"]
    if timing:
        start = timing["spawn"] + timing["imports"] + timing["setup"]
        cold = f"cold: started for {span(start)}, " if timing["cold"] else "warm: "
        text += f"; {cold}waited {span(timing['queue'])}, ran {span(timing['run'])}"
    return text


def _failed(facts: Facts) -> str:
    code = facts["code"]
    outcome = BY_CODE[code].outcome if code in BY_CODE else ""
    how = _ENDED_WITH.get(outcome, "failed")
    after = f" after {span(facts['took'])}," if outcome in ("timeout", "cancelled", "app_error") else ""
    return f"{_call(facts)} {how}{after}{_ago(facts)} ({code}, ran = {facts['ran']}): {facts['message']}"


def _left(facts: Facts) -> str:
    return (
        f"{_call(facts)}: its client went away{_ago(facts)}, so nobody was told how it ended, "
        "and that is not kept"
    )


def _kept(facts: Facts) -> str:
    how = f" with {facts['code']} (ran = {facts['ran']})" if facts["code"] else ""
    return f"{_call(facts)} is done{_ago(facts)}{how}; what it gave is kept for those who ask for it"


def _unknown(facts: Facts) -> str:
    return (
        f"nothing is known of {facts['id']!r}: this daemon was started {span(facts['uptime'])} ago and has "
        "not seen it, or too long ago to be remembered; sessions do not survive a restart, and workers of "
        "the shared pool are forgotten when they end"
    )


def _other(facts: Facts) -> str:
    return f"{facts['kind']} {facts['id'][:SHOWN_DIGITS]} is {facts['state']}"


def _call(facts: Facts) -> str:
    to = f" to {facts['function']!r}" if facts["function"] else " that opens a session"
    return f"call {facts['id'][:SHOWN_DIGITS]}{to}"


def _digits(session: str) -> str:
    return session.partition("_")[2][:SHOWN_DIGITS]


def _calls(count: int) -> str:
    return "1 call waits" if count == 1 else f"{count} calls wait"


def _how_long(facts: Facts) -> str:
    return f" for {span(facts['waited'])}"


def _ago(facts: Facts) -> str:
    return "" if facts["ended_ago"] is None else f" {span(facts['ended_ago'])} ago"


_MOVES = {"parking": "is being parked", "unparking": "is being brought back"}
_SESSIONS: Mapping[str, Callable[[Facts], str]] = {
    "idle": _idle,
    "busy": _busy,
    "looking_up": _starting,
    "placing": _placing,
    "starting": _starting,
    "parking": _parking,
    "parked": _parked,
    "unparking": _unparking,
    "stopping": _stopping,
    "ended": _ended,
    "expired": _expired,
    "died": _died,
}
_CALLS: Mapping[str, Callable[[Facts], str]] = {
    "queued": _queued,
    "starting": _call_starting,
    "running": _call_running,
    "cancelling": _cancelling,
    "done": _done,
    "failed": _failed,
    "left": _left,
    "kept": _kept,
    "unknown": _unknown,
}
