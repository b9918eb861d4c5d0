"""The same with torch."""

from __future__ import annotations

import torch


class App:
    def answer(self) -> float:
        return float(torch.ones(10).sum())


if __name__ == "__main__":
    print(App().answer())
