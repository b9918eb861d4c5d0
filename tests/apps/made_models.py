"""Small real models of each kind, made in a folder."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

SENTENCES = {
    "en": ["the dog sleeps in the house", "there is nothing else to do", "they have gone home in the rain"],
    "de": ["der hund schläft im haus", "es gibt nichts anderes zu tun", "sie sind wegen des regens zu hause"],
    "es": ["el perro duerme en la casa", "no hay nada más que hacer", "se han ido a casa porque llueve"],
}


def iris_classifier() -> tuple[Any, np.ndarray]:
    """Three classes of flowers by four numbers, and the 150 flowers that it was fitted to."""
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    flowers, kinds = load_iris(return_X_y=True)
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(flowers, kinds), flowers


def language_classifier() -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    texts = [text for several in SENTENCES.values() for text in several]
    languages = [language for language, several in SENTENCES.items() for _ in several]
    # In ONNX lowercase letters would need a locale that not every machine has.
    letters = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), lowercase=False)
    return make_pipeline(letters, LogisticRegression(C=100)).fit(texts, languages)


def save_pickled(model: Any, path: Path) -> Path:
    import joblib

    joblib.dump(model, path)
    return path


def save_onnx(model: Any, path: Path, *, inputs: Any, zipmap: bool = True) -> Path:
    from skl2onnx import to_onnx

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = to_onnx(model, initial_types=inputs, options={"zipmap": zipmap})
    path.write_bytes(made.SerializeToString())
    return path


def iris_onnx(path: Path, *, zipmap: bool = True) -> Path:
    from skl2onnx.common.data_types import FloatTensorType

    model, _ = iris_classifier()
    return save_onnx(model, path, inputs=[("flowers", FloatTensorType([None, 4]))], zipmap=zipmap)


def language_onnx(path: Path) -> Path:
    from skl2onnx.common.data_types import StringTensorType

    return save_onnx(language_classifier(), path, inputs=[("text", StringTensorType([None, 1]))])


def two_inputs_onnx(path: Path) -> Path:
    """`sum` and `product` of `a` and `b`, integers in rows of two."""
    from onnx import TensorProto, helper

    def port(name: str) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.INT64, [None, 2])

    nodes = [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Mul", ["a", "b"], ["product"])]
    graph = helper.make_graph(nodes, "two", [port("a"), port("b")], [port("sum"), port("product")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


def save_torchscript(module: Any, path: Path) -> Path:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module.eval()).save(str(path))
    return path


def tiny_classifier(folder: Path, *, labels: dict[int, str], **config: Any) -> Path:
    """An untrained BERT with one layer, as transformers saves it."""
    import torch
    import transformers

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "a", "very"]
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(words))
    vocabulary = {word: at for at, word in enumerate(words)}
    tokenizer = transformers.BertTokenizer(vocab=vocabulary, model_max_length=16)
    torch.manual_seed(1)
    made = transformers.BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=16, id2label=labels,
        label2id={label: at for at, label in labels.items()}, initializer_range=1.0, **config,
    )  # fmt: skip
    transformers.utils.logging.disable_progress_bar()
    transformers.BertForSequenceClassification(made).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
