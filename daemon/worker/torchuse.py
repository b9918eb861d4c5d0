"""What of torch a worker must know; nothing of it is imported here: an app has done so, or not."""

from __future__ import annotations

import gc
import sys
from typing import Any


def cuda_in_use() -> Any:
    """`torch.cuda` where this process has initialised it, else None."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    is_initialized = getattr(cuda, "is_initialized", None)
    return cuda if is_initialized is not None and is_initialized() else None


def keep_to_one_thread() -> int:
    """Have torch, where it is imported, start no threads of its own; returns what to `use_threads` again."""
    torch: Any = sys.modules.get("torch")
    if not hasattr(torch, "set_num_threads"):
        return 0
    number = int(torch.get_num_threads())
    torch.set_num_threads(1)
    return number


def use_threads(number: int) -> None:
    """Have torch compute with so many threads; with 0 it is as it is."""
    if number:
        sys.modules["torch"].set_num_threads(number)


def release_unused() -> None:
    """Give GPU memory and pinned memory back that torch keeps for later, or unreachable objects hold."""
    cuda = cuda_in_use()
    if cuda is None:
        return
    gc.collect()
    cuda.empty_cache()
    unpin = getattr(getattr(sys.modules["torch"], "_C", None), "_host_emptyCache", None)
    if unpin is not None:
        unpin()
