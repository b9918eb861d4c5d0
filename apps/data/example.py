"""A file of events to try the app on: `python -m warmd.apps.data.example events.parquet [ROWS]`."""

from __future__ import annotations

import sys
from pathlib import Path

from warmd.apps.data.engine import pl

ROWS = 5_000_000
USERS = 200_000
CATEGORIES = ("view", "search", "cart", "purchase", "return")


def write_example(path: Path, rows: int = ROWS) -> Path:
    """Writes a Parquet file: users, moments a second apart, amounts, durations, scores, categories.

    `amount` rises slowly, `duration` goes along with it, and one value of `score` in 1,000 is far off.
    """
    pl.set_random_seed(1)
    row = pl.int_range(rows)
    frame = pl.select(row=row).lazy()
    chance = {name: row.hash(seed) / 2.0**64 for seed, name in enumerate(("a", "b", "c", "d", "e", "f"))}
    noise = {
        "one": chance["a"] + chance["b"] + chance["c"] - 1.5,
        "two": chance["d"] + chance["e"] + chance["f"] - 1.5,
    }
    amount = 50 + 10 * row / rows + 8 * noise["one"]
    names = pl.Series("category", CATEGORIES)
    frame = frame.select(
        user_id=row.hash(7) % USERS,
        time=pl.lit(1_735_689_600_000_000).add(row * 1_000_000).cast(pl.Datetime("us")),
        amount=amount,
        duration=2 * amount + 5 * noise["two"],
        score=pl.when(row.hash(8) % 1000 == 0).then(100 + noise["one"]).otherwise(noise["two"]),
        discount=pl.when(row.hash(9) % 10 == 0).then(None).otherwise(chance["f"]),
        category=pl.lit(names).gather(row.hash(10) % len(CATEGORIES)).cast(pl.Categorical),
    )
    frame.collect().write_parquet(path)
    return path


if __name__ == "__main__":
    print(write_example(Path(sys.argv[1]), *map(int, sys.argv[2:3])))
