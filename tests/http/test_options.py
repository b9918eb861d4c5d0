"""What can be said about a gateway: flags over variables over defaults, and clear refusals."""

from __future__ import annotations

import re
from typing import Any

import pytest

from warmd.http.options import Options, options


def test_defaults() -> None:
    assert options(None, False, {}, {}) == Options()
    assert Options().address == "127.0.0.1:8470"


def test_flags_go_over_variables() -> None:
    environ = {"WARMD_HTTP_LISTEN": "[::1]:9000", "WARMD_HTTP_RATE": "5", "WARMD_HTTP_MAX_BODY_BYTES": "1MiB"}
    given = {"rate": "7.5", "cors_origins": "http://a, http://b", "file_seconds": "2h", "open_metrics": True}
    found = options(None, True, given, environ)
    assert (found.host, found.port, found.address, found.open) == ("::1", 9000, "[::1]:9000", True)
    assert (found.rate, found.max_body_bytes, found.file_seconds) == (7.5, 2**20, 7200.0)
    assert (found.cors_origins, found.open_metrics) == (("http://a", "http://b"), True)
    assert options("127.0.0.1:0", False, {}, environ).port == 0


@pytest.mark.parametrize("listen", ["", ":80", "host", "host:x", "1.2.3.4:70000", "::1:80", "x:-1"])
def test_odd_addresses_are_refused(listen: str) -> None:
    with pytest.raises(ValueError, match="give HOST:PORT"):
        options(listen or ":", False, {}, {})


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "192.0.2.1"])
def test_an_open_gateway_is_for_loopback_alone(host: str) -> None:
    with pytest.raises(ValueError, match="warmd http keys add NAME"):
        options(f"{host}:8470", True, {}, {})


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"rate": "-1"}, "--rate: '-1' is refused"),
        ({"rate": "inf"}, "--rate"),
        ({"rate": "many"}, "--rate: 'many' is refused"),
        ({"max_body_bytes": "0"}, "--max-body-bytes"),
        ({"file_seconds": "soon"}, "--file-seconds"),
        ({"public_url": "foo"}, "--public-url: 'foo' is refused: give an address such as https"),
        ({"cors_origins": "localhost:5173"}, "--cors-origins: 'localhost:5173' is refused: give an origin"),
        ({"cors_origins": "*,http://a/b"}, "'http://a/b' is refused"),
    ],
)
def test_odd_values_name_the_flag(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        options(None, False, given, {})


def test_odd_values_name_the_variable() -> None:
    with pytest.raises(ValueError, match="WARMD_HTTP_OPEN_METRICS: 'perhaps' is refused"):
        options(None, False, {}, {"WARMD_HTTP_OPEN_METRICS": "perhaps"})


def test_origins_are_compared_as_browsers_write_them() -> None:
    given = {"cors_origins": "HTTP://Localhost:5173/, *"}
    assert options(None, False, given, {}).cors_origins == ("http://localhost:5173", "*")


@pytest.mark.parametrize(
    ("name", "says"), [("RAET", "did you mean WARMD_HTTP_RATE?"), ("XYZ", "there are WARMD_HTTP_LISTEN, ")]
)
def test_a_variable_that_is_none_is_refused(name: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        options(None, False, {}, {f"WARMD_HTTP_{name}": "1"})
