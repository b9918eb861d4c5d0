"""The llm app in this process, with a tiny model of random weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
import transformers

from tests.apps import chat_folder
from tests.sdk.gpustand import Stand
from warmd import gpu
from warmd.apps.generation import causal
from warmd.apps.llm import Llm, app

CONTEXT = 512
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "how are you?"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return chat_folder.make(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def loaded(folder):
    return opened({"model": str(folder)})


@pytest.fixture
def llm(loaded):
    loaded.park()
    return loaded


def opened(setup):
    made = Llm()
    made.setup(setup)
    return made


def by_transformers(folder, encode, **options):
    """What its own `generate` makes, the likeliest token each time."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    given = torch.tensor([encode(tokenizer)])
    ends = [model.generation_config.eos_token_id, tokenizer.eos_token_id]
    made = model.generate(given, do_sample=False, eos_token_id=ends, pad_token_id=0, **options)
    return tokenizer.decode(made[0, given.shape[1] :], skip_special_tokens=True).rstrip("\ufffd")


# What it says


@pytest.mark.parametrize("options", [{}, {"repetition_penalty": 1.7}])
def test_the_likeliest_tokens_are_those_of_generate(llm, folder, options):
    # Penalties are for all of the prompt: here each letter comes early, and only a few of them late.
    prompt = "".join(map(chr, range(33, 127))) + "hello world, höher 雪 " * 20
    said = llm.run({"prompt": prompt, "max_new_tokens": 30, **options})
    assert said["response"] == by_transformers(
        folder, lambda tokenizer: tokenizer(prompt)["input_ids"], max_new_tokens=30, **options
    )
    said = llm.run({"messages": MESSAGES, "max_new_tokens": 30, **options})
    assert said["response"] == by_transformers(
        folder,
        lambda tokenizer: tokenizer.apply_chat_template(MESSAGES, add_generation_prompt=True)["input_ids"],
        max_new_tokens=30,
        **options,
    )


def test_a_seed_draws_the_same_again_and_another_one_does_not(llm):
    def drawn(seed):
        return llm.complete(prompt="hello", seed=seed, temperature=1.5, max_new_tokens=16)["response"]

    assert drawn(1) == drawn(1) != drawn(2)


def test_pieces_come_first_and_the_whole_last(llm):
    asked = {"action": "generate", "prompt": "hello", "temperature": 2, "seed": 3, "max_new_tokens": 40}
    *pieces, whole = llm.run(asked)
    assert len(pieces) > 5 and all(list(piece) == ["text"] for piece in pieces)
    assert "".join(piece["text"] for piece in pieces) == whole["response"]
    assert (whole["finish"], whole["prompt_tokens"], whole["response_tokens"]) == ("length", 1, 40)
    assert whole["response_tokens_per_second"] > 0 and whole["first_token_seconds"] < whole["seconds"]
    assert json.loads(json.dumps(whole)) == whole


def test_a_stop_string_ends_it(llm):
    asked = {"prompt": "hello", "temperature": 1, "seed": 5, "max_new_tokens": 20}
    free = llm.run(asked)["response"]
    stop = free[len(free) // 2 :][:2]
    stopped = llm.run({**asked, "stop": [stop, "never said"]})
    assert (stopped["response"], stopped["finish"]) == (free[: free.find(stop)], "stop")


def test_what_two_prompts_begin_with_is_read_once(llm):
    long = "hello world" * 20
    first = llm.complete(prompt=long, max_new_tokens=8)
    second = llm.complete(prompt=long + " how are you?", max_new_tokens=8)
    assert first["cached_tokens"] == 0 < first["prompt_tokens"] <= second["cached_tokens"]
    llm.park()
    llm.unpark()
    anew = llm.complete(prompt=long + " how are you?", max_new_tokens=8)
    assert (anew["cached_tokens"], anew["response"]) == (0, second["response"])


def test_a_stream_that_is_left_does_no_harm(llm):
    expected = llm.complete(prompt="how are you?", max_new_tokens=8)["response"]
    stream = llm.generate(prompt="how are you all?", max_new_tokens=100, temperature=1, seed=1)
    next(stream)
    stream.close()
    assert llm.complete(prompt="how are you?", max_new_tokens=8)["response"] == expected


def test_a_model_that_cannot_go_back_reads_each_prompt_anew(tmp_path):
    words = chat_folder.tokenizer()
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "state_size": 8, "initializer_range": 0.4}
    ends = {"bos_token_id": None, "eos_token_id": 0, "pad_token_id": 0}
    config = transformers.MambaConfig(vocab_size=len(words), **sizes, **ends)
    transformers.MambaForCausalLM(config).save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    llm = opened({"model": str(tmp_path)})
    for prompt in ("hello world", "hello world how are you?", "hello"):
        said = llm.complete(prompt=prompt, max_new_tokens=12)
        assert said["cached_tokens"] == 0
        assert said["response"] == by_transformers(
            tmp_path, lambda tokenizer, prompt=prompt: tokenizer(prompt)["input_ids"], max_new_tokens=12
        )


# What it refuses


@pytest.mark.parametrize(
    ("asked", "kind", "text"),
    [
        ({}, ValueError, "give a 'prompt' or 'messages', one of them: neither is there"),
        ({"prompt": "a", "messages": MESSAGES}, ValueError, "one of them: both are there"),
        ({"prompt": ["a"]}, ValueError, "the prompt must be text, not list"),
        ({"prompt": ""}, ValueError, "the prompt has no tokens: give it some text"),
        ({"prompt": "x1" * 256}, ValueError, "has 512 tokens, max_context is 512, the answer included: sho"),
        ({"messages": [{"role": "cat", "content": "miaow"}]}, ValueError, "the role 'cat': allowed are"),
        ({"prompt": "a", "max_tokens": 3}, TypeError, "option 'max_tokens': did you mean 'max_new_tokens'"),
        ({"prompt": "a", "max_new_tokens": 512}, ValueError, "_tokens is 512, allowed are 1 to 511: it must"),
        ({"prompt": "a", "temperature": -1}, ValueError, "temperature is -1, allowed are 0 to 5"),
        ({"prompt": "a", "top_p": 2}, ValueError, "top_p is 2, allowed are 0 to 1"),
        ({"prompt": "a", "top_k": 1.5}, ValueError, "top_k is '1.5', it must be a whole number"),
        ({"prompt": "a", "repetition_penalty": 0}, ValueError, "repetition_penalty is 0, allowed are 0.1 to"),
        ({"prompt": "a", "seed": -1}, ValueError, "seed is -1, allowed are 0 to"),
        ({"prompt": "a", "stop": [""]}, ValueError, "a list of texts, none empty"),
    ],
)
def test_what_cannot_be_is_named(llm, asked, kind, text):
    with pytest.raises(kind, match=text):
        llm.run(asked)


@pytest.mark.parametrize(
    ("setup", "kind", "text"),
    [
        ({}, ValueError, "no model: name a folder .* as 'model' in setup, or in the variable LLM_MODEL"),
        ({"model": "/none/there"}, ValueError, "there is no folder /none/there: a model is a local folder"),
        ({"model": "/"}, ValueError, "/ has no config.json"),
        ({"model": 3}, ValueError, "model is '3', it must be the path of a folder"),
        ({"model": "FOLDER", "device": "tpu"}, ValueError, "the device is 'tpu', allowed are 'auto', 'cpu'"),
        ({"model": "FOLDER", "dtype": "int3"}, ValueError, "dtype is 'int3', allowed are float32, bfloat16"),
        ({"model": "FOLDER", "max_context": 513}, ValueError, "513 tokens, the model was made for 512"),
        ({"model": "FOLDER", "max_context": 1}, ValueError, "max_context is 1, allowed are 2 to"),
        ({"modle": "x"}, TypeError, "setup has no option 'modle': did you mean 'model'"),
    ],
)
def test_settings_are_checked(folder, setup, kind, text):
    if setup.get("model") == "FOLDER":
        setup = {**setup, "model": str(folder)}
    with pytest.raises(kind, match=text):
        opened(setup)


def test_code_in_the_folder_runs_only_where_it_is_trusted(folder, tmp_path, monkeypatch):
    own = shutil.copytree(folder, tmp_path / "own")
    config = json.loads((own / "config.json").read_text())
    config |= {
        "model_type": "own",
        "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"},
    }
    (own / "config.json").write_text(json.dumps(config))
    (own / "own.py").write_text(
        "import transformers\n"
        "class OwnConfig(transformers.LlamaConfig):\n    model_type = 'own'\n"
        "class OwnForCausalLM(transformers.LlamaForCausalLM):\n    config_class = OwnConfig\n"
    )
    for module in (transformers.dynamic_module_utils, transformers.utils.hub):
        monkeypatch.setattr(module, "HF_MODULES_CACHE", str(tmp_path / "modules"), raising=False)
    with pytest.raises(RuntimeError, match=r"own has code of its own, .* variable WARMD_TRUSTED_MODELS of"):
        opened({"model": str(own)})
    monkeypatch.setenv("WARMD_TRUSTED_MODELS", str(tmp_path))
    assert opened({"model": str(own)}).info()["architecture"] == "OwnForCausalLM"


# What is told, and by whom the defaults are set


def test_tokens_are_counted_with_what_belongs_to_them(llm):
    assert llm.tokens(prompt="hello world") == {"tokens": 2, "max_context": CONTEXT}
    counted = llm.run({"action": "tokens", "messages": MESSAGES})["tokens"]
    assert counted == llm.complete(messages=MESSAGES, max_new_tokens=1)["prompt_tokens"]


def test_the_readme_has_all_functions(llm):
    text = Path(app.__file__).with_name("README.md").read_text()
    functions = llm.run({"action": "init"})["actions"]
    assert "init" in functions
    assert not [name for name in functions if f"| `{name}` |" not in text]


def test_info_names_what_runs(llm, folder):
    info = llm.info()
    parameters = sum(one.numel() for one in llm._model.model.parameters())
    assert {name: info[name] for name in ("model", "dtype", "parameters", "prepared")} == {
        "model": str(folder),
        "dtype": "float32",
        "parameters": parameters,
        "prepared": False,
    }
    assert 4 * parameters <= info["bytes"] < 5 * parameters
    assert info["device"] == "cuda" if torch.cuda.is_available() else "cpu"


def test_a_dtype_and_a_context_can_be_had(folder):
    llm = opened({"model": str(folder), "dtype": "bfloat16", "max_context": 8})
    assert (llm.info()["dtype"], llm.info()["max_context"]) == ("bfloat16", 8)
    said = llm.complete(prompt="hello world", max_new_tokens=7, temperature=1, seed=1)
    assert said["prompt_tokens"] + said["response_tokens"] == 8


def test_defaults_are_those_of_the_folder(folder, tmp_path):
    own = shutil.copytree(folder, tmp_path / "own")
    said = {"do_sample": True, "temperature": 1.5, "top_k": 7, "max_new_tokens": 3}
    (own / "generation_config.json").write_text(json.dumps(said))
    llm = opened({"model": str(own)})
    assert llm.info()["defaults"] == {
        "max_new_tokens": 3,
        "temperature": 1.5,
        "top_p": 1.0,
        "top_k": 7,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
    }
    assert llm.complete(prompt="hello")["response_tokens"] <= 3
    assert len({llm.complete(prompt="hello", seed=seed)["response"] for seed in range(9)}) > 1


# Weights that are there before a session, and those on a GPU


@pytest.fixture
def prepared(folder, monkeypatch):
    """The class as a process that sessions are forked from has it."""
    monkeypatch.setenv("LLM_MODEL", str(folder))
    monkeypatch.setattr(Llm, "_prepared", None)
    Llm.prepare()
    return Llm._prepared


def test_what_was_prepared_is_not_loaded_again(folder, prepared, monkeypatch):
    def load(*_):
        raise AssertionError("loaded again")

    monkeypatch.setattr(app, "load", load)
    for setup in (None, {}, {"model": str(folder / ".." / folder.name)}, {"dtype": "float32"}):
        llm = opened(setup)
        assert llm._model.model is prepared.model and llm.info()["prepared"]
    assert llm.complete(prompt="hello", max_new_tokens=2)["response_tokens"] == 2


def test_another_dtype_or_model_is_loaded(folder, prepared, tmp_path):
    other = shutil.copytree(folder, tmp_path / "other")
    for setup in ({"dtype": "bfloat16"}, {"model": str(other)}):
        llm = opened(setup)
        assert llm._model.model is not prepared.model and not llm.info()["prepared"]
    assert prepared.model.dtype == torch.float32


def test_without_a_model_nothing_is_prepared(monkeypatch):
    monkeypatch.delenv("LLM_MODEL", raising=False)
    monkeypatch.setattr(Llm, "_prepared", None)
    Llm.prepare()
    assert Llm._prepared is None


def test_the_dtype_of_what_is_prepared_can_be_chosen(prepared, monkeypatch):
    monkeypatch.setenv("LLM_DTYPE", "bfloat16")
    Llm.prepare()
    assert (prepared.model.dtype, Llm._prepared.model.dtype) == (torch.float32, torch.bfloat16)
    assert opened({}).info()["dtype"] == "bfloat16"


def test_nothing_is_offloaded_from_a_cpu(folder, monkeypatch):
    offloaded = []
    monkeypatch.setattr(gpu, "offload", offloaded.append)
    opened({"model": str(folder), "device": "cpu"})
    assert offloaded == []


def test_what_is_prepared_needs_its_files_no_more(prepared):
    """What transformers loads is mapped, and such memory cannot be resized."""
    assert all(one.untyped_storage().resizable() for one in prepared.model.parameters())


@pytest.mark.usefixtures("prepared")
def test_a_parked_session_leaves_nothing_behind_and_answers_as_before(monkeypatch):
    """Host memory stands in for the GPU's."""
    stand, handles = Stand(), []
    monkeypatch.setattr(causal.CausalModel, "is_on_gpu", True)
    monkeypatch.setattr(gpu, "offload", lambda model: handles.append(gpu.Offload([model], cuda=stand)))
    llm = opened({"device": "cpu"})
    weights = llm._model.model
    asked = {"prompt": "hello world", "max_new_tokens": 12, "temperature": 1, "seed": 7}
    before = llm.complete(**asked)
    for _ in range(2):
        llm.park()
        handles[0].park()
        assert sum(one.untyped_storage().nbytes() for one in weights.parameters()) == 0
        assert llm._model._cache.tokens == []
        handles[0].unpark()
        llm.unpark()
        again = llm.complete(**asked)
        assert (again["response"], again["cached_tokens"]) == (before["response"], 0)
    assert handles[0].bytes >= llm.info()["bytes"]
    llm.unload()


def test_where_memory_runs_out_the_call_says_so_and_the_next_one_works(llm, monkeypatch):
    expected = llm.complete(prompt="hello world", max_new_tokens=4)["response"]

    def short(*_, **__):
        raise torch.OutOfMemoryError("tried to allocate 3 GiB")

    with monkeypatch.context() as patch:
        patch.setattr(type(llm._model.model), "forward", short)
        with pytest.raises(RuntimeError, match="ran out of memory after 2 tokens: ask for fewer") as raised:
            llm.complete(prompt="hello world, how are you?")
    assert isinstance(raised.value.__cause__, torch.OutOfMemoryError)
    assert llm._model._cache.tokens == []
    assert llm.complete(prompt="hello world", max_new_tokens=4)["response"] == expected
