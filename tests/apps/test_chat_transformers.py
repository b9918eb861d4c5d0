"""The chat app on transformers, with a tiny model of random weights."""

from __future__ import annotations

import signal

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
import transformers

from tests.apps import chat_folder
from warmd.app import context
from warmd.apps.chat import Chat
from warmd.apps.generation.options import Options

CONTEXT = 512
GREEDY = {"temperature": 0, "max_tokens": 24}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return chat_folder.make(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def loaded(folder):
    chat = Chat()
    chat.setup({"model": str(folder)})
    yield chat
    chat.unload()


@pytest.fixture
def chat(loaded):
    loaded.init(system="")
    loaded._engine.forget()
    return loaded


def reference(folder, messages, count):
    """What transformers' own `generate` answers, the likeliest token each time."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    given = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    made = model.generate(
        **given, do_sample=False, max_new_tokens=count, eos_token_id=tokenizer.eos_token_id, pad_token_id=0
    )
    return tokenizer.decode(made[0, given["input_ids"].shape[1] :], skip_special_tokens=True)


def test_the_likeliest_tokens_are_those_of_generate(chat, folder):
    said = []
    for message in ("hello world", "how are you?", "höher 雪 " * 40):
        said.append({"role": "user", "content": message})
        whole = chat.run({"message": message, **GREEDY})
        assert whole["response"] == reference(folder, said, 24).rstrip("\ufffd")
        said.append({"role": "assistant", "content": whole["response"]})
    assert whole["turns"] == 3


def test_the_next_turn_reads_only_what_is_new(chat):
    first = chat.run({"message": "hello " * 60, **GREEDY})
    second = chat.run({"message": "how are you?", **GREEDY})
    assert first["cached_tokens"] == 0
    assert second["cached_tokens"] >= first["prompt_tokens"]
    assert second["prompt_tokens_per_second"] > 0 < second["response_tokens_per_second"]
    warm = second["response"]
    chat.undo()
    chat._engine.forget()
    again = chat.run({"message": "how are you?", **GREEDY})
    assert (again["cached_tokens"], again["response"]) == (0, warm)


def test_another_conversation_keeps_what_both_begin_with(chat):
    messages = [{"role": "system", "content": "hello " * 30}, {"role": "user", "content": "one"}]
    first = chat.complete(messages=messages, **GREEDY)
    messages[-1] = {"role": "user", "content": "two"}
    second = chat.complete(messages=messages, **GREEDY)
    assert first["cached_tokens"] == 0 < second["cached_tokens"] < second["prompt_tokens"]
    chat._engine.forget()
    assert chat.complete(messages=messages, **GREEDY)["response"] == second["response"]


def test_reading_a_long_prompt_tells_how_far_it_is(chat, monkeypatch):
    told = []
    monkeypatch.setattr(context, "progress", told.append)
    whole = chat.run({"message": "x1" * 150, "max_tokens": 1})
    assert [progress["read_tokens"] for progress in told] == [0, 256, whole["prompt_tokens"]]
    assert {progress["prompt_tokens"] for progress in told} == {whole["prompt_tokens"]}
    chat.run({"message": "hello", "max_tokens": 1})
    assert len(told) == 3, "what is read at once need not be told"


def test_a_seed_draws_the_same_again_and_another_one_does_not(chat):
    def answer(seed):
        chat.init(system="")
        return chat.message(message="hello", seed=seed, temperature=1.5, top_p=1, max_tokens=16)["response"]

    assert answer(1) == answer(1) != answer(2)


def test_pieces_make_up_the_answer_and_no_character_is_cut(chat):
    drawn = {"temperature": 2, "top_p": 1, "top_k": 0, "min_p": 0, "seed": 3, "max_tokens": 200}
    *pieces, whole = chat.generate(message="hello", **drawn)
    texts = [piece["text"] for piece in pieces]
    assert len(texts) > 20 and "".join(texts) == whole["response"]
    assert whole["finish"] in ("stop", "length") and whole["response_tokens"] <= 200


def test_a_stop_string_that_spans_tokens_ends_the_answer(chat):
    drawn = {"temperature": 1, "seed": 5, "max_tokens": 40}
    *pieces, free = chat.generate(message="hello", **drawn)
    middle = len(pieces) // 2
    stop = pieces[middle]["text"][-1] + pieces[middle + 1]["text"] + pieces[middle + 2]["text"][0]
    chat.init(system="")
    for stops in (stop, ["never said", stop]):
        chat.init(system="")
        *pieces, whole = chat.generate(message="hello", stop=stops, **drawn)
        assert whole["response"] == free["response"][: free["response"].find(stop)]
        assert whole["response"] == "".join(piece["text"] for piece in pieces)
        assert whole["finish"] == "stop"
        assert whole["response_tokens"] < free["response_tokens"]


def _endless(chat):
    while True:
        chat.run({"message": "hello", "max_tokens": 400})


class Interrupt(BaseException):
    pass


@pytest.mark.parametrize("passes", [0, 1, 7])
@pytest.mark.parametrize("layer", [0, 1])
def test_an_interrupt_amid_a_forward_pass_leaves_the_cache_sound(chat, monkeypatch, passes, layer):
    """Some layers have then seen the token, others not."""
    long = "hello " * 200
    expected = chat.run({"message": long, **GREEDY})["response"]
    chat.init(system="")
    chat._engine.forget()
    attention = type(chat._engine._model.model.model.layers[layer].self_attn)
    forward, left = attention.forward, [passes]

    def interrupted(self, *args, **kwargs):
        done = forward(self, *args, **kwargs)
        if self.layer_idx == layer:
            left[0] -= 1
            if left[0] < 0:
                raise Interrupt
        return done

    monkeypatch.setattr(attention, "forward", interrupted)
    with pytest.raises(Interrupt):
        chat.run({"message": long, **GREEDY})
    monkeypatch.undo()
    assert chat.history()["messages"] == []
    again = chat.run({"message": long, **GREEDY})
    assert again["response"] == expected
    assert (again["cached_tokens"] > 0) == (passes > 0)


def test_a_signal_handler_can_interrupt_anywhere(chat):
    def interrupt(*_):
        raise Interrupt

    expected = chat.run({"message": "hello", **GREEDY})["response"]
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for milliseconds in range(1, 20, 2):
            chat.init(system="")
            signal.setitimer(signal.ITIMER_REAL, milliseconds / 1000)
            with pytest.raises(Interrupt):
                _endless(chat)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    chat.init(system="")
    assert chat.run({"message": "hello", **GREEDY})["response"] == expected


def test_the_context_is_the_limit(chat):
    long = "hello world " * 20
    answers = [chat.run({"message": long, "max_tokens": 2}) for _ in range(12)]
    assert answers[-1]["forgotten_turns"] > 0
    assert all(answer["prompt_tokens"] <= CONTEXT - 2 for answer in answers)
    with pytest.raises(ValueError, match=r"the message is too long: it has \d+ tokens .* the context 512"):
        chat.run({"message": "x1" * CONTEXT})
    assert chat.info()["turns"] == answers[-1]["turns"], "a message that is refused makes nothing forgotten"
    chat.init(system="", window="refuse")
    with pytest.raises(ValueError, match="the context 512: begin a new one with 'init'"):
        _endless(chat)


def test_an_answer_ends_where_the_context_does(chat):
    whole = chat.run({"message": "x1" * 240, "max_tokens": 400, "temperature": 0})
    assert whole["finish"] == "length"
    assert whole["prompt_tokens"] + whole["response_tokens"] == CONTEXT == whole["context_used"]


def test_info_names_what_runs(chat):
    info = chat.info()
    assert (info["engine"], info["device"], info["dtype"], info["context"]) == (
        "transformers",
        "cuda:0" if torch.cuda.is_available() else "cpu",
        "float32",
        CONTEXT,
    )


@pytest.mark.parametrize(
    ("settings", "kind", "text"),
    [
        ({"dtype": "int3"}, ValueError, "dtype is 'int3', allowed are float32, bfloat16, float16, auto"),
        ({"device": "abacus"}, ValueError, "the device is 'abacus', allowed are 'auto', 'cpu'"),
        ({"context": CONTEXT + 1}, ValueError, "is to be 513 tokens, the model was made for 512 at most"),
    ],
)
def test_settings_are_checked(folder, settings, kind, text):
    with pytest.raises(kind, match=text):
        Chat().setup({"model": str(folder), **settings})


def test_a_folder_that_is_no_model_is_named(tmp_path):
    with pytest.raises(RuntimeError, match=f"transformers cannot load {tmp_path}"):
        Chat().setup({"model": str(tmp_path)})


def test_a_model_without_a_chat_template_is_refused(tmp_path):
    with pytest.raises(RuntimeError, match="has no chat template: it is no model for a chat"):
        Chat().setup({"model": str(chat_folder.make(tmp_path, template=None))})


def test_messages_that_the_template_refuses_are_named(tmp_path):
    chat = Chat()
    chat.setup({"model": str(chat_folder.make(tmp_path, template="{{ raise_exception('only haiku') }}"))})
    with pytest.raises(RuntimeError, match="chat template refuses these messages: only haiku"):
        chat.run({"message": "hello"})


def test_half_precision_answers_too(folder):
    chat = Chat()
    chat.setup({"model": str(folder), "dtype": "bfloat16", "context": 128})
    assert chat.info()["dtype"] == "bfloat16"
    assert chat.run({"message": "hello", **GREEDY})["response"]


# sampling


def draws(logits, **options):
    from warmd.apps.generation.sampling import Sampler

    sampler = Sampler(Options(max_tokens=1, seed=0, **{"temperature": 1.0, "top_p": 1.0, **options}), [0])
    values = torch.tensor(logits)
    drawn = []
    for _ in range(200):
        sampler._recent.clear()
        sampler._recent.append(0)
        drawn.append(sampler.draw(values))
    return set(drawn)


@pytest.mark.parametrize(
    ("options", "drawn"),
    [
        ({"min_p": 0.0}, {0, 1, 2, 3}),
        ({"top_k": 2}, {0, 1}),
        ({"top_k": 1}, {0}),
        ({"top_k": 0, "top_p": 0.6}, {0, 1}),
        ({"top_p": 0.0}, {0}),
        ({"min_p": 0.4}, {0, 1, 2}),
        ({"temperature": 0.01}, {0}),
        ({"temperature": 0.0, "presence_penalty": 2.0}, {1}),
        ({"temperature": 0.0, "frequency_penalty": 2.0}, {1}),
        ({"temperature": 0.0, "repeat_penalty": 2.0}, {1}),
    ],
)
def test_what_can_be_drawn(options, drawn):
    chances = [0.4, 0.3, 0.2, 0.1]
    assert draws([4 + torch.tensor(chance).log().item() for chance in chances], **options) == drawn
