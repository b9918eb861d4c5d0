"""Which session or call a person means: by a whole id, a session by its name too, or by a beginning
that fits only one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from warmd.protocol.errors import Invalid
from warmd.protocol.messages import CALL_ID_BYTES

WHOLE_ID = re.compile(r"sess_[0-9a-f]{32}")
WHOLE_CALL = re.compile(rf"[0-9a-f]{{{2 * CALL_ID_BYTES}}}")
REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
REQUEST_ID_IS = "expected 1 to 64 letters, digits, or any of _ . : -"
PREFIX = "sess_"
SHOWN = 10
"""How many matches an ambiguous prefix lists."""


def is_whole(text: str) -> bool:
    """Whether `text` is an id as it stands, so that nobody need be asked."""
    return WHOLE_ID.fullmatch(text) is not None


def match(text: str, sessions: Iterable[Mapping[str, Any]]) -> str | None:
    """The id of the one session whose id begins with `text` (with or without `sess_`) or whose
    name is `text`; workers of the shared pool count as sessions.  None when none fits.

    Sessions that are gone count only if no living one fits; of those of one name it is the newest,
    which stands last in `sessions`.  Raises Invalid when several fit.
    """
    known = list(sessions)
    living = [info for info in known if not is_gone(info)]
    gone = [info for info in known if is_gone(info)]
    return _fitting(text, living) or _fitting(text, gone)


def _fitting(text: str, sessions: list[Mapping[str, Any]]) -> str | None:
    named = [info for info in sessions if info.get("name") == text]
    if named:
        return str(named[-1]["id"])
    candidates = [info for info in sessions if _begins(str(info["id"]), text)]
    if len(candidates) > 1:
        raise Invalid(_ambiguous(text, candidates))
    return str(candidates[0]["id"]) if candidates else None


def is_whole_call(text: str) -> bool:
    """Whether `text` is a call's id as it stands."""
    return WHOLE_CALL.fullmatch(text) is not None


def is_request_id(text: str) -> bool:
    """Whether a request may be named so: up to 64 characters that break no line of a log."""
    return REQUEST_ID.fullmatch(text) is not None


def match_call(text: str, calls: Iterable[str]) -> str | None:
    """The one of these ids that begins with `text`, or None.  Raises Invalid when several do."""
    candidates = unique(id for id in calls if text and id.startswith(text.lower()))
    if len(candidates) > 1:
        raise Invalid(f"{len(candidates)} calls begin with {text!r}: give more digits")
    return candidates[0] if candidates else None


def is_gone(info: Mapping[str, Any]) -> bool:
    """Whether the session has no process any more."""
    return info.get("state") in ("ended", "expired", "died")


def _begins(id: str, text: str) -> bool:
    return bool(text) and (id if "_" in text else id.partition("_")[2]).startswith(text)


def _ambiguous(text: str, candidates: list[Mapping[str, Any]]) -> str:
    lines = [f"{info['id']}  {info.get('app')}  {info.get('state')}" for info in candidates[:SHOWN]]
    more = len(candidates) - SHOWN
    lines += [f"and {more} more"] * (more > 0)
    return f"{len(candidates)} sessions begin with {text!r}:\n  " + "\n  ".join(lines)


def unique(ids: Iterable[str]) -> list[str]:
    """The ids without repetitions, in their order."""
    return list(dict.fromkeys(ids))
