"""ONNX files, run by onnxruntime.  They hold no code, so any of them may be loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from warmd.apps.predict.data import array_of, columns_of, plain
from warmd.apps.predict.engines import engine, numpy
from warmd.apps.predict.models import Means

_DTYPES = {
    "float": "float32", "double": "float64", "float16": "float16", "bool": "bool", "string": "object",
    **{name: name for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")},
}  # fmt: skip
_PROBABILITIES = ("probabilities", "output_probability")
"""What skl2onnx calls that output."""


class OnnxModel:
    """A session of onnxruntime."""

    batch_size: ClassVar[int | None] = None

    def __init__(self, path: Path, means: Means) -> None:
        runtime = engine("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = means.threads, 1
        # Between calls its threads would go on looking for work, for some milliseconds at full speed.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 4  # errors are raised
        try:
            self._session = runtime.InferenceSession(
                str(path), options, providers=_providers(runtime, means.device)
            )
        except Exception as error:
            raise RuntimeError(f"{path} cannot be loaded as ONNX: {error}") from error
        self._inputs = {one.name: one for one in self._session.get_inputs()}
        self._outputs = {one.name: one for one in self._session.get_outputs()}
        found = [name for name, one in self._outputs.items() if "map(" in one.type or name in _PROBABILITIES]
        self._probabilities = found[0] if found else None

    def describe(self) -> dict[str, Any]:
        def told(ports: dict[str, Any]) -> dict[str, Any]:
            return {
                name: {"type": one.type, "shape": [_size(size) for size in one.shape or ()]}
                for name, one in ports.items()
            }

        return {"inputs": told(self._inputs), "outputs": told(self._outputs)}

    def answer(self, data: Any, what: str) -> dict[str, Any]:
        feed = self._feed(data)
        first = next(iter(self._outputs))
        if what == "outputs":
            values = self._session.run(None, feed)
            return {"outputs": {name: plain(one) for name, one in zip(self._outputs, values, strict=True)}}
        if what == "predictions":
            return {"predictions": plain(self._session.run([first], feed)[0])}
        if self._probabilities is None:
            raise ValueError(
                f"the model names none of its outputs as probabilities ({', '.join(self._outputs)}): "
                "ask for 'outputs'"
            )
        predictions, probabilities = self._session.run([first, self._probabilities], feed)
        return {"predictions": plain(predictions), **_by_class(probabilities)}

    def _feed(self, data: Any) -> dict[str, Any]:
        """An array for each input.  Raises ValueError that names the input."""
        columns = columns_of(data)
        if columns is None:
            if len(self._inputs) != 1:
                raise ValueError(f"the model has the inputs {', '.join(self._inputs)}: give a dict of them")
            columns = {next(iter(self._inputs)): data}
        wrong = [*(name for name in self._inputs if name not in columns), *(set(columns) - set(self._inputs))]
        if wrong:
            verb = "lack" if wrong[0] in self._inputs else "have, and the model does not know,"
            raise ValueError(f"the data {verb} {wrong[0]!r}: the inputs are {', '.join(self._inputs)}")
        return {name: _tensor(one, columns[name]) for name, one in self._inputs.items()}


def _providers(runtime: Any, device: str | None) -> list[str]:
    there = runtime.get_available_providers()
    wanted = ["CPUExecutionProvider"]
    if device is not None and device.startswith("cuda"):
        if "CUDAExecutionProvider" not in there:
            raise RuntimeError(f"this onnxruntime runs on no GPU: device {device!r} needs onnxruntime-gpu")
        wanted.insert(0, "CUDAExecutionProvider")
    return wanted


def _tensor(port: Any, value: Any) -> Any:
    """The array for one input, of its type and its number of axes; a sample alone becomes one of many."""
    dtype = _DTYPES.get(port.type.removeprefix("tensor(").removesuffix(")"))
    if dtype is None:
        raise ValueError(f"the input {port.name!r} is a {port.type}, which cannot be given here")
    array = array_of(value, port.name)
    shape = [_size(size) for size in port.shape or ()]
    if len(shape) == 2 and array.ndim < 2 and shape[1] == 1:
        array = array.reshape(-1, 1)
    while array.ndim < len(shape):
        array = array[None]
    fits = len(array.shape) == len(shape) and all(
        wanted in (None, size) for wanted, size in zip(shape, array.shape, strict=True)
    )
    if shape and not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"the input {port.name!r} takes the shape ({wanted}), got {array.shape}")
    if dtype != "object" and not numpy.can_cast(array.dtype, dtype, "same_kind"):
        raise ValueError(f"the input {port.name!r} takes {dtype}, got {array.dtype}")
    return array.astype(dtype, copy=False)


def _size(size: Any) -> int | None:
    """Of one axis; None for one that is open."""
    return size if isinstance(size, int) and size > 0 else None


def _by_class(probabilities: Any) -> dict[str, Any]:
    """An array (samples, classes) and the classes: of a list of dicts, or of an array as it is."""
    if isinstance(probabilities, numpy.ndarray):
        return {"probabilities": probabilities, "classes": None}
    classes = list(probabilities[0]) if probabilities else []
    rows = [[one[name] for name in classes] for one in probabilities]
    return {"probabilities": numpy.array(rows, numpy.float32), "classes": classes}
