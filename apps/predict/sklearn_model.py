"""Models of scikit-learn, and of whatever else has its `predict`, as joblib or pickle wrote them."""

from __future__ import annotations

import contextlib
import importlib
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from warmd.app import context
from warmd.apps.predict.data import array_of, columns_of, is_text, plain, texts_of
from warmd.apps.predict.engines import engine, numpy
from warmd.apps.predict.models import Means

_OUTPUTS = ("predict", "predict_proba", "decision_function", "transform")


class SklearnModel:
    """Loading the file runs what is pickled in it: `finding.check_trust` comes before."""

    batch_size: ClassVar[int | None] = None

    def __init__(self, path: Path, means: Means) -> None:
        joblib = engine("joblib")
        engine("sklearn")
        with _told_warnings():
            try:
                self._model: Any = joblib.load(path)
            except Exception as error:
                raise RuntimeError(f"{path} cannot be loaded: {type(error).__name__}: {error}") from error
        self._methods = [name for name in _OUTPUTS if hasattr(self._model, name)]
        if not {"predict", "transform"} & set(self._methods):
            kind = type(self._model).__name__
            raise ValueError(f"{path} holds a {kind}, which has neither predict() nor transform()")
        names = getattr(self._model, "feature_names_in_", None)
        self._names = None if names is None else [str(name) for name in names]
        self._features: int | None = getattr(self._model, "n_features_in_", None)
        self._pandas = _pandas() if self._names else None
        self._limits = engine("threadpoolctl").threadpool_limits(means.threads)

    def describe(self) -> dict[str, Any]:
        return {
            "class": type(self._model).__name__,
            "features": self._features,
            "feature_names": self._names,
            "classes": self._classes(),
        }

    def answer(self, data: Any, what: str) -> dict[str, Any]:
        if what == "probabilities" and "predict_proba" not in self._methods:
            raise ValueError(f"a {type(self._model).__name__} has no predict_proba(): ask for 'predictions'")
        samples = self._samples(data)
        with warnings.catch_warnings():
            # The names of the features were looked at in `_samples`.
            warnings.filterwarnings("ignore", "X does not have valid feature names")
            if what == "outputs":
                return {"outputs": {name: self._give(name, samples) for name in self._methods}}
            answer = {"predictions": self._give(self._methods[0], samples)}
            if what == "probabilities":
                answer["probabilities"] = self._give("predict_proba", samples)
                answer["classes"] = self._classes()
        return answer

    def _give(self, method: str, samples: Any) -> Any:
        return plain(getattr(self._model, method)(samples))

    def _classes(self) -> Any:
        classes = getattr(self._model, "classes_", None)
        return classes.tolist() if isinstance(classes, numpy.ndarray) else classes

    def _samples(self, data: Any) -> Any:
        """What goes into the model.  Raises ValueError that names both numbers of features."""
        if self._features is None:
            # It takes no rows of numbers: texts, or dicts, that it makes its features of itself.
            if isinstance(data, Mapping):
                return [data]
            return texts_of(data) if is_text(data) else data
        if (columns := columns_of(data)) is not None:
            return self._from_columns(columns)
        rows = array_of(data)
        if rows.ndim < 2:
            rows = rows.reshape(-1, 1) if self._features == 1 else rows.reshape(1, -1)
        if rows.ndim != 2 or rows.shape[1] != self._features:
            got = f"rows of {rows.shape[1]}" if rows.ndim == 2 else f"the shape {rows.shape}"
            got = "a text" if isinstance(data, str) else got
            raise ValueError(f"the model takes {self._features} features a sample, got {got}")
        return self._framed(dict(zip(self._names, rows.T, strict=True)), rows) if self._names else rows

    def _from_columns(self, columns: dict[str, Any]) -> Any:
        if not self._names:
            raise ValueError(f"the model knows its {self._features} features by no names: give rows")
        wrong = [*(name for name in self._names if name not in columns), *(set(columns) - set(self._names))]
        if wrong:
            verb = "lack" if wrong[0] in self._names else "have, and the model does not know,"
            raise ValueError(f"the data {verb} {wrong[0]!r}: the model takes {', '.join(self._names)}")
        ordered = {name: numpy.atleast_1d(array_of(columns[name], name)) for name in self._names}
        lengths = {name: len(column) for name, column in ordered.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"the columns have different lengths: {lengths}")
        return self._framed(ordered, None)

    def _framed(self, columns: dict[str, Any], rows: Any) -> Any:
        """A data frame where pandas is installed: steps may look for their columns by name."""
        if self._pandas is not None:
            return self._pandas.DataFrame(columns)
        return numpy.column_stack(list(columns.values())) if rows is None else rows


def _pandas() -> Any:
    with contextlib.suppress(ImportError):
        return importlib.import_module("pandas")
    return None


@contextlib.contextmanager
def _told_warnings() -> Iterator[None]:
    """Warnings, as of a model from another version of scikit-learn, go to the session's log."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        context.logger.warning("%s: %s", warning.category.__name__, warning.message)
