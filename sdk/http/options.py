"""Everything that can be said about a gateway: defaults, bounds, and how it is written.

As flags of `warmd http` (`--max-body-bytes 8MiB`) and as variables (`WARMD_HTTP_MAX_BODY_BYTES`).
"""

from __future__ import annotations

import difflib
import ipaddress
import math
import socket
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any
from urllib.parse import urlsplit

from warmd.protocol.units import seconds, size_bytes, spell_bytes, spell_seconds

MIB, GIB = 2**20, 2**30
VARIABLE = "WARMD_HTTP_"
DEFAULT_PORT = 8470


def _option(default: Any, kind: str, doc: str) -> Any:
    return field(default=default, metadata={"kind": kind, "doc": doc})


@dataclass(frozen=True, kw_only=True)
class Options:
    """Sizes are bytes, durations seconds."""

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    open: bool = False
    """Whoever reaches it may do all; only on loopback."""
    public_url: str = _option("", "url", "where clients reach it, if not where they say they do")
    cors_origins: tuple[str, ...] = _option(
        (), "origins", "whose pages may ask, such as http://localhost:5173; * for all; with commas between"
    )
    rate: float = _option(0.0, "number", "requests a second of one key; 0 for no limit")
    max_body_bytes: int = _option(64 * MIB, "size", "the most that the body of a request may have")
    max_file_bytes: int = _option(GIB, "size", "the most that one file may have")
    files_max_bytes: int = _option(8 * GIB, "size", "the most that all files together may have")
    file_seconds: float = _option(24 * 3600.0, "duration", "how long a file is kept after its last use")
    proxy_key: str = _option(
        "", "text", "the name of the key under which the route for browsers runs; none without it"
    )
    open_metrics: bool = _option(False, "switch", "tell /metrics without a key")
    webhook_hosts: tuple[str, ...] = _option(
        (), "texts", "where webhooks may go: names, or *.example.com for all below; none for anywhere"
    )

    @property
    def address(self) -> str:
        return spelled(self.host, self.port)

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET


def described() -> list[Field[Any]]:
    """The options that have a flag and a variable of their own."""
    return [one for one in fields(Options) if one.metadata]


def options(listen: str | None, open: bool, given: Mapping[str, Any], environ: Mapping[str, str]) -> Options:
    """Flags over variables over defaults.  Raises ValueError, which names the value and the remedy."""
    host, port = endpoint(listen or environ.get(f"{VARIABLE}LISTEN") or spelled("127.0.0.1", DEFAULT_PORT))
    if open:
        _check_loopback(host)
    _check_variables(environ)
    chosen: dict[str, Any] = {}
    for one in described():
        variable = variable_of(one)
        if given.get(one.name) is not None:
            chosen[one.name] = _read(one, given[one.name], "--" + one.name.replace("_", "-"))
        elif environ.get(variable):
            chosen[one.name] = _read(one, environ[variable], variable)
    return Options(host=host, port=port, open=open, **chosen)


def shown(option: Field[Any]) -> str:
    """Its default as a person would write it."""
    default: Any = option.default
    if default in ("", ()):
        return "none"
    spell = {"size": spell_bytes, "duration": spell_seconds, "number": "{:g}".format, "switch": _spell_switch}
    return spell[option.metadata["kind"]](default)


def variable_of(option: Field[Any]) -> str:
    return VARIABLE + option.name.upper()


def _check_variables(environ: Mapping[str, str]) -> None:
    known = [f"{VARIABLE}LISTEN", *map(variable_of, described())]
    for name in sorted(environ):
        if name.startswith(VARIABLE) and name not in known:
            stems = [variable.removeprefix(VARIABLE) for variable in known]
            close = difflib.get_close_matches(name.removeprefix(VARIABLE), stems, n=1)
            raise ValueError(
                f"the variable {name} is none of the gateway's: "
                + (f"did you mean {VARIABLE}{close[0]}?" if close else f"there are {', '.join(known)}")
            )


def endpoint(text: str) -> tuple[str, int]:
    """`HOST:PORT`, where a host with colons stands in brackets.  Raises ValueError."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    bare = ":" in host and "[" not in text
    if not colon or not host or bare or not port.isdecimal() or int(port) > 65535:
        example = spelled("127.0.0.1", DEFAULT_PORT)
        raise ValueError(f"{text!r} is no address to listen at: give HOST:PORT, such as {example}")
    return host, int(port)


def spelled(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _check_loopback(host: str) -> None:
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except OSError as error:
        raise ValueError(f"{host!r} cannot be found: {error.strerror}") from None
    if not all(ipaddress.ip_address(one.partition("%")[0]).is_loopback for one in found):
        raise ValueError(
            f"--http-open lets in whoever reaches {host!r}, so it goes with a loopback address alone: "
            "listen at 127.0.0.1, or leave it out and make keys with `warmd http keys add NAME`"
        )


def _read(option: Field[Any], value: Any, what: str) -> Any:
    kind = option.metadata["kind"]
    if kind == "size":
        return size_bytes(int(value) if str(value).isdecimal() else value, what=what)
    if kind == "duration":
        return seconds(value, what=what)
    if kind == "url":
        return _url(str(value), what)
    if kind == "texts":
        return _words(value)
    if kind == "origins":
        return tuple(one if one == "*" else _origin(one, what) for one in _words(value))
    if kind == "number":
        return _number(value, what)
    if kind == "switch":
        return _switch(value, what)
    return str(value)


def _words(value: Any) -> tuple[str, ...]:
    return tuple(word for word in map(str.strip, str(value).split(",")) if word)


def _url(text: str, what: str) -> str:
    found = urlsplit(text)
    is_http = found.scheme in ("http", "https") and found.hostname
    if text and (not is_http or found.query or found.fragment):
        raise ValueError(f"{what}: {text!r} is refused: give an address such as https://warmd.example.com")
    return text


def _origin(text: str, what: str) -> str:
    """As browsers write it."""
    origin = text.rstrip("/").lower()
    found = urlsplit(origin)
    if not found.scheme or not found.hostname or origin != f"{found.scheme}://{found.netloc}":
        raise ValueError(f"{what}: {text!r} is refused: give an origin, such as http://localhost:5173, or *")
    return origin


def _number(value: Any, what: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise ValueError(f"{what}: {value!r} is refused: give a number, 0 or more")
    return number


def _spell_switch(on: bool) -> str:
    return "true" if on else "false"


def _switch(value: Any, what: str) -> bool:
    text = str(value).lower()
    if text not in ("true", "false", "1", "0", "yes", "no"):
        raise ValueError(f"{what}: {value!r} is refused: give true or false")
    return text in ("true", "1", "yes")
