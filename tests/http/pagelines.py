"""The lines that a page is told, read like a page reads them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.http.gatewayprocess import PATIENCE_SECONDS

Line = dict[str, Any]


class Lines:
    """One page's stream."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.iter_lines()

    def next(self) -> Line:
        return dict(json.loads(next(self._lines)))

    def until(self, wanted: Callable[[Line], object]) -> list[Line]:
        """What is told up to the first line that is wanted."""
        told = []
        while True:
            told.append(self.next())
            if wanted(told[-1]):
                return told


@contextmanager
def page(url: str, key: str | None = None) -> Iterator[Lines]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with (
        httpx.Client(timeout=PATIENCE_SECONDS) as client,
        client.stream("GET", f"{url}/live", headers=headers) as response,
    ):
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"] == "application/x-ndjson"
        yield Lines(response)


def states(lines: list[Line], session: str) -> list[str]:
    """Those that a session was told to be in, one after another."""
    rows = [row for line in lines for row in line.get("sessions", ()) if row["id"] == session]
    return [row["state"] for row in rows]


def is_in(session: str, state: str) -> Callable[[Line], bool]:
    """Whether a line tells that the session is in that state."""
    return lambda line: state in states([line], session)
