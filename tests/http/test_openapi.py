"""The published document is true: whatever it allows, and much that it does not, is answered as it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import GenerationMode, checks

from tests.http.gatewayprocess import GatewayProcess
from warmd import __version__
from warmd.aio import AsyncClient
from warmd.http.gateway import Gateway
from warmd.http.keys import Keys
from warmd.http.openapi import OPERATIONS, OpenApi
from warmd.http.options import Options

# What has no end is tried in test_live.
schema = schemathesis.openapi.from_dict(OpenApi(Options(open=True)).document()).exclude(path="/live")
schema.config.generation.update(modes=[*GenerationMode])
CHECKS = [
    schemathesis.checks.not_a_server_error,
    *(
        check
        for check in checks.CHECKS.get_all()
        if check.__name__
        in (
            "status_code_conformance",
            "content_type_conformance",
            "response_schema_conformance",
            "negative_data_rejection",
        )
    ),
]


@schema.parametrize()
@settings(
    max_examples=40, derandomize=True, deadline=None, suppress_health_check=[*HealthCheck], database=None
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


async def test_each_route_is_documented(tmp_path: Path) -> None:
    gateway = Gateway(AsyncClient(), Options(proxy_key="x"), tmp_path, Keys(tmp_path))
    gateway.keys.add("x")
    front: Any = gateway.application()
    there = {(route.path, method.lower()) for route in front.app.routes for method in route.methods}
    there -= {("/openapi.json", "get")}
    assert {(path, method) for path, method in there if method != "head"} == {*OPERATIONS}


def test_files_are_as_documented(http: httpx.Client) -> None:
    validate = jsonschema.Draft202012Validator(
        {**OpenApi(Options()).document(), "$ref": "#/components/schemas/File"}
    ).validate
    announced = http.post("/files", json={"files": [{"filename": "a.txt", "size": 3}]}).json()["data"][0]
    validate(announced)
    validate(http.get(f"/files/{announced['id']}").json()["data"])
