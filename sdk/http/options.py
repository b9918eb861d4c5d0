"""Everything that can be said about a gateway, with its bounds."""

from __future__ import annotations

from dataclasses import dataclass

MIB, GIB = 2**20, 2**30


@dataclass(frozen=True, kw_only=True)
class Options:
    """Sizes are bytes, durations seconds."""

    host: str = "127.0.0.1"
    port: int = 8470
    open: bool = False
    """Whoever reaches it may do all; only on loopback."""
    public_url: str = ""
    """Where clients reach it, if not where they say: what addresses of files begin with."""
    cors_origins: tuple[str, ...] = ()
    """Whose pages may ask, such as `http://localhost:5173`; `*` for all."""
    rate: float = 0.0
    """Requests a second of one key; 0 for no limit."""
    max_body_bytes: int = 64 * MIB
    max_file_bytes: int = GIB
    files_max_bytes: int = 8 * GIB
    file_seconds: float = 24 * 3600.0
    """How long a file is kept."""
    proxy_key: str = ""
    """The key's name under which requests to the proxy route run."""
    open_metrics: bool = False
    """`/metrics` needs no key."""
    webhook_hosts: tuple[str, ...] = ()
    """Where webhooks may go: names, or `*.example.com` for all below; empty for anywhere."""
