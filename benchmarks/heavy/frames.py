"""An app whose imports take long; run as a script it is its own spawn, until the first answer."""

from __future__ import annotations

import numpy
import polars


class App:
    def answer(self) -> float:
        return float(polars.Series(numpy.ones(10)).sum())


if __name__ == "__main__":
    print(App().answer())
