"""Whether a browser's page may ask where no key is shown.

A key in a header is proof enough: no page of somebody else's can send one.  Without keys, on the proxy
route or on an open gateway, whatever reaches the port is served, and each page that somebody looks at
can reach the ports of his machine.  Two things it cannot do there is to hide its origin and to choose
its host freely:

    Origin            sent with each request across origins but plain reads
    Sec-Fetch-Site    sent with the others, to hosts that are local or have TLS
    Host              the name that the page used.  A page can have its own name lead to 127.0.0.1
                      (DNS rebinding) and then is of one origin with us, but under that name.

So a request passes when its host is one of ours and it comes from us, from an origin that is on the
list, or from no browser.  No name can be made to stand for an IP address: those are all ours.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from warmd.http.options import Options
from warmd.http.problems import HttpProblem
from warmd.protocol.errors import quoted


def listed(options: Options, origin: str) -> bool:
    """Whether pages of this origin may ask."""
    return "*" in options.cors_origins or origin in options.cors_origins


def check(options: Options, headers: Mapping[str, str]) -> None:
    """Raises HttpProblem for a request that a stranger's page may have sent."""
    host, origin = headers.get("host", ""), headers.get("origin")
    if not is_own_host(options, host):
        raise HttpProblem(
            "NOT_ALLOWED",
            f"host {quoted(host, 100)}: without a key only this gateway's own addresses are served; "
            "start it with --public-url for another name",
        )
    if origin is None:
        strange = headers.get("sec-fetch-site") in ("cross-site", "same-site")
    else:
        strange = not listed(options, origin) and _place(origin) != host.lower()
    if strange:
        page = quoted(origin, 100) if origin else "another origin"
        raise HttpProblem(
            "NOT_ALLOWED",
            f"a page of {page} asked without a key: start the gateway with --cors-origins to allow it",
        )


def is_own_host(options: Options, host: str) -> bool:
    """Whether `host` (with or without a port) can only mean this gateway."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        if name in ("localhost", options.host, urlsplit(options.public_url).hostname):
            return True
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _place(origin: str) -> str:
    """Its host and port; empty for what is no origin."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
