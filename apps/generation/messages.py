"""Messages in OpenAI's form, checked: `{"role", "content"}`, contents as text or as parts of text."""

from __future__ import annotations

from typing import Any, TypeAlias

Message: TypeAlias = dict[str, str]


def checked_messages(messages: Any) -> list[Message]:
    """Each with its content as one text; a developer is the system.  Raises ValueError."""
    if not isinstance(messages, list | tuple) or not messages:
        raise ValueError(f"messages must be a list of messages, not {str(messages)[:40]!r}")
    return [_message(one, number) for number, one in enumerate(messages)]


def text_of(content: Any, what: str, *, may_be_empty: bool = False) -> str:
    """Text, or OpenAI's list of parts that are text.  Raises ValueError."""
    if isinstance(content, list) and all(_is_text(part) for part in content):
        content = "".join(part["text"] for part in content)
    if not isinstance(content, str) or not (content or may_be_empty):
        raise ValueError(f"{what} must be text, not {str(content)[:40] or 'nothing'}")
    return content


def _message(given: Any, number: int) -> Message:
    if not isinstance(given, dict) or not {"role", "content"} <= given.keys():
        shown = str(given)[:40]
        raise ValueError(f"messages[{number}] must be a dict with 'role' and 'content', not {shown!r}")
    role = "system" if given["role"] == "developer" else given["role"]
    if role not in ("system", "user", "assistant"):
        raise ValueError(f"messages[{number}] has the role {role!r}: allowed are system, user and assistant")
    what = f"the content of messages[{number}]"
    return {"role": role, "content": text_of(given["content"], what, may_be_empty=role != "user")}


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
