"""GPUs in words: what a session has of them, and what a daemon sees of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from warmd.cli.talk import size, span

Gpu = Mapping[str, Any]
"""Of `status`: id, index, name, memory, used, utilization, sessions, others, shows_processes."""
HIDDEN = "whose it is cannot be told in this container, whose pids the driver does not know"
QUIET = ("no NVIDIA driver", "GPUs are left alone")
"""Why there are no GPUs, where nobody would expect any."""
MOST_PIDS = 5


def cell(gpu: Mapping[str, Any] | None) -> str:
    """What a session has, for a table.

    >>> cell(None), cell({"waits_seconds": 12.3, "parked": 0, "memory": 0})
    ('-', 'waits 12s')
    >>> cell({"waits_seconds": None, "parked": 2**33, "memory": 5}), cell({"parked": 0, "memory": 2**33})
    ('parked 8.0G', '8.0G')

    Nothing is measured in the first second of a session; in brackets is what is reserved for it.

    >>> cell({"memory": 0, "reserved": 2**33}), cell({"memory": 0, "reserved": 0})
    ('(8.0G)', '-')
    """
    if gpu is None:
        return "-"
    if gpu.get("waits_seconds") is not None:
        return f"waits {span(gpu['waits_seconds'])}"
    if gpu.get("parked"):
        return f"parked {size(gpu['parked'])}"
    if gpu.get("memory"):
        return size(gpu["memory"])
    return f"({size(gpu['reserved'])})" if gpu.get("reserved") else "-"


def facts(gpu: Mapping[str, Any], known: Sequence[Gpu]) -> list[str]:
    """All that is known of what a session has, a line each; `known` are the daemon's GPUs."""
    lines = [_where(gpu, {one["id"]: one for one in known})]
    if gpu["waits_seconds"] is not None:
        lines.append(f"waits for room, for {span(gpu['waits_seconds'])}; `warmd why` says who has it")
    if gpu["moves"]:
        back = "" if gpu["unpark_seconds"] is None else f", and {span(gpu['unpark_seconds'])} back"
        times = "once" if gpu["moves"] == 1 else f"{gpu['moves']} times"
        lines.append(f"parked {times}; it took {span(gpu['park_seconds'])}{back}, the last time")
    if gpu["kept"]:
        lines.append(f"is not parked: {gpu['kept']}")
    return [line for line in lines if line]


def places(gpu: Mapping[str, Any], known: Sequence[Gpu]) -> str:
    """The GPUs that a session has something on."""
    names = {one["id"]: one for one in known}
    return ", ".join(_named(id, names) for id in gpu["gpus"])


def _where(gpu: Mapping[str, Any], known: Mapping[str, Gpu]) -> str:
    on = ", ".join(f"{size(bytes)} on {_named(id, known)}" for id, bytes in gpu["gpus"].items())
    reserved = size(gpu["reserved"])
    if gpu["parked"]:
        return f"{size(gpu['parked'])} in host memory, {on}; it comes back when {reserved} are free there"
    if on and gpu["memory"] > gpu["reserved"] > 0:
        remedy = "let gpu in its app.toml say what it needs"
        return f"{on}; more than the {reserved} that its app asks for: {remedy}"
    return f"{on}; {reserved} are reserved" if on else ""


def _named(id: str, known: Mapping[str, Gpu]) -> str:
    found = known.get(id)
    return id if found is None else f"GPU {found['index']} ({found['name']})"


def lines(found: Mapping[str, Any]) -> list[str]:
    """The GPUs of a daemon's `status`, a line each; or why it has none, where that is a surprise."""
    why, gpus = str(found.get("no_gpus") or ""), found.get("gpus") or []
    told = [f"gpu {gpu['index']}:".ljust(10) + line(gpu) for gpu in gpus]
    if told and not found.get("sessions"):
        told[-1] += " (when last looked at: nobody looks while there are no sessions)"
    if why and not why.startswith(QUIET):
        told.append(f"no gpus:  {why}")
    return told


def line(gpu: Gpu) -> str:
    """One GPU: its name, how full and busy it is, and who has how much."""
    text = f"{gpu['name']}, {size(gpu['used'])} of {size(gpu['memory'])} used"
    if gpu["utilization"] is not None:
        text += f", {gpu['utilization']}% busy"
    return "; ".join([text, *holders(gpu)])


def holders(gpu: Gpu) -> list[str]:
    """Sessions, other programs, or why they cannot be told."""
    if not gpu["shows_processes"]:
        return [HIDDEN] if gpu["used"] else []
    told = []
    if of := gpu["sessions"]:
        told.append(f"{len(of)} session{'s' * (len(of) > 1)} {size(sum(of.values()))}")
    if others := gpu["others"]:
        memory = sum(one["memory"] or 0 for one in others)
        pids = [str(one["pid"]) for one in others[:MOST_PIDS]] + ["..."] * (len(others) > MOST_PIDS)
        told.append(f"other programs {size(memory)} (pid{'s' * (len(others) > 1)} {', '.join(pids)})")
    return told
