"""The apps that are measured, on torch.

Nothing touches a GPU before `setup`: sessions are forked from a process that has imported this.
"""

from __future__ import annotations

import hashlib
import os
import signal
import time
from typing import Any

import torch

import warmd
from benchmarks.gpuparts import LLAMA_VARIABLE

TENSORS = 200
SIZE = 1024
PROMPT = [1, 15043, 3186, 29892, 590, 1024, 338]


class First:
    """Nothing but a first result."""

    def run(self) -> float:
        x = torch.ones(SIZE, SIZE, device="cuda")
        return float((x @ x).sum())


class Memory:
    """So many bytes, which `way` (driver, offload) moves, and results that depend on all of them."""

    def setup(self, size_bytes: int, seed: int = 1, way: str = "driver") -> None:
        self.tensors = made(size_bytes, seed)
        generator = torch.Generator("cuda").manual_seed(seed)
        shape = {"generator": generator, "device": "cuda", "dtype": torch.bfloat16}
        self.weight = torch.randn(SIZE, SIZE, **shape)
        begun = time.perf_counter()
        if way == "offload":
            warmd.gpu.offload(*self.tensors, self.weight)
        self.pin_seconds = time.perf_counter() - begun

    def run(self, x: int = 0) -> str:
        return digest(self.tensors, self.weight, x)

    def work(self, seconds: float) -> str:
        """The same, after so long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.weight @ self.weight
            torch.cuda.synchronize()
        return self.run()

    def change(self) -> None:
        """All of it."""
        for tensor in self.tensors:
            tensor.add_(1)
        torch.cuda.synchronize()

    def pinned_seconds(self) -> float:
        return self.pin_seconds

    def pid(self) -> int:
        return os.getpid()

    def crash(self) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)


class Shared:
    """The same, of which all sessions share the tensors."""

    def setup(self, size_bytes: int) -> None:
        self.tensors = warmd.gpu.share("tensors", lambda: named(made(size_bytes, 1)))

    def run(self) -> str:
        return digest(list(self.tensors.values()), None, 0)


class Llama:
    """A model that is in host memory before there is a session."""

    model: Any

    @classmethod
    def prepare(cls) -> None:
        cls.model = loaded()

    def setup(self) -> None:
        self.on_gpu = self.model.to("cuda")

    def run(self) -> int:
        return first_token(self.on_gpu)


def made(size_bytes: int, seed: int) -> list[Any]:
    """Tensors of random bits, on the GPU."""
    generator = torch.Generator("cuda").manual_seed(seed)
    count = max(1, size_bytes // 8 // TENSORS)
    return [
        torch.empty(count, dtype=torch.int64, device="cuda").random_(generator=generator)
        for _ in range(TENSORS)
    ]


def named(tensors: list[Any]) -> dict[str, Any]:
    return {f"tensor{place}": tensor for place, tensor in enumerate(tensors)}


def digest(tensors: list[Any], weight: Any, x: int) -> str:
    """Of the sums of all tensors, which are exact, and of a product, bit for bit."""
    sums = torch.stack([(tensor ^ x).sum() for tensor in tensors]).cpu()
    told = hashlib.sha256(sums.numpy().tobytes())
    if weight is not None:
        product = weight @ torch.full_like(weight, 1.0 + x)
        told.update(product.view(torch.int16).cpu().numpy().tobytes())
    return told.hexdigest()


def loaded() -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(os.environ[LLAMA_VARIABLE], dtype=torch.bfloat16).eval()


def first_token(model: Any) -> int:
    with torch.inference_mode():
        return int(model(torch.tensor([PROMPT], device="cuda")).logits[0, -1].argmax())
