"""What was said, and how much of it the model is still told: the memory and its window.

What follows a forgotten turn has to be read again by the model.  So a window that is full is not
moved on by one turn, which would make every turn cold: half of it is emptied, and the next turns
are warm again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from warmd.apps.generation.messages import Message, checked_messages

WINDOWS = ("forget", "refuse")
_BYTES_PER_TOKEN = 3
"""A low guess for English; a wrong guess costs one refused attempt of a few milliseconds."""
_TOKENS_PER_MESSAGE = 4
"""What a chat template puts around a message, about."""


class ConversationFull(ValueError):
    """The window is full, and its policy is to refuse."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What the user said, mostly one message, and the answer to it."""

    messages: tuple[Message, ...]
    tokens: int


@dataclass(frozen=True, slots=True)
class Window:
    """What happens when `max_turns` turns (None: any number), or the model's context, are full."""

    policy: str = "forget"
    max_turns: int | None = None


@dataclass(slots=True)
class Conversation:
    """A conversation; `copy` it to try something that may fail."""

    system: str
    """Empty: none."""
    window: Window
    turns: list[Turn] = field(default_factory=list)
    forgotten: int = 0
    """So many of the turns, from the oldest on, the model is not told any more."""
    used_tokens: int = 0
    """Of the context: as the engine has counted, or guessed since."""

    def copy(self) -> Conversation:
        return replace(self, turns=list(self.turns))

    def continued_as(self, system: str, turns: Sequence[Turn]) -> Conversation:
        """Another conversation in place of this one.  What they have in common keeps its counts, and what
        is forgotten of that stays forgotten."""
        same = 0
        if system == self.system:
            for mine, theirs in zip(self.turns, turns, strict=False):
                if mine.messages != theirs.messages:
                    break
                same += 1
        merged = [*self.turns[:same], *turns[same:]]
        forgotten = self.forgotten if self.forgotten <= same else 0
        used = sum(turn.tokens for turn in merged[forgotten:])
        return Conversation(system, self.window, merged, forgotten, used)

    def messages(self, *, whole: bool = False) -> list[Message]:
        """In OpenAI's form; with `whole`, also what is forgotten."""
        spoken = [{"role": "system", "content": self.system}] if self.system else []
        for turn in self.turns if whole else self.turns[self.forgotten :]:
            spoken.extend(dict(message) for message in turn.messages)
        return spoken

    def make_room(self, asked: Sequence[Message], max_tokens: int, context: int) -> None:
        """Forgets turns until a question and its answer fit.  Raises ConversationFull."""
        limit = self.window.max_turns
        if limit is not None and self.kept >= limit:
            if self.window.policy == "refuse":
                raise ConversationFull(f"the conversation has its {limit} turns: {_REMEDY}")
            while self.kept > limit // 2:
                self.forget_oldest()
        if self.window.policy == "refuse":
            return  # the engine counts exactly
        room = context - max_tokens
        needed = guessed_tokens(asked)
        if self.used_tokens + needed > room:
            while self.used_tokens + needed > room // 2 and self.forget_oldest():
                pass

    @property
    def kept(self) -> int:
        """How many turns the model is told."""
        return len(self.turns) - self.forgotten

    def forget_oldest(self) -> bool:
        """False where there is nothing left to forget."""
        if not self.kept:
            return False
        self.used_tokens = max(0, self.used_tokens - self.turns[self.forgotten].tokens)
        self.forgotten += 1
        return True

    def remember(self, asked: Iterable[Message], response: str, used_tokens: int) -> None:
        """A turn that is complete; `used_tokens`: of the context, all turns together."""
        messages = (*asked, {"role": "assistant", "content": response})
        self.turns.append(Turn(messages, max(0, used_tokens - self.used_tokens)))
        self.used_tokens = used_tokens

    def undo(self, count: int) -> None:
        """Takes back the last turns.  Raises ValueError."""
        if not 1 <= count <= self.kept:
            older = f", {self.forgotten} older ones are forgotten" if self.forgotten else ""
            raise ValueError(f"{count} turns are to be taken back, and {self.kept} are there{older}")
        for _ in range(count):
            self.used_tokens = max(0, self.used_tokens - self.turns.pop().tokens)


_REMEDY = "begin a new one with 'init', take turns back with 'undo', or let the window 'forget'"


def full(tokens: int, context: int) -> ConversationFull:
    """For a conversation that does not fit into the context and may not forget."""
    return ConversationFull(f"the conversation has {tokens} tokens, the context {context}: {_REMEDY}")


def guessed_tokens(messages: Iterable[Message]) -> int:
    return sum(len(one["content"].encode()) // _BYTES_PER_TOKEN + _TOKENS_PER_MESSAGE for one in messages)


def parsed(messages: Any) -> tuple[str, list[Turn], list[Message]]:
    """OpenAI's messages as the system prompt, the turns so far, and what is asked now.  Raises ValueError."""
    spoken = checked_messages(messages)
    system = ""
    turns: list[Turn] = []
    asked: list[Message] = []
    for number, one in enumerate(spoken):
        if one["role"] == "system":
            if number:
                raise ValueError(f"messages[{number}] is of the system: only the first can be")
            system = one["content"]
            continue
        asked.append(one)
        if one["role"] == "assistant":
            turns.append(Turn(tuple(asked), guessed_tokens(asked)))
            asked = []
    if not asked:
        raise ValueError("the last of the messages must be the user's: that is what is answered")
    return system, turns, asked
