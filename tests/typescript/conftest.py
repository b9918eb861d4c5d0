"""A daemon, a gateway with a key, the example's server before it, and a site for browsers to look at."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import warmd
from tests.http.gatewayprocess import GatewayProcess
from tests.typescript.express import EXAMPLE, PROGRAMS, Express
from warmd.http.keys import Keys
from warmd.owndaemon import LocalClient

PAGES = Path(__file__).parents[1] / "apps" / "browserpages.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if (PROGRAMS / "tsx").exists():
        return
    reason = "needs Node and the packages of examples/typescript: `make .venv/js-examples`, with npm"
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="package")
def daemon() -> Iterator[LocalClient]:
    with warmd.testing.daemon(session_timeout=30) as client:
        client.status()
        yield client


@pytest.fixture(scope="package")
def gateway(daemon: LocalClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with GatewayProcess(daemon.address, tmp_path_factory.mktemp("gateway"), open=False) as found:
        yield found


@pytest.fixture(scope="package")
def key(gateway: GatewayProcess) -> str:
    return Keys(gateway.folder / "keys").add("typescript")


@pytest.fixture(scope="package")
def express(gateway: GatewayProcess, key: str) -> Iterator[Express]:
    subprocess.run([PROGRAMS / "vite", "build", "--logLevel", "warn"], cwd=EXAMPLE, timeout=30, check=True)
    with Express(gateway.url, key) as found:
        yield found


@pytest.fixture(scope="package")
def site() -> Iterator[str]:
    command = [sys.executable, str(PAGES)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.communicate(timeout=10)
