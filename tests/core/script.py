"""Transcripts: what happens as lines that begin with `>`, and below each what the broker orders.

    > call 1 new run timeout=5          a call; `new`, `pool` or a session such as s1
    0.000  look up counter for s1

`played(text)` plays the lines with `>` and writes the others anew; comments and blank lines stay.
Sessions are named s1, s2 and workers of the pool p1, p2 in the order in which they are opened.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import Any

from tests.core.fakes import Reading
from tests.core.stage import EVERYTHING
from tests.core.world import FUNCTIONS, World
from warmd.daemon.core import effects as fx
from warmd.daemon.core import events as ev
from warmd.daemon.core.policy import Limits
from warmd.protocol import messages as msg
from warmd.protocol import work
from warmd.protocol.errors import Problem
from warmd.protocol.messages import AppRef, CallId, SessionId
from warmd.protocol.work import WorkerId


def played(text: str) -> str:
    """The transcript of the same events as the rules are now.  Raises KeyError for an unknown one."""
    script = Script()
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith(">"):
            lines += [line, *script.play(line[1:])]
        elif line.startswith("#") or not line.strip():
            lines.append(line)
    return "\n".join(lines) + "\n"


class Script:
    def __init__(self) -> None:
        self.world = World(holds=EVERYTHING)
        self.begin = self.world.now
        self.names: dict[str, str] = {}
        """Of sessions: their id to their short name."""

    def play(self, line: str) -> list[str]:
        """Make it happen; returns a line for each effect."""
        verb, *words = shlex.split(line)
        plain = [word for word in words if "=" not in word]
        options = dict(word.split("=", 1) for word in words if "=" in word)
        before = len(self.world.effects)
        shown = VERBS[verb](self, *plain, **options) or []
        for _, effect in self.world.effects[before:]:
            if isinstance(effect, fx.LookUp):
                kind = effect.session[0]
                count = sum(name.startswith(kind) for name in self.names.values())
                self.names[effect.session] = f"{kind}{count + 1}"
        effects = self.world.effects[before:]
        return [f"{at - self.begin:.3f}  {self.shortened(WORDS[type(e)](e))}" for at, e in effects] + shown

    def shortened(self, text: str) -> str:
        for id, name in self.names.items():
            text = text.replace(id, name)
        return re.sub(r"\b0{20,}([0-9a-f]+)\b", lambda found: str(int(found[1], 16)), text)

    def id_of(self, name: str) -> SessionId:
        return SessionId(next((id for id, short in self.names.items() if short == name), name))

    # the verbs

    def limits(self, **options: str) -> None:
        limits = Limits(**{name: type(getattr(Limits(), name))(value) for name, value in options.items()})
        self.world = World(limits, holds=EVERYTHING)

    def call(self, number: str, where: str, function: str, **options: str) -> None:
        session = {"new": "new", "pool": None}.get(where, self.id_of(where))
        app = AppRef(options["app"]) if "app" in options else None
        read: dict[str, Callable[[str], Any]] = {
            "timeout": float, "window": int, "idle": float, "name": str, "by": str, "setup": str.encode,
        }  # fmt: skip
        field = {"timeout": "timeout_seconds", "idle": "idle_seconds"}
        detach = options.pop("detach", "no") == "yes"
        values = {field.get(key, key): read[key](value) for key, value in options.items() if key != "app"}
        self.world.call(session, function, app=app, id=number_of(number), detach=detach, **values)

    def attach(self, number: str, call: str, offset: str, window: str = "", by: str = "bob") -> None:
        reader, id = msg.ClientId(by.encode()), number_of(number)
        heard, room = self.world.calls[number_of(call)], int(window) if window else None
        self.world.readings[reader, id] = Reading(reader, heard, int(offset), room)
        self.world.tell(ev.AttachArrived(reader, msg.Attach(id, heard.call.id, int(offset), room)))

    def credit(self, number: str, parts: str) -> None:
        id = number_of(number)
        reading = next((found for (_, name), found in self.world.readings.items() if name == id), None)
        if reading is None:
            self.world.credit(self.world.calls[id], int(parts))
        else:
            self.world.read_on(reading, int(parts))

    def end(self, number: str, what: str, running: str = "cancel") -> None:
        request = number_of(number)
        self.world.requests[request] = None
        session = None if what == "all" else self.id_of(what)
        self.world.tell(ev.EndArrived(msg.ClientId(b"ann"), request, session, None, running))  # type: ignore[arg-type]

    def start_fails(self, worker: str, phase: str = "setup") -> None:
        said = work.StartFailed(phase, "ValueError", "no such model", "Traceback ...")
        self.world.says(said, int(worker))

    def exits(self, worker: str, code: str | None = None, signal: str | None = None, log: str = "") -> None:
        self.world.exits(int(worker), None if code is None else int(code), signal, log)

    def ready(self, worker: str, on_cancel: str = "no") -> None:
        self.world.on_cancel = on_cancel == "yes"
        self.world.ready(int(worker), FUNCTIONS)

    def show(self) -> list[str]:
        """The sessions as `ps` would see them, and when the next thing is due."""
        world = self.world
        lines = [
            f"       {self.names[v.id]} {v.state}, {v.calls} calls, {v.queued} waiting"
            + (f", expires in {v.expires_at - world.now:g} s" if v.expires_at else "")
            + (f" ({self.shortened(v.reason)})" if v.reason else "")
            for v in world.broker.views(include_dead=True)
        ]
        due = world.broker.deadline()
        return [*lines, f"       next due: {'nothing' if due is None else f'in {due - world.now:g} s'}"]


def number_of(text: str) -> CallId:
    return CallId(int(text).to_bytes(16, "big"))


def _worker(method: str) -> Callable[..., None]:
    def verb(script: Script, worker: str) -> None:
        getattr(script.world, method)(worker=int(worker))

    return verb


VERBS: dict[str, Callable[..., list[str] | None]] = {
    "limits": Script.limits,
    "call": Script.call,
    "attach": Script.attach,
    "again": lambda s, call, by: s.world.attach(s.world.calls[number_of(call)], by=by, again=True) and None,
    "credit": Script.credit,
    "stop": lambda s, call: s.world.stop_call(s.world.calls[number_of(call)]),
    "cancel": lambda s, call: s.world.cancel(s.world.calls[number_of(call)]),
    "abandon": lambda s, call: s.world.cancel(s.world.calls[number_of(call)], "abandon"),
    "leave": lambda s, name: s.world.leave(name),
    "keepalive": lambda s, session: s.world.keepalive(s.id_of(session)) and None,
    "end": Script.end,
    "drain": lambda s, seconds: s.world.drain(float(seconds)),
    "found": lambda s, session: s.world.found(s.id_of(session)),
    "missing": lambda s, session: s.world.missing(
        Problem("APP_NOT_FOUND", "there is no app 'counter'"), s.id_of(session)
    ),
    "spawned": _worker("spawned"),
    "spawn-fails": _worker("spawn_fails"),
    "ready": Script.ready,
    "start-fails": Script.start_fails,
    "yields": _worker("yields"),
    "returns": _worker("returns"),
    "raises": _worker("raises"),
    "declines": _worker("declines"),
    "interrupted": _worker("obeys"),
    "loses-link": _worker("loses_link"),
    "exits": Script.exits,
    "tree-gone": _worker("tree_ends"),
    "stack": lambda s, worker, text="": s.world.stack(text, int(worker)),
    "settled": _worker("settles"),
    "wait": lambda s, seconds: s.world.wait(float(seconds)),
    "show": Script.show,
}


def _send(effect: fx.Send) -> str:
    message: Any = effect.message
    call = int.from_bytes(message.id, "big")
    said = {
        msg.Accepted: lambda m: f"accepted in {m.session or 'the pool'}",
        msg.Part: lambda m: f"part {m.number}",
        msg.Parts: lambda m: f"parts {m.number} to {m.number + len(m.sizes) - 1}",
        msg.Result: lambda m: f"result after {m.parts} parts" + (", cold" if m.timing.cold else ""),
        msg.Failure: lambda m: f"{m.code}, ran={m.ran}: {m.message}",
    }[type(message)](message)
    return f"to {effect.client.decode()}: {call} {said}"


def _tell(effect: fx.Tell) -> str:
    message = effect.message
    if isinstance(message, work.Invoke):
        window = "" if message.window is None else f", window {message.window}"
        call = int.from_bytes(message.call, "big")
        words = f"invoke #{message.ordinal}: {message.function} for call {call}{window}"
    elif isinstance(message, work.MoreCredit):
        words = f"credit {message.parts} for #{message.ordinal}"
    else:
        assert isinstance(message, work.Finish)
        words = f"finish, {message.reason}"
    return _to(effect.worker, words)


def _to(worker: WorkerId, words: str) -> str:
    return f"worker {worker}: {words}"


WORDS: dict[type, Callable[[Any], str]] = {
    fx.Send: _send,
    fx.Tell: _tell,
    fx.Answer: lambda e: (
        f"to ann: {int.from_bytes(e.request, 'big')} answered: {' '.join(e.sessions) or 'none'}"
    ),
    fx.LookUp: lambda e: f"look up {e.app.name} for {e.session}",
    fx.Spawn: lambda e: _to(e.worker, f"spawn for {e.session}"),
    fx.Withdraw: lambda e: _to(e.worker, f"withdraw #{e.ordinal}"),
    fx.RequestCancel: lambda e: _to(e.worker, f"ask to end #{e.ordinal}" + (", with the signal" * e.signal)),
    fx.Interrupt: lambda e: _to(e.worker, f"interrupt #{e.ordinal}"),
    fx.CaptureStack: lambda e: _to(e.worker, f"take the stack of #{e.ordinal}"),
    fx.Kill: lambda e: _to(e.worker, "kill, with its tree"),
    fx.Forget: lambda e: _to(e.worker, f"forget, with {e.session}"),
    fx.Stopped: lambda _: "stopped",
}
