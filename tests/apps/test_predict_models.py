"""Each kind of model through the predict app, beside its own engine."""

from __future__ import annotations

import importlib.util
import json
import sys

import pytest

pytest.importorskip("sklearn")
pytest.importorskip("joblib")
pytest.importorskip("onnxruntime")
pytest.importorskip("skl2onnx")

import numpy as np

from tests.apps import made_models
from warmd.apps.predict import Predict

FLOWER = [5.1, 3.5, 1.4, 0.2]


def loaded(path, **options):
    app = Predict()
    app.setup({"model": str(path), "trusted": True, **options})
    return app


# scikit-learn


@pytest.fixture(scope="module")
def flowers():
    return made_models.iris_classifier()


@pytest.fixture(scope="module")
def iris(flowers, tmp_path_factory):
    return loaded(made_models.save_pickled(flowers[0], tmp_path_factory.mktemp("iris") / "iris.joblib"))


def test_arrays_go_in_and_come_out(iris, flowers):
    model, data = flowers
    answer = iris.predict(data)
    assert list(answer) == ["predictions"]
    assert answer["predictions"].dtype == np.int64
    np.testing.assert_array_equal(answer["predictions"], model.predict(data))
    outputs = iris.predict(data, what="outputs")["outputs"]
    assert sorted(outputs) == ["decision_function", "predict", "predict_proba"]


def test_one_sample_is_answered_as_many_are(iris):
    for one in (FLOWER, [FLOWER], np.array(FLOWER), tuple(FLOWER)):
        assert list(iris.predict(one)["predictions"]) == [0]


def test_probabilities_come_with_their_classes(iris, flowers):
    answer = iris.predict(flowers[1], what="probabilities")
    np.testing.assert_array_equal(answer["probabilities"], flowers[0].predict_proba(flowers[1]))
    assert answer["classes"] == [0, 1, 2] and answer["probabilities"].shape == (150, 3)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ([1, 2, 3], "the model takes 4 features a sample, got rows of 3"),
        (np.zeros((2, 5)), "the model takes 4 features a sample, got rows of 5"),
        (np.zeros((2, 2, 2)), r"takes 4 features a sample, got the shape \(2, 2, 2\)"),
        ("text", "the model takes 4 features a sample, got a text"),
        ([[1, 2, 3, 4], [1, 2, 3]], r"data\[1\] has 3 values, data\[0\] has 4"),
        ({"a": [1]}, "the model knows its 4 features by no names: give rows"),
    ],
)
def test_data_that_do_not_fit_are_named(iris, data, text):
    with pytest.raises(ValueError, match=text):
        iris.predict(data)


def test_what_is_no_data_is_refused(iris):
    with pytest.raises(TypeError, match="data must be numbers, texts, rows or columns, not set"):
        iris.predict({1, 2})


def test_what_was_loaded_is_told(iris):
    info = iris.info()
    assert (info["class"], info["features"], info["classes"]) == ("Pipeline", 4, [0, 1, 2])


@pytest.fixture
def named(flowers, tmp_path):
    """A model that knows its features by names, as one that was fitted to a data frame does."""
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=1000).fit(flowers[1], load_iris().target)
    model.feature_names_in_ = np.array(["a", "b", "c", "d"], dtype=object)
    return loaded(made_models.save_pickled(model, tmp_path / "named.pkl")), model


def test_columns_may_come_in_any_order(named, flowers):
    app, _ = named
    data = flowers[1]
    expected = app.predict(data)["predictions"].tolist()
    columns = {name: data[:, at] for at, name in enumerate("abcd")}
    assert app.predict(dict(reversed(columns.items())))["predictions"].tolist() == expected
    rows = [dict(zip("abcd", map(float, row), strict=True)) for row in data]
    assert app.predict(rows)["predictions"] == expected
    assert app.predict(rows[0])["predictions"] == expected[:1]
    if importlib.util.find_spec("pyarrow"):
        import pyarrow

        assert app.predict(pyarrow.table(columns))["predictions"].tolist() == expected


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"a": 1, "b": 2, "c": 3}, "the data lack 'd': the model takes a, b, c, d"),
        ({"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}, "have, and the model does not know, 'e'"),
        ({"a": [1, 2], "b": [2], "c": [3], "d": [4]}, "the columns have different lengths: {'a': 2"),
        ([{"a": 1}, {"b": 1}], r"data\[1\] has not the same keys as data\[0\] \(a\)"),
    ],
)
def test_columns_that_do_not_fit_are_named(named, data, text):
    with pytest.raises(ValueError, match=text):
        named[0].predict(data)


def test_texts_go_into_a_pipeline_of_texts(tmp_path):
    model = made_models.language_classifier()
    app = loaded(made_models.save_pickled(model, tmp_path / "languages.joblib"))
    assert app.predict("der hund ist im haus") == {"predictions": ["de"]}
    assert app.predict(np.array(["the house", "la casa"])) == {"predictions": ["en", "es"]}
    assert app.predict(["the house"], what="probabilities")["classes"] == ["de", "en", "es"]


def test_what_only_transforms_does_so(flowers, tmp_path):
    from sklearn.decomposition import PCA

    model = PCA(2).fit(flowers[1])
    app = loaded(made_models.save_pickled(model, tmp_path / "pca.joblib"))
    np.testing.assert_array_equal(app.predict(flowers[1])["predictions"], model.transform(flowers[1]))
    with pytest.raises(ValueError, match=r"a PCA has no predict_proba\(\): ask for 'predictions'"):
        app.predict(flowers[1], what="probabilities")


def test_a_model_of_one_feature_takes_a_flat_list(tmp_path):
    from sklearn.linear_model import LinearRegression

    model = LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0])
    app = loaded(made_models.save_pickled(model, tmp_path / "line.pkl"))
    np.testing.assert_allclose(app.predict([1, 2, 3])["predictions"], [2, 4, 6])
    np.testing.assert_allclose(app.predict(5)["predictions"], [10])


def test_a_model_of_another_version_is_told(flowers, tmp_path, caplog, monkeypatch):
    from sklearn import base

    monkeypatch.setattr(base, "__version__", "0.0")
    path = made_models.save_pickled(flowers[0], tmp_path / "old.joblib")
    monkeypatch.undo()
    assert loaded(path).predict(FLOWER)["predictions"] == [0]
    assert "InconsistentVersionWarning: Trying to unpickle estimator" in caplog.text


@pytest.mark.parametrize("content", [b"\x80\x04broken", b"nothing at all", b"\x80\x04cno_such_module\nX\n."])
def test_a_pickle_that_is_broken_is_named(tmp_path, content):
    path = tmp_path / "broken.pkl"
    path.write_bytes(content)
    with pytest.raises(RuntimeError, match=r"broken\.pkl cannot be loaded: "):
        loaded(path)


# ONNX


@pytest.mark.parametrize("zipmap", [True, False])
def test_onnx_agrees_with_what_it_was_made_from(flowers, tmp_path, zipmap):
    model, data = flowers
    app = loaded(made_models.iris_onnx(tmp_path / "iris.onnx", zipmap=zipmap), trusted=False)
    answer = app.predict(data, what="probabilities")
    np.testing.assert_array_equal(answer["predictions"], model.predict(data))
    np.testing.assert_allclose(answer["probabilities"], model.predict_proba(data), atol=1e-5)
    assert answer["probabilities"].dtype == np.float32
    assert answer["classes"] == ([0, 1, 2] if zipmap else None)
    assert app.predict({"flowers": FLOWER})["predictions"] == [0]
    assert len(app.predict(data, what="outputs")["outputs"]) == 2
    assert app.info()["inputs"] == {"flowers": {"type": "tensor(float)", "shape": [None, 4]}}


def test_onnx_takes_texts(tmp_path):
    app = loaded(made_models.language_onnx(tmp_path / "languages.onnx"))
    assert app.predict("der hund ist im haus") == {"predictions": ["de"]}
    assert app.predict(["the house", "la casa"]) == {"predictions": ["en", "es"]}
    assert app.predict("the house", what="probabilities")["classes"] == ["de", "en", "es"]


@pytest.fixture
def two(tmp_path):
    return loaded(made_models.two_inputs_onnx(tmp_path / "two.onnx"))


def test_onnx_inputs_go_by_name(two):
    given = {"a": [[1, 2], [3, 4]], "b": np.array([[10, 20], [30, 40]])}
    assert two.predict(given)["predictions"].tolist() == [[11, 22], [33, 44]]
    outputs = two.predict(given, what="outputs")["outputs"]
    assert list(outputs) == ["sum", "product"] and outputs["product"].tolist() == [[10, 40], [90, 160]]
    assert two.predict(given, batch_size=1)["predictions"].tolist() == [[11, 22], [33, 44]]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ([[1, 2]], "the model has the inputs a, b: give a dict of them"),
        ({"a": [1, 2]}, "the data lack 'b': the inputs are a, b"),
        ({"a": [1, 2], "b": [1, 2], "c": 1}, "have, and the model does not know, 'c'"),
        ({"a": [1, 2, 3], "b": [1, 2]}, r"the input 'a' takes the shape \(any, 2\), got \(1, 3\)"),
        ({"a": np.zeros((1, 1, 2), int), "b": [1, 2]}, r"'a' takes the shape \(any, 2\), got \(1, 1, 2\)"),
        ({"a": [1.5, 2], "b": [1, 2]}, "the input 'a' takes int64, got float64"),
    ],
)
def test_onnx_names_what_does_not_fit(two, data, text):
    with pytest.raises(ValueError, match=text):
        two.predict(data)


def test_onnx_without_probabilities_says_so(two):
    given = {"a": [1, 2], "b": [1, 2]}
    with pytest.raises(ValueError, match=r"none of its outputs as probabilities \(sum, product\)"):
        two.predict(given, what="probabilities")


def test_a_gpu_for_onnx_that_is_not_there_is_named(tmp_path):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime can use GPUs")
    with pytest.raises(RuntimeError, match="this onnxruntime runs on no GPU: device 'cuda' needs"):
        loaded(made_models.two_inputs_onnx(tmp_path / "two.onnx"), device="cuda")


def test_onnxruntime_tells_nobody_of_its_use():
    """Its threads for that would also make the process one that cannot be forked."""
    import os

    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


# packages that are missing


@pytest.mark.parametrize(
    ("kind", "package", "command"),
    [
        ("onnx", "onnxruntime", r"pip install 'warmd\[predict\]'"),
        ("sklearn", "joblib", r"pip install 'warmd\[predict\]'"),
        ("torchscript", "torch", r"pip install 'warmd\[predict\]'"),
        ("transformers", "transformers", "pip install transformers"),
    ],
)
def test_a_package_that_is_missing_is_named_with_its_command(tmp_path, monkeypatch, kind, package, command):
    if kind == "transformers":
        pytest.importorskip("torch")
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / "model").write_bytes(b"x")
    app = Predict()
    app.setup()
    with pytest.raises(ImportError, match=f"the app predict needs {package} .*: {command}"):
        app.load_model(str(tmp_path / "model"), kind=kind, trusted=True)


def test_what_comes_as_json_is_answered_as_json(iris):
    row = [5.1, 3.5, 1.4, 0.2]
    answer = iris.predict(row, what="probabilities")
    assert json.loads(json.dumps(answer)) == answer
    assert isinstance(iris.predict(np.array([row]))["predictions"], np.ndarray)
    assert isinstance(iris.predict(row, arrays=True)["predictions"], np.ndarray)
    assert iris.predict(np.array([row]), arrays=False)["predictions"] == answer["predictions"]
