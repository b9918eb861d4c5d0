"""A day at a small GPU box, in a quarter of an hour: which of six models is asked for, and for how long.

The models have 150 % of the GPU's memory together, so that about half of them are there at any time.
Some are asked for much more often than others, and who asks for one often asks for it again at once.
The same numbers always give the same trace, here and on a real GPU (`benchmarks.gpu`).
"""

from __future__ import annotations

import random
from typing import NamedTuple

SEED = 8
SECONDS = 900.0
REQUESTS_PER_SECOND = 0.3
"""Beside those that a burst adds."""
BURSTS = 0.3
"""So many of the requests are followed by others for the same model."""
ZIPF_EXPONENT = 0.9
MAX_RUN_SECONDS = 4.0


class Model(NamedTuple):
    name: str
    share: float
    """Of the GPU's memory."""


MODELS = (
    Model("b", 0.25),
    Model("e", 0.10),
    Model("c", 0.35),
    Model("a", 0.20),
    Model("f", 0.45),
    Model("d", 0.15),
)
"""The one that is most asked for comes first."""


class Request(NamedTuple):
    at_seconds: float
    """Since the trace's begin."""
    model: str
    run_seconds: float


def recorded(seed: int = SEED, seconds: float = SECONDS, rate: float = REQUESTS_PER_SECOND) -> list[Request]:
    """The trace, in the order of time."""
    chance = random.Random(seed)
    weights = [1 / rank**ZIPF_EXPONENT for rank in range(1, len(MODELS) + 1)]
    requests: list[Request] = []
    at = 0.0
    while (at := at + chance.expovariate(rate)) < seconds:
        model = chance.choices(MODELS, weights)[0].name
        requests.append(_request(chance, at, model))
        if chance.random() < BURSTS:
            requests += _burst(chance, at, model)
    return sorted(requests)


def _burst(chance: random.Random, at: float, model: str) -> list[Request]:
    burst = []
    for _ in range(chance.randint(2, 8)):
        at += chance.expovariate(2.0)
        burst.append(_request(chance, at, model))
    return burst


def _request(chance: random.Random, at: float, model: str) -> Request:
    seconds = min(MAX_RUN_SECONDS, chance.lognormvariate(-0.9, 0.8))
    return Request(round(at, 3), model, round(seconds, 3))
