"""Load data once, analyse it four times.

python examples/pipeline.py
"""

import csv
import random
import tempfile
from pathlib import Path

import warmd

APP = Path(__file__).parent / "apps" / "data-processor"
ROWS = 50_000


def write_dataset(path: Path) -> None:
    """Days with a slowly rising temperature, and ice cream sold accordingly."""
    rng = random.Random(1)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["temperature", "ice_cream", "coin"])
        for day in range(ROWS):
            temperature = 15 + day / ROWS * 5 + rng.gauss(0, 4)
            writer.writerow([temperature, 20 * temperature + rng.gauss(0, 50), rng.randint(0, 1)])


def main() -> None:
    with warmd.Client() as client, tempfile.TemporaryDirectory() as folder:
        dataset = Path(folder) / "large_dataset.csv"
        write_dataset(dataset)
        result = client.run(
            {
                "app": APP,
                "input": {"action": "load", "dataset": str(dataset)},
                "session": "new",
                "session_timeout": 900,
            }
        )
        session_id = result.session_id
        print(f"loaded {result.output['rows']} rows in {result.timing.total:.3f} s")

        for analysis in ["summary", "correlations", "outliers", "trends"]:
            result = client.run(
                {"app": APP, "input": {"action": "analyze", "type": analysis}, "session": session_id}
            )
            print(f"{analysis} ({result.timing.total:.3f} s): {result.output}")

        client.sessions.end(session_id)


if __name__ == "__main__":
    main()
