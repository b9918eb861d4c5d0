"""Whose session is whose: the key that opened it is written on it as a label."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from warmd.http.keys import Caller
from warmd.http.problems import HttpProblem
from warmd.protocol.errors import SessionNotFound

if TYPE_CHECKING:
    from warmd.aio import AsyncClient

LABEL = "http-key"
MOST_KNOWN = 10_000


def label_of(caller: Caller) -> dict[str, str]:
    return {LABEL: caller.id}


class Owners:
    """Remembers what the daemon has said; an owner never changes."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._known: OrderedDict[str, str] = OrderedDict()

    def learn(self, session: str, caller: Caller) -> None:
        self._known[session] = caller.id
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)

    def sees(self, caller: Caller, info: Mapping[str, Any]) -> bool:
        """Whether the session that the daemon tells of is the caller's to see."""
        return caller.may_see(info["labels"].get(LABEL, ""))

    async def check(self, caller: Caller, session: str) -> None:
        """Raises HttpProblem for a session that is none of the caller's, as for one that is not."""
        owner = self._known.get(session)
        if owner is None:
            await self.info(caller, session)
        elif not caller.may_see(owner):
            raise _not_found(session)

    async def info(self, caller: Caller, session: str) -> dict[str, Any]:
        """What is known about the caller's session.  Raises HttpProblem, and WarmdError."""
        try:
            info: dict[str, Any] = await self._client.sessions.get(session)
        except SessionNotFound:
            raise _not_found(session) from None
        if not self.sees(caller, info):
            raise _not_found(session)
        self._known[info["id"]] = info["labels"].get(LABEL, "")
        return info


def _not_found(session: str) -> HttpProblem:
    return HttpProblem(
        "SESSION_NOT_FOUND",
        f"session not found: {session[:100]} (it was never opened with this key, or too long ago to be "
        'remembered; open one with "session": "new")',
    )
