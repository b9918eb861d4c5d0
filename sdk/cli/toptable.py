"""What `warmd top` shows, as lines: the daemon and its GPUs, and a table of the sessions."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

from warmd.cli import gpus
from warmd.cli.sessions import state
from warmd.cli.talk import ending, short, size, span, table
from warmd.cli.topstate import Row, Top

BAR_CELLS = 10


def lines(top: Top, now: float, wall: float, is_ascii: bool) -> list[str]:
    """All of it; `wall` is the time of day, which the daemon tells ages by."""
    rows = top.rows(now)
    shown = [*_head(top, rows), *_gpus(top, is_ascii)]
    return [*shown, "", *(_table(rows, wall) if rows else ["no sessions"])]


def _head(top: Top, rows: Sequence[Row]) -> list[str]:
    status, own = top.status, top.daemon_used
    busy = sum(row.info["state"] == "busy" for row in rows)
    memory = own.memory if own else status["memory"]
    return [
        f"warmd {status['version']}{' (draining)' * top.draining}, pid {status['pid']}, "
        f"up {span(status['uptime_seconds'])}, {size(memory)}",
        f"{len(rows)} of {status['max_sessions']} sessions, {busy} busy, {status['queued']} calls waiting, "
        f"{_rate(top.calls_per_second())} calls/s",
        f"cpu {_cpu(_total(row.cpu for row in rows))} of {os.cpu_count()} cores, memory "
        f"{size(_total(row.memory for row in rows))}{_gpu_totals(rows)}",
    ]


def _gpu_totals(rows: Sequence[Row]) -> str:
    tenants = [row.info["gpu"] for row in rows if row.info.get("gpu")]
    if not tenants:
        return ""
    parked = sum(one["parked"] for one in tenants)
    on = f", on GPUs {size(sum(one['memory'] for one in tenants))}"
    return on + (f", parked {size(parked)}" if parked else "")


def _gpus(top: Top, is_ascii: bool) -> list[str]:
    full, empty = "#." if is_ascii else "█░"
    found = []
    for gpu in top.status.get("gpus") or []:
        cells = min(BAR_CELLS, round(BAR_CELLS * gpu["used"] / max(1, gpu["memory"])))
        found.append(f"gpu {gpu['index']} {full * cells}{empty * (BAR_CELLS - cells)} {gpus.line(gpu)}")
    return found


def _table(rows: Sequence[Row], wall: float) -> list[str]:
    any_gpu = any(row.info.get("gpu") for row in rows)
    heads = ["ID", "APP", "NAME", "STATE", "CPU", "MEMORY", *["GPU"] * any_gpu]
    heads += ["QUEUED", "CALLS", "CALLS/S", "AGE", "EXPIRES"]
    cells = [_cells(row, wall, any_gpu) for row in rows]
    return table(heads, [[printable(cell) for cell in line] for line in cells]).splitlines()


def _cells(row: Row, wall: float, any_gpu: bool) -> list[str]:
    info = row.info
    return [
        short(info["id"]),
        ending(info["app"]),
        info["name"] or ("(pool)" if info["kind"] == "pool" else "-"),
        state(info),
        _cpu(row.cpu),
        size(row.memory),
        *[gpus.cell(info.get("gpu"))] * any_gpu,
        str(info["queued"]),
        str(info["calls"]),
        _rate(row.calls_per_second),
        span(max(0.0, wall - info["created"])),
        span(info["expires_in"]),
    ]


def printable(text: str) -> str:
    """Without what would move the cursor: names are other people's.

    >>> printable("a\\x1b[2Jb")
    'a?[2Jb'
    """
    return text if text.isprintable() else "".join(one if one.isprintable() else "?" for one in text)


def _total(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _cpu(cores: float | None) -> str:
    return "-" if cores is None else f"{cores:.0%}"


def _rate(calls: float) -> str:
    return f"{calls:.1f}" if 0 < calls < 10 else f"{calls:.0f}"


def objects(top: Top, now: float) -> dict[str, Any]:
    """The same for programs."""
    sessions = [
        {**row.info, "cpu": row.cpu, "memory": row.memory, "calls_per_second": row.calls_per_second}
        for row in top.rows(now)
    ]
    daemon = {name: value for name, value in top.status.items() if name not in ("gpus", "no_gpus")}
    return {
        "daemon": daemon,
        "gpus": top.status.get("gpus") or [],
        "calls_per_second": top.calls_per_second(),
        "sessions": sessions,
    }
