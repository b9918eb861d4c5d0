"""Folders of transformers with weights as safetensors: classes of texts, or their vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from warmd.apps.predict.data import is_text, texts_of
from warmd.apps.predict.engines import engine, numpy
from warmd.apps.predict.models import Means
from warmd.apps.torchmodels import device_for, load_folder, mean_pooled, most_tokens, on_device

_CLASSIFIER = "ForSequenceClassification"
_FEATURES = ("Model", "ForMaskedLM", "ForPreTraining")
"""Endings of architectures whose body gives the features of a text."""


class TransformersModel:
    """A classifier, by its architecture in `config.json`, or else a model for features of texts."""

    batch_size: ClassVar[int | None] = 32

    def __init__(self, path: Path, means: Means) -> None:
        self._torch = torch = engine("torch")
        transformers = engine("transformers")
        torch.set_num_threads(means.threads)
        self._device = device_for(torch, means.device)
        self._architecture = _architecture(transformers, path)
        self._classifies = self._architecture.endswith(_CLASSIFIER)
        auto = f"AutoModel{_CLASSIFIER}" if self._classifies else "AutoModel"
        unused = "" if self._classifies else "pooler."
        self._tokenizer, model = load_folder(transformers, auto, path, torch.float32, optional=unused)
        self._model = on_device(model, self._device)
        self._max_tokens = most_tokens(self._tokenizer, model)
        labels = model.config.id2label or {}
        self._classes = [labels[at] for at in sorted(labels)] if self._classifies else None
        self._problem = model.config.problem_type if self._classifies else None

    def describe(self) -> dict[str, Any]:
        return {
            "class": self._architecture,
            "classes": self._classes,
            "max_tokens": self._max_tokens,
            "device": str(self._device),
        }

    def answer(self, data: Any, what: str) -> dict[str, Any]:
        hidden, mask = self._run(data)
        if not self._classifies:
            return self._features(hidden, mask, what)
        if what == "outputs":
            return {"outputs": {"logits": _array(hidden)}}
        assert self._classes is not None
        if self._problem == "regression" or len(self._classes) == 1:
            if what == "probabilities":
                raise ValueError("the model gives numbers and no classes: ask for 'predictions'")
            return {"predictions": _array(hidden.squeeze(-1))}
        several = self._problem == "multi_label_classification"
        probabilities = _array(hidden.sigmoid() if several else hidden.softmax(-1))
        answer: dict[str, Any] = {"predictions": self._labels(probabilities, several)}
        if what == "probabilities":
            answer |= {"probabilities": probabilities, "classes": self._classes}
        return answer

    def _features(self, hidden: Any, mask: Any, what: str) -> dict[str, Any]:
        if what == "probabilities":
            raise ValueError(f"a {self._architecture} gives features and no classes: ask for 'predictions'")
        if what == "outputs":
            lengths = mask.sum(1).tolist()
            states = [_array(one[:length]) for one, length in zip(hidden, lengths, strict=True)]
            return {"outputs": {"last_hidden_state": states}}
        return {"predictions": _array(mean_pooled(hidden, mask))}

    def _run(self, data: Any) -> tuple[Any, Any]:
        """The first output and the mask of tokens, for texts or pairs of texts, cut where too long."""
        first, second = _texts(data)
        tokens = self._tokenizer(
            first,
            second,
            padding=True,
            truncation=True,
            max_length=self._max_tokens,
            return_tensors="pt",
        ).to(self._device)
        with self._torch.inference_mode():
            return self._model(**tokens)[0], tokens["attention_mask"]

    def _labels(self, probabilities: Any, several: bool) -> list[Any]:
        assert self._classes is not None
        if several:
            return [[self._classes[at] for at in numpy.flatnonzero(row > 0.5)] for row in probabilities]
        return [self._classes[at] for at in probabilities.argmax(-1)]


def _architecture(transformers: Any, path: Path) -> str:
    """Raises ValueError for a model that does something else with texts, RuntimeError."""
    try:
        config = transformers.AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise RuntimeError(f"transformers cannot load {path}: {type(error).__name__}: {error}") from error
    name = str((config.architectures or ["Model"])[0])
    if not name.endswith((_CLASSIFIER, *_FEATURES)):
        allowed = ", ".join(f"...{ending}" for ending in (_CLASSIFIER, *_FEATURES))
        raise ValueError(f"{path} is a {name}: this app runs {allowed}")
    return name


def _texts(data: Any) -> tuple[list[str], list[str] | None]:
    if is_text(data):
        return texts_of(data), None
    if isinstance(data, (list, tuple)) and data and all(is_text(one) and len(one) == 2 for one in data):
        return [one[0] for one in data], [one[1] for one in data]
    raise ValueError(f"the model takes a text, a list of texts or of pairs, not {str(data)[:40]!r}")


def _array(tensor: Any) -> Any:
    return tensor.numpy(force=True)
