"""The command line.

`main` is the console script.  Commands live one file a group and are imported only when they are
used: `warmd --help` loads click and nothing else of weight.
"""

from __future__ import annotations

from collections.abc import Sequence

INTERRUPTED = 130
"""The exit code after Ctrl-C, by a shell's convention."""
JSON_FLAG = "--json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line with `arguments` (default `sys.argv[1:]`); returns the exit code."""
    try:
        from warmd.cli.root import run

        return run(arguments)
    except KeyboardInterrupt:
        return INTERRUPTED
