"""The llm app in sessions of a real daemon, forked from a process that has the weights."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import warmd
from tests.apps import chat_folder

START_SECONDS = 90
"""For the first session, which waits for torch and transformers to be imported."""
pytestmark = pytest.mark.timeout(START_SECONDS + 30)
ENDLESS = {"prompt": "hello world", "max_new_tokens": 4000}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return chat_folder.make(tmp_path_factory.mktemp("models") / "tiny", positions=4096, endless=True)


@pytest.fixture(scope="module")
def own(model: Path) -> str:
    """An app's folder as the README has it."""
    folder = model.parent / "own"
    folder.mkdir()
    (folder / "app.toml").write_text(f'entry = "warmd.apps.llm:Llm"\n\n[env]\nLLM_MODEL = "{model}"\n')
    return str(folder)


@pytest.fixture(scope="module")
def client(own: str) -> Iterator[warmd.Client]:
    with warmd.local() as client, client.session(own, timeout=START_SECONDS):
        yield client


def test_sessions_share_what_was_prepared(client, own, model):
    with client.session(own) as session:
        assert client.sessions.get(session.id)["origin"] == "fork"
        assert session.call("info", {}).output["prepared"]
    with client.session(own, setup={"model": str(model), "dtype": "bfloat16"}) as session:
        info = session.call("info", {}).output
        assert (info["prepared"], info["dtype"], info["model"]) == (False, "bfloat16", str(model))


def test_text_streams_and_is_the_same_in_each_session(client, own):
    asked = {"prompt": "hello world", "max_new_tokens": 12, "temperature": 1, "seed": 1}
    answers = []
    for _ in range(2):
        with client.session(own) as session:
            *pieces, whole = session.stream("generate", asked)
            assert len(pieces) > 5
            assert "".join(piece["text"] for piece in pieces) == whole["response"]
            answers += [whole["response"], session.run(asked).output["response"]]
    assert len(set(answers)) == 1


def test_a_cancelled_answer_ends_at_once_and_the_session_lives(client, own):
    with client.session(own) as session:
        pid = client.sessions.get(session.id)["pid"]
        with session.stream("generate", ENDLESS) as stream:
            next(stream)
        with pytest.raises(warmd.CallTimeout):
            session.run(ENDLESS, timeout=0.3)
        call = session.submit("run", ENDLESS)
        until_running(call)
        call.cancel()
        begun = time.monotonic()
        with pytest.raises(warmd.CallCancelled):
            call.result(timeout=20)
        assert time.monotonic() - begun < 2
        with pytest.raises(warmd.AppError, match="max_new_tokens is 0, allowed are 1 to 4095"):
            session.run({"prompt": "hello", "max_new_tokens": 0})
        assert session.run({"prompt": "hello", "max_new_tokens": 2}).output["response_tokens"] == 2
        assert client.sessions.get(session.id)["pid"] == pid


def until_running(call):
    end = time.monotonic() + 20
    while call.status().state != "running":
        assert time.monotonic() < end, "the call did not begin within 20 s"
        time.sleep(0.02)
