"""What HTTP costs: the gateway beside an echo on the same server, and beside the native client.

    python -m benchmarks.gateway [--json]

In turns, a slice of each: a run that is waited for (`"wait": true`) on one warm session, from 16
connections, and the same from a bare starlette application that echoes the body, on uvicorn with the same
loop and parser; then a stream of small parts, by HTTP and by the native asyncio client.  At last 500
streams of a run that says nothing, and the daemon's processor time meanwhile.  The load comes from a
process of its own, on plain sockets: an HTTP library would cost more than what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import warmd
from benchmarks.facts import machine_facts
from benchmarks.figures import paired_ratio
from benchmarks.processes import cpu_seconds
from benchmarks.subjects import IDLE_SECONDS, say
from warmd.owndaemon import LocalClient

CONNECTIONS = 16
SLICE_SECONDS = 1.0
ROUNDS = 7
PARTS = 10_000
STREAM_ROUNDS = 5
IDLE_STREAMS = 500
IDLE_WATCH_SECONDS = 20.0
APP = """
import time

class App:
    def echo(self, input):
        return input

    def parts(self, n):
        for i in range(n):
            yield i

    def sleep(self, seconds):
        time.sleep(seconds)
"""
ECHO = """
import socket, sys
import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, Router

async def echo(request: Request) -> JSONResponse:
    return JSONResponse(await request.json())

sock = socket.create_server(("127.0.0.1", 0), backlog=512)
print(sock.getsockname()[1], flush=True)
config = uvicorn.Config(
    Router([Route("/", echo, methods=["POST"])]), loop="uvloop", http="httptools", access_log=False,
    log_level="error", lifespan="off",
)
uvicorn.Server(config).run(sockets=[sock])
"""


def measure() -> dict[str, Any]:
    """All figures."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "work.py").write_text(APP)
        daemon = stack.enter_context(warmd.local(app_folders=os.fspath(folder)))
        (gateway, pid), echo = stack.enter_context(gateway_before(daemon)), stack.enter_context(_echo())
        session = daemon.session(os.fspath(folder / "work.py"), session_timeout=IDLE_SECONDS)
        body = {"function": "echo", "input": {"by": 1}, "session": session.id, "wait": True}
        worker = session.info().pid
        pids = {"gateway": pid, "daemon": daemon.daemon_pid, "worker": worker, "load": os.getpid()}
        found = asyncio.run(_calls(gateway, echo, body, pids))
        found |= asyncio.run(_streams(daemon, gateway, session.id))
        found |= asyncio.run(_idle(daemon, gateway, session.id))
    return found


async def _calls(gateway: int, echo: int, body: dict[str, Any], pids: dict[str, int]) -> dict[str, Any]:
    slices: dict[str, list[tuple[float, float]]] = {"gateway": [], "echo": []}
    spent = dict.fromkeys(pids, 0.0)
    for _ in range(ROUNDS):
        for name, port, path in (("echo", echo, "/"), ("gateway", gateway, "/apps/run")):
            say(f"requests to the {name}")
            before = {who: cpu_seconds(pid) for who, pid in pids.items()}
            slices[name].append(await _load(port, path, body))
            if name == "gateway":
                spent = {who: spent[who] + cpu_seconds(pid) - before[who] for who, pid in pids.items()}
    rates = {name: [rate for rate, _ in one] for name, one in slices.items()}
    p50s = {name: [p50 for _, p50 in one] for name, one in slices.items()}
    runs = sum(rates["gateway"]) * SLICE_SECONDS
    return {
        "processor_seconds_of_a_run": {who: seconds / runs for who, seconds in spent.items()},
        "gateway_per_second": statistics.median(rates["gateway"]),
        "echo_per_second": statistics.median(rates["echo"]),
        "rate_ratio": paired_ratio(rates["gateway"], rates["echo"]),
        "gateway_p50_seconds": statistics.median(p50s["gateway"]),
        "echo_p50_seconds": statistics.median(p50s["echo"]),
        "p50_ratio": paired_ratio(p50s["gateway"], p50s["echo"]),
    }


async def _load(port: int, path: str, body: dict[str, Any]) -> tuple[float, float]:
    """Requests a second of all connections, and the p50 of one, in seconds."""
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data
    until = time.perf_counter() + SLICE_SECONDS
    times: list[float] = []
    await asyncio.gather(*(_ask_on(port, request, until, times) for _ in range(CONNECTIONS)))
    return len(times) / SLICE_SECONDS, statistics.median(times)


async def _ask_on(port: int, request: bytes, until: float, times: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while (begun := time.perf_counter()) < until:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        await reader.readexactly(length)
        times.append(time.perf_counter() - begun)
    writer.close()


async def _streams(daemon: LocalClient, gateway: int, session: str) -> dict[str, Any]:
    rates: dict[str, list[float]] = {"http": [], "native": []}
    async with warmd.AsyncClient(daemon.address) as client:
        for _ in range(STREAM_ROUNDS):
            say("streams")
            begun = time.perf_counter()
            count = 0
            async for _ in client.session(id=session).stream("parts", {"n": PARTS}):
                count += 1
            assert count == PARTS
            rates["native"].append(PARTS / (time.perf_counter() - begun))
            begun = time.perf_counter()
            body = {"function": "parts", "input": {"n": PARTS}, "session": session}
            lines = await _follow(gateway, body)
            rates["http"].append(lines / (time.perf_counter() - begun))
    return {
        "parts_per_second": statistics.median(rates["http"]),
        "native_parts_per_second": statistics.median(rates["native"]),
        "parts_ratio": paired_ratio(rates["http"], rates["native"]),
    }


async def _follow(port: int, body: dict[str, Any]) -> int:
    """Begin a run and read its stream to the end; how many lines that has."""
    task = await _begun(port, body)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    head = f"GET /tasks/{task}/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    writer.write(head.encode())
    count = 0
    while chunk := await reader.read(2**18):
        count += chunk.count(b'"status":')
    writer.close()
    return count


async def _begun(port: int, body: dict[str, Any]) -> str:
    data = json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"POST /apps/run HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
        % (len(data), data)
    )
    answer = await reader.read()
    writer.close()
    id: str = json.loads(answer.partition(b"\r\n\r\n")[2])["data"]["id"]
    return id


async def _idle(daemon: LocalClient, gateway: int, session: str) -> dict[str, Any]:
    task = await _begun(gateway, {"function": "sleep", "input": {"seconds": 3600}, "session": session})
    opened = [await asyncio.open_connection("127.0.0.1", gateway) for _ in range(IDLE_STREAMS)]
    for reader, writer in opened:
        writer.write(f"GET /tasks/{task}/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        await reader.readuntil(b"\n")
    say(f"watching {IDLE_STREAMS} idle streams for {IDLE_WATCH_SECONDS:g} s")
    before = cpu_seconds(daemon.daemon_pid)
    await asyncio.sleep(IDLE_WATCH_SECONDS)
    spent = cpu_seconds(daemon.daemon_pid) - before
    for _, writer in opened:
        writer.close()
    return {"idle_streams": IDLE_STREAMS, "daemon_share_of_a_core": spent / IDLE_WATCH_SECONDS}


@contextlib.contextmanager
def gateway_before(daemon: LocalClient) -> Iterator[tuple[int, int]]:
    """A gateway in a process of its own: its port and its pid."""
    ready, ready_end = os.pipe()
    with tempfile.TemporaryDirectory() as folder:
        code = (
            "import sys; from pathlib import Path; from warmd.http.keys import Keys;"
            "from warmd.http.options import Options; from warmd.http.server import serve;"
            "folder, ready = Path(sys.argv[2]), open(int(sys.argv[3]), 'w');"
            "told = lambda url: (ready.write(url), ready.close());"
            "serve(Options(open=True, port=0), sys.argv[1], folder, Keys(folder), told, log_level='warning')"
        )
        command = [sys.executable, "-c", code, daemon.address, folder, str(ready_end)]
        process = subprocess.Popen(command, pass_fds=[ready_end], stderr=subprocess.DEVNULL)
        os.close(ready_end)
        with open(ready) as told:
            yield int(told.read().rpartition(":")[2]), process.pid
        process.terminate()
        process.wait()


@contextlib.contextmanager
def _echo() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", ECHO], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield int(process.stdout.readline())
    process.terminate()
    process.wait()
    process.stdout.close()


def as_text(found: dict[str, Any], facts: dict[str, Any]) -> str:
    rows = [
        ("requests/s at 16 connections / bare echo", "at least 0.5", found["rate_ratio"]),
        ("p50 / bare echo", "at most 2.5", found["p50_ratio"]),
        ("10,000 parts: lines/s / native client's parts/s", "at least 0.3", found["parts_ratio"]),
        ("daemon's share of a core with 500 idle streams", "0", found["daemon_share_of_a_core"]),
    ]
    lines = [f"{what:52}{target:>14}{value:>10.3f}" for what, target, value in rows]
    lines += [
        "",
        f"gateway {found['gateway_per_second']:.0f}/s, p50 {found['gateway_p50_seconds'] * 1e3:.2f} ms; "
        f"echo {found['echo_per_second']:.0f}/s, p50 {found['echo_p50_seconds'] * 1e3:.2f} ms",
        "processor time of a run, us: "
        + ", ".join(f"{who} {1e6 * s:.0f}" for who, s in found["processor_seconds_of_a_run"].items()),
        f"parts {found['parts_per_second']:.0f}/s by HTTP, {found['native_parts_per_second']:.0f}/s natively",
        f"{facts['cores']} cores, {facts['cpu']}, Python {facts['python']}, {facts['commit']}",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway", description="what HTTP costs")
    parser.add_argument("--json", action="store_true", help="print JSON with the machine's facts")
    options = parser.parse_args()
    facts = machine_facts()
    found = measure()
    told = json.dumps({"machine": facts, "gateway": found}, indent=2)
    print(told if options.json else as_text(found, facts))


if __name__ == "__main__":
    main()
