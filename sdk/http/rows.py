"""Sessions and calls as pages show them: with times of the wall instead of time that is left, as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from warmd.http.moments import now
from warmd.http.owners import LABEL
from warmd.http.progress import json_of
from warmd.http.usage import Used
from warmd.protocol import names

SAME = (
    "id", "kind", "app", "name", "state", "created", "last_call", "calls", "queued", "idle_timeout",
    "origin", "pid", "reason",
)  # fmt: skip


@dataclass(slots=True, eq=False)
class Row:
    """A session, and the key whose it is."""

    id: str
    owner: str
    pid: int | None
    is_over: bool
    json: bytes
    changed: int
    """In which change it came so."""


def row(info: Mapping[str, Any], used: Used | None, change: int) -> Row:
    labels = info["labels"]
    told = {name: info.get(name) for name in SAME}
    told["labels"] = {name: value for name, value in labels.items() if name != LABEL}
    told["running"] = _running(info)
    told["gpu"] = _gpu(info.get("gpu"))
    told["ended_at"] = info.get("ended")
    told["expires_at"] = _then(info["expires_in"])
    told["held_until"] = _then(info["held_for"])
    told["lives_until"] = _then(info["lives_for"])
    is_over = names.is_gone(info)
    told["memory"], told["cpu"] = (used if used and not is_over else None) or (info["memory"], None)
    told["progress"] = orjson.Fragment(json_of(info["progress"]))
    return Row(info["id"], labels.get(LABEL, ""), info["pid"], is_over, orjson.dumps(told), change)


def call(told: Mapping[str, Any]) -> bytes:
    """One that has ended."""
    timing = told["timing"] or {}
    fields = ("id", "session", "app", "function", "arrived", "ended", "code", "message", "ran")
    return orjson.dumps(
        {
            **{name: told[name] for name in fields},
            "cold": bool(timing.get("cold")),
            **{name: timing.get(name) for name in ("queue", "spawn", "imports", "setup", "run")},
            "first": told["first_seconds"],
        }
    )


def _running(info: Mapping[str, Any]) -> dict[str, Any] | None:
    if info["running_call"] is None:
        return None
    since = now() - (info["running_seconds"] or 0.0)
    return {"call": info["running_call"], "function": info.get("running_function") or "", "since": since}


def _gpu(told: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if told is None:
        return None
    waits = told["waits_seconds"]
    gpu = {name: value for name, value in told.items() if name != "waits_seconds"}
    return {**gpu, "waits_since": None if waits is None else now() - waits}


def _then(seconds: float | None) -> float | None:
    return None if seconds is None else now() + seconds
