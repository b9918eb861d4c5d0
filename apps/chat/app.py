"""A conversation as functions that can be called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from warmd.apps.actions import Actions
from warmd.apps.chat.conversation import WINDOWS, Conversation, Window, full, parsed
from warmd.apps.chat.loading import open_engine
from warmd.apps.generation.messages import Message, text_of
from warmd.apps.generation.options import OPTIONS, Options, checked_options, refuse_unknown, whole_number
from warmd.apps.generation.parts import Part, PromptTooLong, told

DEFAULT_SYSTEM = "You are a helpful assistant."
SETTINGS = ("model", "threads", "context", "device", "dtype", "system", "window", "max_turns")


class Chat(Actions):
    """A language model with a memory: `run({"message": ...})`, or `generate` for a stream.

    `setup` takes, each optional: `model` (a GGUF file, or a folder of transformers), `threads` (1),
    `context` in tokens, `device` and `dtype` (of a folder), and what `init` takes.
    """

    default_action = "message"

    def setup(self, config: Mapping[str, Any] | None = None) -> None:
        given = dict(config or {})
        refuse_unknown(given, SETTINGS, "setting of the chat app")
        self._system = _system(given.get("system"), DEFAULT_SYSTEM)
        self._window = _window(given.get("window"), given.get("max_turns"), Window())
        size = given.get("context")
        self._engine = open_engine(
            given.get("model"),
            whole_number("threads", given.get("threads", 1), 1, 1024),
            None if size is None else whole_number("context", size, 64, 2**24),
            given.get("device"),
            given.get("dtype"),
        )
        self.init()

    def run(self, input: Mapping[str, Any]) -> Any:
        """`{"message": ...}`, `{"messages": [...]}`, or any other function as `{"action": its name}`."""
        if isinstance(input, Mapping) and "messages" in input:
            input = {"action": "complete", **input}
        return super().run(input)

    def init(
        self, *, system: str | None = None, window: str | None = None, max_turns: int | None = None
    ) -> dict[str, Any]:
        """Begins a new conversation; what is not given is as `setup` had it.

        `window`: what happens when the context is full, or there are `max_turns` turns: `"forget"` the
        oldest, or `"refuse"` the next.  An empty `system` is none at all.
        """
        self._talk = Conversation(_system(system, self._system), _window(window, max_turns, self._window))
        return {
            "system": self._talk.system,
            "model": self._engine.facts()["model"],
            "context": self._engine.context,
        }

    def message(self, *, message: Any = None, **options: Any) -> dict[str, Any]:
        """The next turn: the last part of `generate`."""
        *_, last = self.generate(message=message, **options)
        return last

    def complete(self, *, messages: Any, **options: Any) -> dict[str, Any]:
        """The answer to a whole conversation in OpenAI's form, which takes the place of the one so far.

        What both have in common need not be read again, so this is as warm as `message` for a client
        that sends all of it each time.
        """
        *_, last = self.generate(messages=messages, **options)
        return last

    def generate(
        self, *, message: Any = None, messages: Any = None, **options: Any
    ) -> Iterator[dict[str, Any]]:
        """Streams the answer as `{"text": piece}`; the last part is the whole as `{"response": ...}`,
        with counts of tokens and times in seconds.

        Takes a `message` or `messages`, and the options of `Options`.  A turn that is cut off is not
        remembered.  Raises TypeError for an unknown option, and ValueError for what cannot be answered.
        """
        refuse_unknown(options, {"message", "messages", *OPTIONS}, "option")
        checked = checked_options(options, self._engine.context)
        talk, asked = self._asked(message, messages)
        whole: dict[str, Any] = {}
        for part in told(self._answer(talk, asked, checked)):
            if "response" in part:
                whole = part
            else:
                yield part
        used_tokens = whole["prompt_tokens"] + whole["response_tokens"]
        talk.remember(asked, whole["response"], used_tokens)
        self._talk = talk
        yield {**whole, **self._room()}

    def history(self, *, whole: bool = False) -> dict[str, Any]:
        """The conversation as OpenAI's messages; with `whole`, also what the model is not told any more."""
        return {"messages": self._talk.messages(whole=bool(whole)), **self._room()}

    def undo(self, *, turns: int = 1) -> dict[str, Any]:
        """Takes back the last turns: another `message` then has another answer."""
        self._talk.undo(whole_number("turns", turns, 1, 2**31))
        return self._room()

    def forget(self) -> dict[str, Any]:
        """Begins again with the same system prompt and window."""
        self._talk = Conversation(self._talk.system, self._talk.window)
        return self._room()

    def info(self) -> dict[str, Any]:
        """What runs here, and how full its memory is."""
        window = self._talk.window
        return {
            **self._engine.facts(),
            "system": self._talk.system,
            "window": window.policy,
            "max_turns": window.max_turns,
            **self._room(),
        }

    def unload(self) -> None:
        self._engine.close()

    def _asked(self, message: Any, messages: Any) -> tuple[Conversation, list[Message]]:
        """The conversation so far, to try on, and what is to be answered now."""
        if messages is None:
            return self._talk.copy(), [{"role": "user", "content": text_of(message, "the message")}]
        if message is not None:
            raise ValueError("both a message and messages are given: a message goes on, messages begin anew")
        system, turns, asked = parsed(messages)
        return self._talk.continued_as(system, turns), asked

    def _answer(self, talk: Conversation, asked: Sequence[Message], options: Options) -> Iterator[Part]:
        talk.make_room(asked, options.max_tokens, self._engine.context)
        while True:
            try:
                yield from self._engine.stream([*talk.messages(), *asked], options)
                return
            except PromptTooLong as error:
                if talk.kept and talk.window.policy == "refuse":
                    raise full(error.tokens, error.context) from None
                if not talk.forget_oldest():
                    raise ValueError(f"the message is too long: {error}") from None

    def _room(self) -> dict[str, Any]:
        return {
            "turns": self._talk.kept,
            "forgotten_turns": self._talk.forgotten,
            "context_used": self._talk.used_tokens,
            "context": self._engine.context,
        }


def _system(given: Any, default: str) -> str:
    if given is None:
        return default
    if not isinstance(given, str):
        raise ValueError(f"system is {str(given)[:40]!r}, it must be text")
    return given


def _window(policy: Any, max_turns: Any, default: Window) -> Window:
    if policy is None:
        policy = default.policy
    if policy not in WINDOWS:
        raise ValueError(f"window is {str(policy)[:40]!r}, allowed are {' and '.join(map(repr, WINDOWS))}")
    limit = default.max_turns if max_turns is None else whole_number("max_turns", max_turns, 1, 2**31)
    return Window(policy, limit)
