"""A daemon and an open gateway for each file of tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import warmd
from tests.http.gatewayprocess import GatewayProcess
from warmd.owndaemon import LocalClient

APPS = Path(__file__).parent / "apps"


@pytest.fixture(scope="module")
def daemon() -> Iterator[LocalClient]:
    with warmd.testing.daemon(app_folders=str(APPS), session_timeout=30) as client:
        client.status()
        yield client


@pytest.fixture(scope="module")
def gateway(daemon: LocalClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with GatewayProcess(daemon.address, tmp_path_factory.mktemp("gateway")) as found:
        yield found


@pytest.fixture
def http(gateway: GatewayProcess) -> httpx.Client:
    return gateway.client
