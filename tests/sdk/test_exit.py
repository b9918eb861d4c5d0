"""A program that ends without closing its client ends at once, and without a word about it."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from tests.sdk.conftest import zoo

PROGRAMS = {
    "idle": "",
    "exit": "sys.exit(0)",
    "stream": """
        stream = client.stream(app="counter", function="count_up", input={"n": 100000})
        next(stream)
        """,
    "thread": f"""
        import threading
        call = client.submit(app={zoo("Hangs")!r}, function="sleep")
        threading.Thread(target=call.result, daemon=True).start()
        while call.status()["progress"] is None:
            pass
        """,
    "fork": """
        import multiprocessing
        context = multiprocessing.get_context("fork")
        with context.Pool(2) as pool:
            assert pool.map(abs, [-1, -2]) == [1, 2]
        child = context.Process(target=client.status)
        child.start()
        child.join()
        assert child.exitcode == 0
        client.status()
        """,
    "async": f"""
        import asyncio
        async def main():
            other = warmd.AsyncClient(sys.argv[1])
            task = asyncio.create_task(other.run(app={zoo("Hangs")!r}, function="sleep"))
            await other.status()
        asyncio.run(main())
        """,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_unclosed_client_neither_hangs_nor_complains_at_exit(name: str, address: str) -> None:
    start = "import sys, warmd\nclient = warmd.Client(sys.argv[1])\nclient.status()\n"
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", start + textwrap.dedent(PROGRAMS[name]), address],
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
