"""`python -m warmd.daemon.worker DOOR`: how another interpreter becomes a worker."""

import sys

from warmd.daemon.worker.main import start_worker

# The spawn method of multiprocessing imports this module again in the app's own child processes.
if __name__ == "__main__":
    start_worker(sys.argv[1])
