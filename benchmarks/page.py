"""What the dashboard costs, and whether it keeps up: 200 sessions, 50 calls a second, a real Chromium.

    python -m benchmarks.page [--minutes 10] [--sessions 200] [--rate 50] [--json]

First the p50 of a warm call with the page open and without it, in turns; then the page stays open for
the minutes given, with all rows shown, and is asked for its long tasks (tasks of more than 50 ms, as the
browser itself counts them) and for the size of its heap, after a collection, each half minute.  Calls come
from a process of their own, at random sessions; the browser has no GPU, and shares the cores with all else.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import warmd
from benchmarks.facts import machine_facts
from benchmarks.figures import Target, paired_ratio
from benchmarks.gateway import gateway_before
from benchmarks.processes import cpu_seconds
from benchmarks.subjects import say

if TYPE_CHECKING:
    from playwright.sync_api import CDPSession, Page

ROUNDS = 8
SLICE_SECONDS = 5.0
PROBE_PAUSE_SECONDS = 0.005
WARM_UP_SECONDS = 20.0
LOOK_SECONDS = 30.0
NEXT_FRAME = "new Promise(resolve => requestAnimationFrame(() => setTimeout(resolve)))"
WATCH_LONG_TASKS = """
window.longTasks = [];
new PerformanceObserver(list => { for (const task of list.getEntries()) longTasks.push(task.duration) })
    .observe({type: "longtask", buffered: true});
"""


async def load(address: str, sessions: list[str], rate: float) -> None:
    """Calls at random sessions, so many a second, until it is killed."""
    async with warmd.AsyncClient(address) as client:
        under_way: set[asyncio.Task[Any]] = set()
        due = time.monotonic()
        while True:
            call = client.run(session=random.choice(sessions), function="incr", input={})
            task = asyncio.ensure_future(call)
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            due += 1 / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))


@contextlib.contextmanager
def _loaded(address: str, sessions: list[str], rate: float) -> Iterator[None]:
    command = [sys.executable, "-m", "benchmarks.page", "--load", json.dumps([address, sessions, rate])]
    process = subprocess.Popen(command)
    try:
        yield
        assert process.poll() is None, "the load has ended by itself"
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def _chromium() -> Iterator[tuple[Page, CDPSession]]:
    from tests.page.chromium import launch

    with launch() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.add_init_script(WATCH_LONG_TASKS)
        yield page, page.context.new_cdp_session(page)


def _p50(client: warmd.Client, session: str) -> float:
    """Of warm calls for a slice of time, each some milliseconds after the one before."""
    times, end = [], time.monotonic() + SLICE_SECONDS
    while time.monotonic() < end:
        began = time.perf_counter()
        client.run(session=session, function="incr", input={})
        times.append(time.perf_counter() - began)
        time.sleep(PROBE_PAUSE_SECONDS)
    return statistics.median(times)


def _in_turns(client: warmd.Client, session: str, page: Page, url: str) -> dict[str, Any]:
    p50s: dict[str, list[float]] = {"without": [], "with": []}
    for number in range(ROUNDS):
        for name in ("without", "with") if number % 2 else ("with", "without"):
            page.goto(url if name == "with" else "about:blank")
            if name == "with":
                page.wait_for_selector("table tbody tr")
            p50s[name].append(_p50(client, session))
    return {
        "p50_us_without": 1e6 * statistics.median(p50s["without"]),
        "p50_us_with": 1e6 * statistics.median(p50s["with"]),
        "p50_ratio": paired_ratio(p50s["with"], p50s["without"]),
    }


def _watched(page: Page, cdp: CDPSession, url: str, minutes: float, pids: dict[str, int]) -> dict[str, Any]:
    """The page's heap and long tasks while it stays open."""
    page.goto(url)
    page.wait_for_selector("table tbody tr")
    page.get_by_role("button", name="Show all").click()
    page.wait_for_timeout(1000 * WARM_UP_SECONDS)
    opening = page.evaluate("longTasks.splice(0)")
    _check_observer(page)
    heaps, nodes = [], []
    began, before = time.monotonic(), {name: cpu_seconds(pid) for name, pid in pids.items()}
    while time.monotonic() - began < 60 * minutes:
        before_collection = page.evaluate("longTasks.length")
        cdp.send("HeapProfiler.collectGarbage")
        page.evaluate(f"{NEXT_FRAME}.then(() => longTasks.length = {before_collection})")
        heaps.append(cdp.send("Runtime.getHeapUsage")["usedSize"] / 2**20)
        nodes.append(page.evaluate("document.querySelectorAll('*').length"))
        say(f"{(time.monotonic() - began) / 60:.1f} min: {heaps[-1]:.1f} MiB, {nodes[-1]} elements")
        page.wait_for_timeout(1000 * LOOK_SECONDS)
    took = time.monotonic() - began
    tasks = page.evaluate("longTasks")
    third = max(1, len(heaps) // 3)
    return {
        "minutes": took / 60,
        "rows": page.locator("table").first.locator("tbody tr").count(),
        "opening_longest_ms": max(opening, default=0.0),
        "long_tasks": len(tasks),
        "longest_task_ms": max(tasks, default=0.0),
        "heap_mib": heaps,
        "heap_growth": statistics.median(heaps[-third:]) / statistics.median(heaps[:third]),
        "elements": nodes[-1],
        "cores": {name: (cpu_seconds(pid) - before[name]) / took for name, pid in pids.items()},
    }


def _check_observer(page: Page) -> None:
    """A task that is long is counted, or nothing that is counted here means anything."""
    page.evaluate("setTimeout(() => { const until = Date.now() + 90; while (Date.now() < until); })")
    page.wait_for_timeout(1000)
    seen = page.evaluate("longTasks.splice(0)")
    assert seen and max(seen) >= 80, f"a task of 80 ms was made, and {seen} was counted"


def measure(minutes: float, sessions: int, rate: float) -> dict[str, Any]:
    """All figures."""
    with contextlib.ExitStack() as stack:
        daemon = stack.enter_context(warmd.local(max_sessions=sessions + 1))
        gateway, gateway_pid = stack.enter_context(gateway_before(daemon))
        say(f"opening {sessions} sessions")
        opened = [daemon.run(app="counter", session="new", session_timeout=3600) for _ in range(sessions)]
        ids = [one.session_id for one in opened]
        probe, *others = [id for id in ids if id]
        stack.enter_context(_loaded(daemon.address, others, rate))
        page, cdp = stack.enter_context(_chromium())
        url = f"http://127.0.0.1:{gateway}/"
        found = _in_turns(daemon, probe, page, url)
        pids = {"gateway": gateway_pid, "daemon": daemon.daemon_pid}
        return found | _watched(page, cdp, url, minutes, pids)


def targets(found: dict[str, Any]) -> list[Target]:
    return [
        Target("p50 of a warm call, with the page : without", found["p50_ratio"], 1.2),
        Target("longest task of the page", found["longest_task_ms"], 100, unit=" ms"),
        Target("heap, last third of the time : first", found["heap_growth"], 1.1),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--rate", type=float, default=50.0, help="calls a second")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--load", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.load:
        asyncio.run(load(*json.loads(given.load)))
        return
    found = measure(given.minutes, given.sessions, given.rate)
    verdicts = targets(found)
    if given.json:
        print(json.dumps({"machine": machine_facts(), **found, "targets": [asdict(one) for one in verdicts]}))
        return
    for name, value in found.items():
        print(f"{name:24} {value if not isinstance(value, float) else f'{value:.3g}'}")
    for one in verdicts:
        print(f"{one.text}: {one.value:.3g}{one.unit}, at most {one.limit:g}{one.unit}: {one.verdict}")


if __name__ == "__main__":
    main()
