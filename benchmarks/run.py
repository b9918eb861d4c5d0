"""All benchmarks: warmd beside its floors and its peers, in turns, in one run.

    python -m benchmarks.run [--smoke] [--only ROW] [--json FILE] [--write]

What needs something that is not there is left out, with the reason.  The exit code is 1 when
something went wrong; a target that is missed is not an error, and is called MISSED.
"""

# Worker processes of pools import this module again: what is imported up here, they would pay for.
from __future__ import annotations

import argparse
import json
from pathlib import Path

DOCUMENT = Path(__file__).parents[1] / "docs" / "benchmarks.md"
PLOTS = "plots"


def main() -> int:
    """Runs what the command line says; returns the exit code."""
    from benchmarks import netns
    from benchmarks.bounds import nothing_outlives
    from benchmarks.compare import compare, names_of_rows

    options = _options(names_of_rows())
    netns.enter()
    with nothing_outlives():
        outcome = compare(options.only, options.smoke, options.sessions)
    from benchmarks.report import as_markdown, replaced

    if options.json:
        options.json.write_text(json.dumps(outcome.as_json(), indent=2) + "\n")
    print(as_markdown(outcome))
    if options.write:
        from benchmarks.plots import draw

        drawn = draw(outcome.reports, DOCUMENT.parent / PLOTS)
        places = {key: f"{PLOTS}/{name}" for key, name in drawn.items()}
        DOCUMENT.write_text(replaced(DOCUMENT.read_text(), as_markdown(outcome, places)))
    return 1 if outcome.failed else 0


def _options(rows: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description="all benchmarks")
    parser.add_argument(
        "--smoke", action="store_true", help="a short run, under 3 minutes: does it all work?"
    )
    parser.add_argument(
        "--only", action="append", choices=rows, metavar="ROW", help="one row, repeatable: " + ", ".join(rows)
    )
    parser.add_argument("--sessions", type=int, help="idle sessions of the row idle (default 1000, smoke 20)")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write all figures, with the machine's facts"
    )
    parser.add_argument(
        "--write", action="store_true", help="put the table and its plots into docs/benchmarks.md"
    )
    options = parser.parse_args()
    if options.sessions is not None and options.sessions < 1:
        parser.error(f"--sessions is {options.sessions}, it must be at least 1")
    return options


if __name__ == "__main__":
    raise SystemExit(main())
