"""What an agent does with a code interpreter: cells that build on each other, a plot, a mistake.

pip install 'warmd[python]'
python examples/python/code_cells.py [FOLDER FOR THE PLOT]
"""

import sys
from pathlib import Path

import warmd

CELLS = [
    "temperatures = [12.1, 13.4, 15.0, 14.2, 16.8, 18.1, 17.5]\nprint(len(temperatures), 'days')",
    "mean = sum(temperatures) / len(temperatures)\nround(mean, 2)",
    "import matplotlib.pyplot as plt\nplt.plot(temperatures, marker='o')\nplt.axhline(mean, linestyle=':');",
    "temperatures['monday']",
    "temperatures[0]  # the variables are still there",
]


def main(folder: Path) -> None:
    with warmd.Client() as client, client.session("python", session_timeout="10m") as session:
        for code in CELLS:
            result = session.run({"code": code})
            cell = result.output
            took = f"{result.timing.total * 1000:.0f} ms"
            print(f"[{cell['execution_count']}] {code.splitlines()[-1]}  ({took})")
            if cell["stdout"]:
                print(f"    wrote: {cell['stdout'].rstrip()}")
            if cell["result"] is not None:
                print(f"    value: {cell['result']}")
            for plot in cell["plots"]:
                path = folder / "plot.png"
                path.write_bytes(plot)
                print(f"    plot: {path} ({len(plot)} bytes)")
            if cell["error"] is not None:  # for the agent to read; the call itself went well
                print(f"    error: {cell['error']['type']}: {cell['error']['message']}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path())
