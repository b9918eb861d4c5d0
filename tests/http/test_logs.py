"""The gateway's log: each line is JSON."""

from __future__ import annotations

import json
import logging
import sys

import httpx

from tests.faults.watch import until
from tests.http.gatewayprocess import GatewayProcess
from warmd.http.logs import FACTS, JsonLines


def record(level: int, text: str, **more: object) -> logging.LogRecord:
    found = logging.LogRecord("warmd.http", level, "", 0, text, (), None)
    found.__dict__.update(more)
    return found


def test_a_request_is_its_facts() -> None:
    line = json.loads(JsonLines().format(record(logging.INFO, "request", **{FACTS: {"status": 200}})))
    assert list(line) == ["time", "status"] and line["status"] == 200


def test_what_went_wrong_is_told_whole() -> None:
    try:
        raise ValueError("of the code")
    except ValueError:
        told = record(logging.ERROR, "it failed", exc_info=sys.exc_info(), **{FACTS: {"request_id": "id-1"}})
    line = json.loads(JsonLines().format(told))
    assert (line["level"], line["message"], line["request_id"]) == ("error", "it failed", "id-1")
    assert "ValueError: of the code" in line["error"]


def test_all_that_a_gateway_says_of_requests_is_json(gateway: GatewayProcess, http: httpx.Client) -> None:
    http.get("/nowhere", headers={"X-Request-Id": "id-2"})
    until(lambda: "id-2" in gateway.said())  # it is written after the answer
    url = http.base_url
    first, *lines = gateway.said().splitlines()
    assert first == f"warmd serves HTTP at {str(url).rstrip('/')}"
    assert {json.loads(line).get("request_id") for line in lines} >= {"id-2"}
