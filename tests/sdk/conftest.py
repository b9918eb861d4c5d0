"""A real daemon for the whole run, and a fake one for what a real one never does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import warmd
from tests.sdk.fakedaemon import FakeDaemon, fake_daemon

ZOO = Path(__file__).parents[1] / "zoo.py"


def zoo(name: str) -> str:
    return f"{ZOO}:{name}"


@pytest.fixture
def fake() -> Iterator[FakeDaemon]:
    with fake_daemon() as found:
        yield found


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    with warmd.local(session_timeout=30) as own:
        own.status()
        yield own.address


@pytest.fixture
def client(address: str) -> Iterator[warmd.Client]:
    with warmd.Client(address) as found:
        yield found


@pytest.fixture
def faked(fake: FakeDaemon) -> Iterator[warmd.Client]:
    with warmd.Client(str(fake.path)) as found:
        yield found
