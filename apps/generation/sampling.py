"""The next token, drawn as llama.cpp does: penalties, top_k, top_p, min_p, temperature, in this order."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

import torch

from warmd.apps.generation.options import Options

PENALISED_TOKENS = 64
"""Penalties are for what is among so many last tokens, the prompt's included."""


class Sampler:
    """Draws the tokens of one answer.  The same seed, prompt and options draw the same.

    With None as `penalised_tokens` penalties are for what is among all tokens.
    """

    def __init__(
        self, options: Options, prompt: Sequence[int], penalised_tokens: int | None = PENALISED_TOKENS
    ) -> None:
        self._options = options
        self._recent = deque(prompt, maxlen=penalised_tokens)
        # On the CPU also where the model is on a GPU: the same seed then means the same on both.
        self._random = torch.Generator()
        if options.seed is None:
            self._random.seed()
        else:
            self._random.manual_seed(options.seed)

    def draw(self, logits: torch.Tensor) -> int:
        """The next token, of logits [vocabulary]."""
        options = self._options
        logits = self._penalised(logits.float())
        if options.temperature == 0 or options.top_k == 1:
            token = int(logits.argmax())
        else:
            likeliest = min(options.top_k or len(logits), len(logits))
            best, tokens = (found.cpu() for found in logits.topk(likeliest))
            chances = self._chances(best)
            token = int(tokens[torch.multinomial(chances, 1, generator=self._random)])
        self._recent.append(token)
        return token

    def _chances(self, best: torch.Tensor) -> torch.Tensor:
        """Of logits in falling order: 0 for those that are cut off."""
        options = self._options
        chances = best.softmax(-1)
        before = chances.cumsum(-1) - chances
        kept = (before < options.top_p) & (chances >= options.min_p * chances[0])
        kept[0] = True
        return (best / options.temperature).masked_fill(~kept, -torch.inf).softmax(-1)

    def _penalised(self, logits: torch.Tensor) -> torch.Tensor:
        options = self._options
        if (options.repeat_penalty, options.presence_penalty, options.frequency_penalty) == (1.0, 0.0, 0.0):
            return logits
        counts = Counter(self._recent)
        tokens = torch.tensor(list(counts), device=logits.device)
        times = torch.tensor(list(counts.values()), device=logits.device, dtype=logits.dtype)
        values = logits[tokens]
        values = torch.where(values > 0, values / options.repeat_penalty, values * options.repeat_penalty)
        values -= times * options.frequency_penalty + options.presence_penalty
        return logits.index_put((tokens,), values)
