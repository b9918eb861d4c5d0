"""The figures of runs, as files keep them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.gpuparts.cards import FAKE_DEVICE
from benchmarks.gpuparts.rows import Found, Row


class NoFigures(Exception):
    """A file has no figures; says which, and why."""


def keep(path: Path, facts: Mapping[str, Any], found: Sequence[Found]) -> None:
    told = {"facts": facts, "parts": [asdict(one) for one in found]}
    path.write_text(json.dumps(told, indent=2) + "\n")


def is_fake(facts: Mapping[str, Any]) -> bool:
    return facts.get("device") == FAKE_DEVICE


def put_together(paths: Sequence[Path], order: Sequence[str]) -> tuple[dict[str, Any], list[Found]]:
    """What several runs have found; of a part that was run twice the last.

    The facts are those of the last run, or of a fake one if there is any.  Raises NoFigures.
    """
    runs = [_kept(path, order) for path in paths]
    found = {one.part: one for _, several in runs for one in several}
    every = [facts for facts, _ in runs]
    facts = next(filter(is_fake, every), every[-1])
    return facts, sorted(found.values(), key=lambda one: order.index(one.part))


def _kept(path: Path, names: Sequence[str]) -> tuple[dict[str, Any], list[Found]]:
    try:
        told = json.loads(path.read_text())
    except OSError as error:
        raise NoFigures(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise NoFigures(f"{path} has no figures as --json writes them: it is no JSON ({error})") from None
    try:
        found = [_found(part) for part in told["parts"]]
        facts = dict(told["facts"].items())
    except (LookupError, TypeError, AttributeError):
        raise NoFigures(f"{path} has no figures as --json writes them") from None
    if unknown := [one.part for one in found if one.part not in names]:
        raise NoFigures(f"{path} has a part {unknown[0]!r}, there are {', '.join(names)}")
    return facts, found


def _found(part: Mapping[str, Any]) -> Found:
    return Found(**{**part, "rows": [Row(**row) for row in part["rows"]]})
