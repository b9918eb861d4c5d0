"""The predict app as a plain object: loading, replacing, asking in parts."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

pytest.importorskip("sklearn")
pytest.importorskip("joblib")
pytest.importorskip("onnxruntime")
pytest.importorskip("skl2onnx")

import numpy as np

from tests.apps import made_models
from warmd.app import Interrupted, context
from warmd.apps.predict import Predict
from warmd.apps.predict.batches import joined, length, part


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    made_models.language_onnx(folder / "large-model-v2.onnx")
    model, _ = made_models.iris_classifier()
    made_models.save_pickled(model, folder / "flowers.joblib")
    return folder


@pytest.fixture
def app(folder):
    app = Predict()
    app.setup({"models": str(folder)})
    return app


def test_a_model_is_loaded_by_name_and_asked(app):
    loaded = app.run({"action": "load_model", "model": "large-model-v2"})
    assert (loaded["model"], loaded["kind"], loaded["replaced"]) == ("large-model-v2", "onnx", None)
    assert app.run({"action": "predict", "data": "der hund ist im haus"}) == {"predictions": ["de"]}
    many = {"action": "predict", "data": ["the house", "la casa"]}
    assert app.run(many) == {"predictions": ["en", "es"]}


def test_another_model_replaces_the_one_before(app):
    app.load_model("large-model-v2")
    assert app.load_model("flowers", trusted=True)["replaced"] == "large-model-v2"
    assert app.info()["model"] == "flowers" and app.info()["kind"] == "sklearn"
    assert app.unload_model() == {"unloaded": "flowers"}
    assert app.info()["model"] is None
    assert app.unload_model() == {"unloaded": None}


def test_a_model_that_cannot_be_loaded_leaves_the_one_before(app, tmp_path):
    app.load_model("large-model-v2")
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"no model")
    with pytest.raises(RuntimeError, match=r"bad\.onnx cannot be loaded as ONNX"):
        app.load_model(str(bad))
    assert app.info()["model"] == "large-model-v2"
    assert app.predict("the house")["predictions"] == ["en"]


def test_without_a_model_the_remedy_is_named(app):
    with pytest.raises(RuntimeError, match="no model is loaded: begin with the action 'load_model'"):
        app.run({"action": "predict", "data": [1]})


class Malicious:
    """Leaves a trace where it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def test_pickled_files_are_not_opened_unless_trusted(app, tmp_path):
    trace = tmp_path / "ran"
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(Malicious(trace)))
    with pytest.raises(PermissionError, match="is pickled, which can run any code"):
        app.load_model(str(path))
    with pytest.raises(PermissionError):
        app.load_model(str(path), kind="torchscript")
    with pytest.raises(RuntimeError, match="cannot be loaded as ONNX"):
        app.load_model(str(path), kind="onnx")
    assert not trace.exists()
    with pytest.raises(ValueError, match="holds a NoneType, which has neither predict"):
        app.load_model(str(path), trusted=True)
    assert trace.exists()


def test_setup_can_trust_and_load(folder):
    app = Predict()
    app.setup({"models": [str(folder)], "model": "flowers", "trusted": True, "threads": 1})
    assert app.predict([5.1, 3.5, 1.4, 0.2])["predictions"] == [0]
    assert app.info()["threads"] == 1
    assert app.info()["models"] == ["flowers.joblib", "large-model-v2.onnx"]


def test_folders_may_be_named_in_the_environment(folder, monkeypatch):
    monkeypatch.setenv("WARMD_MODELS", str(folder))
    monkeypatch.setenv("WARMD_TRUSTED_MODELS", str(folder))
    app = Predict()
    app.setup()
    assert app.load_model("flowers")["class"] == "Pipeline"


@pytest.mark.parametrize(
    ("config", "kind", "text"),
    [
        ({"modles": "x"}, TypeError, "setup has no option 'modles': did you mean 'models'"),
        ({"threads": 0}, ValueError, "threads is 0"),
        ({"models": "/none/such"}, FileNotFoundError, "there is no folder /none/such to look for models in"),
        ({"model": "x"}, FileNotFoundError, "there is no model 'x', and no folder to look in"),
    ],
)
def test_setup_refuses(config, kind, text):
    with pytest.raises(kind, match=text):
        Predict().setup(config)


@pytest.mark.parametrize(
    ("input", "kind", "text"),
    [
        ({"action": "load"}, ValueError, "unknown action 'load': there are info, init, load_model"),
        ({"action": "load_model"}, TypeError, "required argument: 'model'"),
        ({"action": "load_model", "model": "flowers", "kind": "h5"}, ValueError, "kind is 'h5', allowed are"),
        ({"action": "predict", "data": "x", "what": "labels"}, ValueError, "what is 'labels', allowed are"),
        ({"action": "predict", "data": ["x"], "batch_size": 0}, ValueError, "batch_size is 0"),
    ],
)
def test_refusals(app, input, kind, text):
    app.load_model("large-model-v2")
    with pytest.raises(kind, match=text):
        app.run(input)


def test_data_may_go_in_in_parts(app, monkeypatch):
    told = []
    monkeypatch.setattr("warmd.apps.predict.app._TELL_SECONDS", -1)
    monkeypatch.setattr(context, "progress", told.append)
    model, flowers = made_models.iris_classifier()
    app.load_model("flowers", trusted=True)
    parted = app.predict(flowers, what="probabilities", batch_size=64)
    np.testing.assert_array_equal(parted["predictions"], model.predict(flowers))
    np.testing.assert_allclose(parted["probabilities"], model.predict_proba(flowers))
    assert parted["classes"] == [0, 1, 2]
    assert told == [{"done": 64, "total": 150}, {"done": 128, "total": 150}]


def test_a_cancel_ends_between_parts(app, monkeypatch):
    class Cancelled:
        cancelled = True

    app.load_model("large-model-v2")
    monkeypatch.setattr(context, "_runtime", Cancelled())
    with pytest.raises(Interrupted, match="cancelled after 0 of 3 samples"):
        app.predict(["a", "b", "c"], batch_size=2)


@pytest.mark.parametrize(
    ("data", "count"),
    [
        ("text", None),
        (3, None),
        ([1, 2, 3], None),
        (np.zeros(3), None),
        ([], None),
        (["a", "b"], 2),
        ([[1], [2]], 2),
        (np.zeros((5, 2)), 5),
        ({"a": [1, 2], "b": np.zeros(2)}, 2),
        ({"a": [1, 2], "b": [1]}, None),
        ({"a": 1}, None),
    ],
)
def test_what_has_several_samples(data, count):
    assert length(data) == count
    if count is not None:
        assert length(part(data, 0, 1)) == 1


def test_answers_are_joined():
    first = {"predictions": np.arange(2), "classes": [1, 2], "outputs": {"a": [1], "b": np.zeros((1, 2))}}
    whole = joined([first, first])
    assert whole["predictions"].tolist() == [0, 1, 0, 1]
    assert whole["classes"] == [1, 2]
    assert whole["outputs"]["a"] == [1, 1] and whole["outputs"]["b"].shape == (2, 2)
