"""`python -m warmd`: the command line, as the `warmd` script runs it."""

import sys

from warmd.cli import main

if __name__ == "__main__":
    sys.exit(main())
