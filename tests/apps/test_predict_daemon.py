"""The predict app in sessions of a real daemon: forked, warm, interrupted; the flow of the reference."""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("sklearn")
pytest.importorskip("joblib")
pytest.importorskip("onnxruntime")
pytest.importorskip("skl2onnx")

import numpy as np

import warmd
from tests.apps import made_models

APP = "ml-inference"
START_SECONDS = 50
"""For the first session, which waits for the engines to be imported."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    made_models.language_onnx(folder / "large-model-v2.onnx")
    made_models.iris_onnx(folder / "flowers.onnx")
    model, _ = made_models.iris_classifier()
    made_models.save_pickled(model, folder / "flowers.joblib")
    return folder


@pytest.fixture(scope="module")
def client() -> Iterator[warmd.Client]:
    with warmd.local(cancel_grace=30) as client, client.session(APP, timeout=START_SECONDS):
        yield client


def test_the_flow_of_the_reference(client, folder):
    result = client.run(
        {
            "app": APP,
            "input": {"action": "load_model", "model": "large-model-v2"},
            "session": "new",
            "session_timeout": 600,
            "setup": {"models": str(folder)},
        }
    )
    session = result.session_id
    for item, language in [("the dog is in the house", "en"), ("el perro duerme", "es")]:
        result = client.run(
            {"app": APP, "input": {"action": "predict", "data": item}, "session": session}
        )
        assert result.output == {"predictions": [language]}
    client.sessions.end(session)


@pytest.mark.parametrize("model", ["flowers.onnx", "flowers.joblib"])
def test_arrays_come_back_as_arrays_of_a_forked_session(client, folder, model):
    with client.session(APP, setup={"models": str(folder), "trusted": True}) as session:
        assert client.sessions.get(session.id)["origin"] == "fork"
        session.run({"action": "load_model", "model": model})
        flowers = made_models.iris_classifier()[1].astype(np.float32)
        answer = session.call("predict", {"data": flowers, "what": "probabilities"}).output
        probabilities = answer["probabilities"]
        assert isinstance(probabilities, np.ndarray) and probabilities.shape == (150, 3)
        assert probabilities.dtype == (np.float32 if model.endswith("onnx") else np.float64)
        assert session.call("predict", flowers).output["predictions"].dtype == np.int64


def test_an_untrusted_model_is_refused_and_the_session_lives(client, folder):
    with client.session(APP, setup={"models": str(folder)}) as session:
        with pytest.raises(warmd.AppError, match="is pickled, which can run any code") as caught:
            session.run({"action": "load_model", "model": "flowers.joblib"})
        assert caught.value.type == "PermissionError"
        assert session.run({"action": "load_model", "model": "flowers.onnx"}).output["replaced"] is None


def test_a_late_call_leaves_the_session_and_its_model(client, folder):
    rows = np.zeros((10_000, 4), np.float32)
    with client.session(APP, setup={"models": str(folder), "trusted": True}) as session:
        session.run({"action": "load_model", "model": "flowers.joblib"})
        pid = client.sessions.get(session.id)["pid"]
        with pytest.raises(warmd.CallTimeout):
            session.call("predict", {"data": rows, "batch_size": 1}, timeout=0.4)
        assert session.call("predict", [5.1, 3.5, 1.4, 0.2]).output["predictions"] == [0]
        assert client.sessions.get(session.id)["pid"] == pid


def test_a_cancel_waits_for_c_code_and_leaves_the_session(client, tmp_path):
    """Without an `on_cancel` the session would be killed after a second.  C code that takes a few, wherever
    it runs."""
    from sklearn.preprocessing import FunctionTransformer

    rounds = FunctionTransformer(functools.partial(hashlib.pbkdf2_hmac, "sha256", b"word", b"salt"))
    path = made_models.save_pickled(rounds, tmp_path / "rounds.pkl")
    with client.session(APP, setup={"model": str(path), "trusted": True}) as session:
        pid = client.sessions.get(session.id)["pid"]
        call = session.submit("predict", {"data": rounds_in(4.0)})
        until(lambda: call.status().state == "running")
        call.cancel()
        with pytest.raises(warmd.CallCancelled):
            call.result(timeout=40)
        assert len(session.call("predict", {"data": 1}).output["predictions"]) == 32
        assert client.sessions.get(session.id)["pid"] == pid


def rounds_in(seconds: float) -> int:
    began = time.monotonic()
    hashlib.pbkdf2_hmac("sha256", b"word", b"salt", 100_000)
    return int(100_000 * seconds / (time.monotonic() - began))


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it did not come to that within 20 s"
        time.sleep(0.01)
