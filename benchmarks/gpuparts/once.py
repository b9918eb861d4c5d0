"""Processes without warmd: `python -m benchmarks.gpuparts.once WHAT ...`.

Each answers with a line of JSON, and with another one for each line that it reads.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

GIB = 2**30
PIECE_BYTES = GIB
PIECES = 8


def ballast(size_bytes: str) -> Iterator[Any]:
    """Has so much of the GPU."""
    import torch

    kept = torch.empty(int(size_bytes), dtype=torch.uint8, device="cuda")
    torch.cuda.synchronize()
    while kept.numel():
        yield os.getpid()


def hold(size_bytes: str) -> Iterator[Any]:
    """The app `Memory`, alone: its pid, then what its function gives."""
    from benchmarks.gpuparts.apps import Memory

    app = Memory()
    app.setup(int(size_bytes))
    app.run()
    yield os.getpid()
    while True:
        yield app.run()


def pcie() -> Iterator[Any]:
    """Bytes per second of pinned memory, from the GPU and to it; the best of three."""
    import torch

    host = torch.empty(PIECE_BYTES, dtype=torch.uint8, pin_memory=True)
    on_gpu = torch.zeros(PIECE_BYTES, dtype=torch.uint8, device="cuda")
    found = []
    for into, source in ((host, on_gpu), (on_gpu, host)):
        times = []
        for _ in range(4):
            torch.cuda.synchronize()
            begun = time.perf_counter()
            for _ in range(PIECES):
                into.copy_(source, non_blocking=True)
            torch.cuda.synchronize()
            times.append(time.perf_counter() - begun)
        found.append(PIECES * PIECE_BYTES / min(times[1:]))
    yield found


def make_llama(folder: str) -> Iterator[Any]:
    """A model of the shape of TinyLlama 1.1B, with random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=32000, hidden_size=2048, intermediate_size=5632, num_hidden_layers=22,
        num_attention_heads=32, num_key_value_heads=4, max_position_embeddings=2048,
    )  # fmt: skip
    torch.manual_seed(1)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = LlamaForCausalLM(config)
    model.to("cpu").save_pretrained(folder)
    yield sum(one.numel() for one in model.parameters())


def llama() -> Iterator[Any]:
    """The first token, and the pid's end with it."""
    from benchmarks.gpuparts.apps import first_token, loaded

    yield first_token(loaded().to("cuda"))


KINDS: dict[str, Callable[..., Iterator[Any]]] = {
    one.__name__.replace("_", "-"): one for one in (ballast, hold, pcie, make_llama, llama)
}


def main() -> None:
    """Answer as often as it is asked to."""
    for answer in KINDS[sys.argv[1]](*sys.argv[2:]):
        print(json.dumps(answer), flush=True)
        if not sys.stdin.readline():
            return


if __name__ == "__main__":
    main()
