"""What a key may do."""

from __future__ import annotations

from starlette.requests import Request

from warmd.http.keys import Caller
from warmd.http.problems import HttpProblem


def allowed(request: Request, scope: str) -> Caller:
    """Who asks.  Raises HttpProblem for a key that may not."""
    caller: Caller = request.scope["caller"]
    if not caller.may(scope):
        raise HttpProblem(
            "NOT_ALLOWED",
            f"the key {caller.name!r} may not {scope}: `warmd http keys add NAME --scope {scope}` makes one",
        )
    return caller
