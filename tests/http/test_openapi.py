"""The published document is true: whatever it allows, and much that it does not, is answered as it says."""

from __future__ import annotations

from typing import Any

import httpx
import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import checks

from tests.http.gatewayprocess import GatewayProcess
from warmd import __version__
from warmd.http.openapi import OPERATIONS, OpenApi
from warmd.http.options import Options
from warmd.http.runs import RunRoutes
from warmd.http.sessions import SessionRoutes

schema = schemathesis.openapi.from_dict(OpenApi(Options(open=True)).document())
CHECKS = [
    schemathesis.checks.not_a_server_error,
    *(
        check
        for check in checks.CHECKS.get_all()
        if check.__name__
        in ("status_code_conformance", "content_type_conformance", "response_schema_conformance")
    ),
]


@schema.parametrize()
@settings(
    max_examples=15, derandomize=True, deadline=None, suppress_health_check=[*HealthCheck], database=None
)
def test_each_route_answers_as_it_says(case: Any, gateway: GatewayProcess) -> None:
    case.call_and_validate(base_url=gateway.url, checks=CHECKS, headers={"Connection": "close"})


def test_the_document_is_published(http: httpx.Client) -> None:
    told = http.get("/openapi.json").json()
    assert (told["openapi"], told["info"]["version"]) == ("3.1.0", __version__)


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/tasks", "/sessions"])
def test_what_is_documented_is_there(http: httpx.Client, path: str) -> None:
    assert http.get(path).status_code == 200


@pytest.mark.parametrize("function", ["echo", "raise_error", "nix"])
def test_a_task_is_as_documented(gateway: GatewayProcess, function: str) -> None:
    told = gateway.run(function, "x", session="new")
    document = OpenApi(Options()).document()
    validate = jsonschema.Draft202012Validator({**document, "$ref": "#/components/schemas/Task"}).validate
    validate(told)
    with pytest.raises(jsonschema.ValidationError):
        validate({**told, "status": 9})


def test_each_route_of_runs_and_sessions_is_documented() -> None:
    nothing: Any = None
    routes = [*RunRoutes(Options(), nothing, nothing).routes(), *SessionRoutes(nothing, nothing).routes()]
    there = {(route.path, method.lower()) for route in routes for method in route.methods or ()}
    documented = {operation for operation in OPERATIONS if operation[0].startswith(("/a", "/t", "/s"))}
    assert {(path, method) for path, method in there if method != "head"} == documented
