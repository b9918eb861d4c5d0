"""TorchScript archives.  Their code can write files, on loading too: `finding.check_trust` comes before."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from warmd.apps.predict.data import array_of, plain
from warmd.apps.predict.engines import engine, numpy
from warmd.apps.predict.models import Means
from warmd.apps.torchmodels import device_for


class TorchScriptModel:
    """A module of TorchScript.  It says nothing of the shapes that it takes, so data go in as they are."""

    batch_size: ClassVar[int | None] = None

    def __init__(self, path: Path, means: Means) -> None:
        self._torch = torch = engine("torch")
        torch.set_num_threads(means.threads)
        self._device = device_for(torch, means.device)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", ".*torch.jit.load.* is deprecated", DeprecationWarning)
                self._module = torch.jit.load(str(path), map_location=self._device).eval()
        except (RuntimeError, OSError, ValueError) as error:
            raise RuntimeError(f"{path} cannot be loaded as TorchScript: {_last_line(error)}") from error
        self._parameters = list(self._module.parameters())
        self._inputs = [one.name for one in self._module.forward.schema.arguments[1:]]

    def describe(self) -> dict[str, Any]:
        return {
            "inputs": self._inputs,
            "parameters": sum(one.numel() for one in self._parameters),
            "device": str(self._device),
        }

    def answer(self, data: Any, what: str) -> dict[str, Any]:
        if what == "probabilities":
            raise ValueError("TorchScript does not tell what it gives: ask for 'predictions' or 'outputs'")
        outputs = self._run(data)
        if what == "outputs":
            return {"outputs": outputs}
        return {"predictions": next(iter(outputs.values()), None)}

    def _run(self, data: Any) -> dict[str, Any]:
        if isinstance(data, Mapping):
            named = {str(name): self._tensor(value, str(name)) for name, value in data.items()}
            if strange := set(named) - set(self._inputs):
                raise ValueError(f"there is no input {min(strange)!r}: there are {', '.join(self._inputs)}")
            shown = ", ".join(f"{name} {tuple(one.shape)}" for name, one in named.items())
            return self._named(self._called(shown, (), named))
        tensor = self._tensor(data, "data")
        return self._named(self._called(str(tuple(tensor.shape)), (tensor,), {}))

    def _called(self, shown: str, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        try:
            with self._torch.inference_mode():
                return self._module(*args, **named)
        except RuntimeError as error:
            raise ValueError(f"the model does not take {shown}: {_last_line(error)}") from error

    def _tensor(self, value: Any, name: str) -> Any:
        """Floats as the model's own parameters are, integers as they come."""
        array = array_of(value, name)
        if array.dtype.kind not in "biuf":
            raise ValueError(f"{name} must be numbers, not {array.dtype}")
        # torch warns of arrays that must not be written to.
        tensor = self._torch.from_numpy(numpy.require(array, requirements="W")).to(self._device)
        if tensor.is_floating_point():
            floats = (one.dtype for one in self._parameters if one.is_floating_point())
            tensor = tensor.to(next(floats, self._torch.float32))
        return tensor

    def _named(self, given: Any) -> dict[str, Any]:
        """The outputs by name; those of a tuple by their number, as text."""
        if isinstance(given, Mapping):
            return {str(name): self._out(value) for name, value in given.items()}
        many = given if isinstance(given, (list, tuple)) else [given]
        return {str(at): self._out(value) for at, value in enumerate(many)}

    def _out(self, value: Any) -> Any:
        if not isinstance(value, self._torch.Tensor):
            return plain(value)
        value = value.detach()
        if value.dtype is self._torch.bfloat16:  # numpy has no such type
            value = value.float()
        return value.numpy(force=True)


def _last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[-1]
