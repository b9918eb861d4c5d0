"""One of several client processes: for each number on its input it makes so many calls, then says "done".

    python -m benchmarks.client_process floor ADDRESS
                                        warmd | paced ADDRESS SESSION
                                        loky WORKERS

Paced is warmd with a pause after each call, in which all processes come to rest.  Loky with several
workers is one pool, which as many threads call.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from benchmarks.peers.children import child, first_line

ENDING_SECONDS = 10.0
WARM_UP_CALLS = 32
PAUSE_SECONDS = 0.001


@contextlib.contextmanager
def running_clients(arguments: Sequence[Sequence[str]]) -> Iterator[Callable[[int], None]]:
    """A client process for each of `arguments`; the function has all together make so many calls."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(child(__name__, *one)) for one in arguments]
        stack.callback(_dismiss, clients)
        for client in clients:
            first_line(client)
        yield lambda calls: _make(clients, calls // len(clients))


def _dismiss(clients: Sequence[subprocess.Popen[bytes]]) -> None:
    """Let them end by themselves, so that they end their own pools."""
    for client in clients:
        assert client.stdin is not None
        client.stdin.close()
    for client in clients:
        with contextlib.suppress(subprocess.TimeoutExpired):
            client.wait(ENDING_SECONDS)


def _make(clients: Sequence[subprocess.Popen[bytes]], calls: int) -> None:
    for client in clients:
        assert client.stdin is not None
        client.stdin.write(b"%d\n" % calls)
        client.stdin.flush()
    for client in clients:
        first_line(client)


def caller(kind: str, *arguments: str) -> Callable[[], object]:
    """What makes one call; whatever it needs is started."""
    if kind == "floor":
        from benchmarks.floor import FloorClient

        return FloorClient(*arguments).call
    if kind in ("warmd", "paced"):
        import warmd
        from benchmarks.subjects import Counted

        address, session = arguments
        call = Counted(warmd.Client(address), session).call
        return call if kind == "warmd" else paced(call)
    from loky.process_executor import ProcessPoolExecutor

    from benchmarks.peers import work

    pool = ProcessPoolExecutor(max_workers=int(arguments[0]))
    return lambda: pool.submit(work.incr, 1).result()


def paced(call: Callable[[], object]) -> Callable[[], None]:
    def call_and_rest() -> None:
        call()
        time.sleep(PAUSE_SECONDS)

    return call_and_rest


def main(kind: str, *arguments: str) -> None:
    """Until its input ends."""
    call = caller(kind, *arguments)
    threads = int(arguments[0]) if kind == "loky" else 1
    with ThreadPoolExecutor(threads) as callers:
        list(callers.map(lambda _: call(), range(WARM_UP_CALLS)))
        print("ready", flush=True)
        for line in sys.stdin:
            shares = [int(line) // threads] * threads
            list(callers.map(lambda share: [call() for _ in range(share)], shares))
            # The line at once, also where nothing is buffered: whoever traces this awaits its first byte.
            sys.stdout.write("done\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
