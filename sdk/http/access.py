"""What a key may do."""

from __future__ import annotations

from starlette.requests import Request

from warmd.http.keys import DEFAULT_SCOPES, Caller
from warmd.http.problems import HttpProblem


def _flag(scope: str) -> str:
    """Without it a key may run and read, which is what clients need."""
    return "" if scope in DEFAULT_SCOPES else f" --scope {scope}"


def allowed(request: Request, scope: str) -> Caller:
    """Who asks.  Raises HttpProblem for a key that may not."""
    caller: Caller = request.scope["caller"]
    if not caller.may(scope):
        raise HttpProblem(
            "NOT_ALLOWED",
            f"the key {caller.name!r} may not {scope}: `warmd http keys add NAME{_flag(scope)}` makes one "
            "that may",
        )
    return caller
