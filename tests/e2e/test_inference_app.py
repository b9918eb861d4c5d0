"""A folder written for inference.sh, as it is, in a daemon of warmd."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import warmd
from warmd.protocol.errors import AppError, Invalid, StartFailed
from warmd.protocol.files import File

MANIFEST = """
name: poet
description: Writes lines
kernel: python-3.11
"""
CODE = '''
from typing import AsyncGenerator, Optional

from inferencesh import BaseApp, BaseAppInput, BaseAppOutput, BaseAppSetup, File, function
from pydantic import Field


class AppSetup(BaseAppSetup):
    style: str = "plain"


class LinesInput(BaseAppInput):
    prompt: str = Field(description="What it is about")
    lines: int = Field(default=2, ge=0, le=10)


class LinesOutput(BaseAppOutput):
    text: str
    count: int


class PageInput(BaseAppInput):
    path: str
    model: Optional[File] = None


class PageOutput(BaseAppOutput):
    page: File


class App(BaseApp):
    async def setup(self, config: AppSetup):
        self.style = config.style
        self.written = 0
        self.logger.info("the style is %s", self.style)

    async def run(self, input_data: LinesInput, metadata) -> LinesOutput:
        self.written += 1
        metadata.log("writes as", metadata.app_id)
        return LinesOutput(text=f"{self.style}: {input_data.prompt}", count=self.written)

    async def write(self, input_data: LinesInput) -> AsyncGenerator[LinesOutput, None]:
        for number in range(input_data.lines):
            yield LinesOutput(text=f"{input_data.prompt}\\n" * (number + 1), count=number + 1)

    @function(annotations={"readOnlyHint": True})
    async def page(self, input_data: PageInput) -> PageOutput:
        text = "empty" if input_data.model is None else open(input_data.model.path).read()
        with open(input_data.path, "w") as file:
            file.write(text)
        return PageOutput(page=File(path=input_data.path))

    async def unload(self):
        print("laid down the pen")
'''


@pytest.fixture(scope="module")
def client() -> Iterator[warmd.LocalClient]:
    with warmd.local() as client:
        client.status()  # connects now: the leak check of each test must not count it
        yield client


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("apps") / "poet"
    folder.mkdir()
    (folder / "inf.yml").write_text(MANIFEST)
    (folder / "inference.py").write_text(CODE)
    return str(folder)


def test_a_session_of_it(client: warmd.LocalClient, app: str, tmp_path: Path) -> None:
    with client.session(app, setup={"style": "grand"}) as session:
        assert session.call("run", {"prompt": "sea"}).output == {
            "output_meta": None, "text": "grand: sea", "count": 1,
        }  # fmt: skip
        assert session.call("write", {"prompt": "sea", "lines": 3}).output["text"] == "sea\n" * 3
        parts = list(session.stream("write", {"prompt": "sea"}))
        assert [part["count"] for part in parts] == [1, 2]
        page = session.call("page", {"path": str(tmp_path / "a.txt")}).output["page"]
        assert page == File(tmp_path / "a.txt", "text/plain", "a.txt")
        second = session.call("page", {"path": str(tmp_path / "b.txt"), "model": page}).output["page"]
        assert Path(second.path).read_text() == "empty"
        log = b"".join(client.logs(session.id)).decode()
        assert "INFO the style is grand" in log and "INFO writes as " in log


def test_an_input_that_does_not_fit_was_not_run(client: warmd.LocalClient, app: str) -> None:
    with client.session(app) as session:
        session.call("run", {"prompt": "sea"})
        with pytest.raises(Invalid) as refused:
            session.call("run", {"promt": "sea", "lines": 11})
        assert refused.value.ran == "no"
        assert str(refused.value) == (
            "run(): input.prompt: Field required, but 'promt' was given; "
            "input.lines: Input should be less than or equal to 10, got 11"
        )
        assert session.call("run", {"prompt": "sea"}).output["count"] == 2


def test_a_generator_that_yields_nothing_has_failed(client: warmd.LocalClient, app: str) -> None:
    with client.session(app) as session:
        with pytest.raises(AppError, match=r"warmd\.NoOutput: write") as failed:
            session.call("write", {"prompt": "sea", "lines": 0})
        assert failed.value.ran == "yes"


def test_a_setup_value_that_does_not_fit_is_a_failed_start(client: warmd.LocalClient, app: str) -> None:
    with pytest.raises(StartFailed, match=r"setup\(\): setup.style: Input should be a valid string, got 3"):
        client.session(app, setup={"style": 3}).call("run", {"prompt": "sea"})
