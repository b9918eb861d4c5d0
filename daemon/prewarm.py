"""Has sessions of apps ready as soon as the daemon is up, where their manifests say so (`spares`).

They are spares like those of `warmd warm`, opened by the daemon itself instead of a client.  They wait as
long as it takes, so no more than half of all places are theirs: who calls another app needs one too.
"""

from __future__ import annotations

import logging
import os

from warmd.daemon.core.events import CallArrived
from warmd.daemon.services import Services
from warmd.protocol.messages import CALL_ID_BYTES, NEW_SESSION, AppRef, Call, CallId, ClientId, NewSession

log = logging.getLogger("warmd.prewarm")

NOBODY = ClientId(b"")
"""Who asks for them: answers to it are dropped, and what fails is in the session's log."""


def prewarm(services: Services) -> None:
    """Look for such apps, off the loop, and then start their sessions."""

    def done(found: dict[str, int] | BaseException) -> None:
        if isinstance(found, BaseException):
            log.warning("the apps to be kept ready could not be looked for: %r", found)
            return
        places = services.settings.max_sessions // 2
        for name, wanted in found.items():
            spares = min(wanted, places)
            places -= spares
            if spares < wanted:
                log.warning(
                    "%s asks for %d spares and gets %d: half of max_sessions (%d) is for spares",
                    name, wanted, spares, services.settings.max_sessions,
                )  # fmt: skip
            log.info("keeping %d sessions of %s ready", spares, name)
            for _ in range(spares):
                services.submit(CallArrived(NOBODY, _opening(name), os.urandom(16).hex()))

    services.in_thread(services.catalog.spares, done)


def _opening(name: str) -> Call:
    id = CallId(os.urandom(CALL_ID_BYTES))
    return Call(id, NEW_SESSION, AppRef(name), "", new=NewSession(spare=True))
