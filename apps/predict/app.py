"""A model that is loaded once and asked many times."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from warmd.app import Interrupted, context
from warmd.apps.actions import Actions
from warmd.apps.options import configure, one_of, positive
from warmd.apps.predict import finding, models
from warmd.apps.predict.batches import in_lists, is_plain, joined, length, part
from warmd.apps.trust import folders_of

_TELL_SECONDS = 0.2


class Predict(Actions):
    """`run({"action": "load_model", "model": NAME})`, then `run({"action": "predict", "data": ...})`.

    `setup` takes `{"model": one to load at once, "models": folder or folders where names are looked up,
    "trusted": whether all may run code, "device", "threads"}`, each optional.
    """

    def setup(self, config: Mapping[str, Any] | None = None) -> None:
        self._model: models.Model | None = None
        self._facts: dict[str, Any] = {}
        configure(self._open, config)

    def load_model(
        self, model: str, *, kind: str | None = None, trusted: bool = False, device: str | None = None
    ) -> dict[str, Any]:
        """Loads a model by its path, or by its name in the folders of models; it replaces the one before.

        `kind` is "onnx", "sklearn", "torchscript" or "transformers", and is found out where it is not given.
        A file that can run code when it is loaded (pickled, TorchScript) must be trusted.  Gives what
        `info` gives, with the name of the model that was `replaced`; when it fails that one stays.
        Raises FileNotFoundError, PermissionError, ValueError, RuntimeError, and ImportError where the
        package for the kind is missing.
        """
        started = time.monotonic()
        path = finding.find(model, self._folders)
        kind = finding.kind_of(path) if kind is None else one_of("kind", kind, finding.KINDS)
        finding.check_trust(path, kind, trusted or self._trusted)
        means = models.Means(self._threads, device or self._device)
        loaded = models.load(kind, path, means)
        replaced = self._facts.get("model")
        facts = {"model": str(model), "kind": kind, "path": str(path), **loaded.describe()}
        self._model, self._facts = loaded, facts
        return {**facts, "replaced": replaced, "seconds": time.monotonic() - started}

    def predict(
        self,
        data: Any,
        *,
        what: str = "predictions",
        batch_size: int | None = None,
        arrays: bool | None = None,
    ) -> dict[str, Any]:
        """What the model says of one sample or many: always as of many, in the order of the data.

        `what` is "predictions", "probabilities" (`{"predictions", "probabilities", "classes"}`), or
        "outputs", all that the model gives, by name.  Numbers come as lists where the data are plain lists,
        as from JSON, else as arrays; `arrays` says otherwise.

        With a `batch_size` so many samples go in at once.  Between two batches progress is told as
        `{"done", "total"}`, and a cancelled call ends.  Raises RuntimeError before a model is loaded, and
        ValueError for data that it does not take.
        """
        if self._model is None:
            raise RuntimeError("no model is loaded: begin with the action 'load_model'")
        one_of("what", what, models.WHAT)
        size = self._model.batch_size if batch_size is None else positive("batch_size", batch_size)
        answer = joined([self._model.answer(batch, what) for batch in _batches(data, size)])
        return answer if (not is_plain(data) if arrays is None else arrays) else in_lists(answer)

    def unload_model(self) -> dict[str, Any]:
        """Lets go of the model and its memory; names it, or None where there was none."""
        unloaded = self._facts.get("model")
        self._model, self._facts = None, {}
        return {"unloaded": unloaded}

    def info(self) -> dict[str, Any]:
        """What is loaded, and the names that could be."""
        return {
            "model": None,
            **self._facts,
            "threads": self._threads,
            "folders": [str(folder) for folder in self._folders],
            "models": finding.names_in(self._folders),
        }

    def on_cancel(self) -> None:
        """Leaves a call the time to end by itself: inside a model's own code nothing can be interrupted."""

    def _open(
        self,
        model: str | None = None,
        models: str | Sequence[str] | None = None,
        trusted: bool = False,
        device: str | None = None,
        threads: int = 1,
    ) -> None:
        named = [models] if isinstance(models, str) else list(models or ())
        self._folders = [Path(one).expanduser() for one in named] or folders_of(finding.MODELS_VARIABLE)
        for folder in self._folders:
            if not folder.is_dir():
                raise FileNotFoundError(f"there is no folder {folder} to look for models in")
        self._trusted = trusted
        self._device = device
        self._threads = positive("threads", threads)
        if model is not None:
            self.load_model(model)


def _batches(data: Any, size: int | None) -> Iterator[Any]:
    """The data in parts of `size` samples.  Raises Interrupted between two once the call is cancelled."""
    total = length(data)
    if size is None or total is None or total <= size:
        yield data
        return
    told = time.monotonic()
    for begin in range(0, total, size):
        if context.cancelled:
            raise Interrupted(f"cancelled after {begin} of {total} samples")
        if begin and time.monotonic() - told > _TELL_SECONDS:
            told = time.monotonic()
            context.progress({"done": begin, "total": total})
        yield part(data, begin, begin + size)
