"""Calls by their id: `client.calls`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from warmd import plan
from warmd.calls import Stream
from warmd.link import done
from warmd.result import Info, Result, infos, outcome
from warmd.session import Infos

if TYPE_CHECKING:
    from warmd.client import Client


class Calls:
    """Any call under way, and what is kept of detached ones, whoever began them.

    What a call submitted with `detach=True` gives is kept by the daemon for a while after its end (its
    settings `detached_keep` and `detached_max_bytes`).  All but `list` raise CallGone for a call that
    the daemon does not know, or no longer.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def get(self, id: str) -> Info:
        """Where a call is: state (queued, starting, running, cancelling, done), session, function,
        position, seconds in this state, parts, note, progress; of one that is done also code (None for a
        good end), ran and when it ended."""
        return Info(self._client._request("calls.get", {"call": plan.call_id(id).hex()}))

    def list(self) -> Infos:
        """The detached calls, under way or kept."""
        return infos(self._client._request("calls.list", {}))

    def attach(self, id: str, offset: int = 0) -> Stream:
        """The values that a detached call yields, from number `offset` on, as they come; of a function
        that is no generator its one value.

        Leaving the stream only leaves it: the call goes on.  Several may read at once.  Raises, at the
        first step, CallGone with `details["first_part"]` when earlier parts than that had to be
        dropped, and Invalid for an offset beyond the end.
        """
        return Stream(*self._client._begin(plan.attach(id, offset, plan.WINDOW)))

    def watch(self, id: str) -> Stream:
        """What the app tells by `warmd.context.progress` of a call under way, until its end: the latest at
        once and then each as it comes, or the latest of them where this reader is slower.

        Leaving the stream leaves the call alone.
        """
        request = plan.request("calls.watch", {"call": plan.call_id(id).hex()}, window=1)
        return Stream(*self._client._begin(request))

    def result(self, id: str, timeout: float | str | None = None) -> Result:
        """Wait for the end of a detached call, at most `timeout`, as `Submitted.result`."""
        seconds = plan.duration(timeout, "timeout")
        until = None if seconds is None else time.monotonic() + seconds
        link, pending = self._client._begin(plan.attach(id))
        try:
            if not link.wait(pending, done, until):
                raise TimeoutError(f"the call has not ended within {seconds:g} s; it goes on")
        except BaseException:
            link.drop(pending.id)
            raise
        return outcome(pending)

    def cancel(self, id: str) -> bool:
        """Ask for the end of a call.  False if it has ended."""
        return bool(self._client._request("calls.cancel", {"call": plan.call_id(id).hex()}))
