"""Load data once, analyse it four times.

pip install 'warmd[data]'
python examples/python/pipeline.py
"""

import tempfile
from pathlib import Path

import polars as pl

import warmd

ROWS = 1_000_000


def write_dataset(path: Path) -> None:
    """Minutes with a slowly rising temperature, and ice cream sold accordingly."""
    pl.set_random_seed(1)
    minute = pl.int_range(ROWS)
    noise = minute.hash(1) / 2.0**64 + minute.hash(2) / 2.0**64 - 1
    weather = pl.select(minute=minute, temperature=15 + 5 * minute / ROWS + 8 * noise)
    wobble = pl.col("minute").hash(3) / 2.0**64 - 0.5
    sales = weather.with_columns(ice_cream=20 * pl.col("temperature") + 100 * wobble)
    sales.drop("minute").write_parquet(path)


def in_short(analysis: str, found: dict) -> str:
    """One line about what an analysis has found; the whole is a dict with many more figures."""
    if analysis == "correlations":
        best = found["strongest"][0]
        return f"{' and '.join(best['columns'])}: {best['correlation']:.2f}"
    key = {"summary": "mean", "outliers": "count", "trends": "change"}[analysis]
    return f"{key} " + ", ".join(f"{name} {facts[key]:.4g}" for name, facts in found["columns"].items())


def main() -> None:
    with warmd.Client() as client, tempfile.TemporaryDirectory() as folder:
        dataset = Path(folder) / "large_dataset.parquet"
        write_dataset(dataset)
        result = client.run(
            {
                "app": "data-processor",
                "input": {"action": "load", "dataset": str(dataset)},
                "session": "new",
                "session_timeout": 900,
            }
        )
        session_id = result.session_id
        print(f"loaded {result.output['rows']} rows in {result.timing.total:.3f} s")

        for analysis in ["summary", "correlations", "outliers", "trends"]:
            result = client.run(
                {
                    "app": "data-processor",
                    "input": {"action": "analyze", "type": analysis},
                    "session": session_id,
                }
            )
            print(f"{analysis} ({result.timing.total:.3f} s): {in_short(analysis, result.output)}")

        client.sessions.end(session_id)


if __name__ == "__main__":
    main()
