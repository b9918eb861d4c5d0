"""Keys and values of the tokens that a model of transformers has read, kept from one answer to the next.

The next prompt is compared with what is there, token by token, and only what differs is read.  That needs a
cache whose end can be cut off: one of attention alone, sliding or not, kept in full length.  Layers that
remember in other ways (recurrent, linear attention) cannot go back, and some of them cannot even read a
second piece of a prompt.  Their models read each prompt anew, and at once.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

_NAMES = ("cache", "past_key_values", "cache_params")
"""What the argument of `forward` is called, which has changed with the versions of transformers."""


class Cache:
    """Of one model.  Raises RuntimeError for a model that takes no such cache.

    An interrupt can come amid a forward pass.  Then some layers have more than `tokens` says, never
    less, and `keep` cuts that off.
    """

    def __init__(self, model: Any) -> None:
        parameters = inspect.signature(model.forward).parameters
        names = [name for name in _NAMES if name in parameters]
        if not names:
            raise RuntimeError(f"a {type(model).__name__} takes no cache of transformers: it cannot be run")
        self._name = names[0]
        self._config = model.config
        layers = DynamicCache(config=model.config).layers
        self.can_be_cut = all(type(one) in (DynamicLayer, DynamicSlidingWindowLayer) for one in layers)
        self.clear()

    def clear(self) -> None:
        """Free all of it."""
        self.tokens: list[int] = []
        self._values = DynamicCache() if self.can_be_cut else DynamicCache(config=self._config)

    @property
    def argument(self) -> dict[str, Any]:
        """For the model's `forward`."""
        return {self._name: self._values}

    def keep(self, wanted: Sequence[int]) -> int:
        """Drop all that is no beginning of `wanted`; returns how many tokens remain."""
        pairs = zip(self.tokens, wanted, strict=False)
        shorter = min(len(self.tokens), len(wanted))
        same = next((n for n, (mine, theirs) in enumerate(pairs) if mine != theirs), shorter)
        if not same or not self.can_be_cut:
            self.clear()
            return 0
        self.tokens = self.tokens[:same]
        for layer in self._values.layers:
            layer.keys, layer.values = layer.keys[..., :same, :], layer.values[..., :same, :]
        return same
