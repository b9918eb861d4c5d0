"""A GPU box: all that the daemon promises of GPUs, checked and measured on a real one, in one run.

    python -m benchmarks.gpu [--only PART] [--full] [--write] [--json FILE]
    python -m benchmarks.gpu --fake                     # the same on a GPU of files: does it all work?
    python -m benchmarks.gpu --from FILE... --write     # nothing is measured: what was written by --json

It uses the first GPU that is visible, and expects to have it alone.  Needs an NVIDIA driver from 570 on, the
packages of `pip install -e '.[gpu]' torch numpy transformers safetensors` (docs/gpu.md says how without a
network), 64 GiB of host memory, and some eight minutes; each part has its own bound.

A part that fails is told with its traceback, and the others go on.  `--write` puts the table into
docs/gpu.md.  Exit status: 0; 1 where a check was wrong or a part has failed (a target that is missed is no
error); 2 where the command line asks for what cannot be done; 3 where there is no GPU.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DOCUMENT = Path(__file__).parents[1] / "docs" / "gpu.md"
NO_GPU, USAGE = 3, 2
NOT_WRITTEN = "figures of a fake GPU are not written into the documentation"


@dataclass(frozen=True, slots=True)
class Part:
    name: str
    title: str
    run: Callable[..., None]
    seconds: float
    """It is stopped then."""
    on_fake: bool


def parts() -> list[Part]:
    """In the order in which they run."""
    from benchmarks.gpuparts.moves import moves
    from benchmarks.gpuparts.returns import returns
    from benchmarks.gpuparts.shared import shared
    from benchmarks.gpuparts.starts import first_results, first_tokens
    from benchmarks.gpuparts.traced import traced
    from benchmarks.gpuparts.turns import turns

    return [
        Part("start", "A new session's first result", first_results, 90, on_fake=False),
        Part(
            "llama", "A new session's first token, 1.1 billion parameters", first_tokens, 180, on_fake=False
        ),
        Part("moves", "Parked and brought back", moves, 150, on_fake=True),
        Part("turns", "Two sessions in turn", turns, 300, on_fake=True),
        Part("trace", "More models than one GPU has room for", traced, 180, on_fake=True),
        Part("returns", "Memory is back", returns, 90, on_fake=True),
        Part("share", "Shared weights", shared, 90, on_fake=False),
    ]


def main() -> int:
    """Runs what the command line says; returns the exit status."""
    options = _options()
    if options.read:
        return _again(options)
    if options.fake and not _can_do(options):
        return USAGE
    from benchmarks.bounds import nothing_outlives
    from warmd.daemon.gpu.driver import GpuError

    with tempfile.TemporaryDirectory() as folder:
        try:
            card = _card(Path(folder), options.fake)
        except GpuError as error:
            print(f"nothing can be measured: {error.message}", file=sys.stderr)
            return NO_GPU
        os.environ.update(card.environment)
        with nothing_outlives():
            facts, found = _measured(card, options)
    return _tell(facts, found, options)


def _again(options: argparse.Namespace) -> int:
    """Tells what earlier runs have found."""
    from benchmarks.gpuparts.kept import NoFigures, put_together

    try:
        facts, found = put_together(options.read, [part.name for part in parts()])
    except NoFigures as error:
        print(f"--from: {error}", file=sys.stderr)
        return USAGE
    return _tell(facts, found, options)


def _tell(facts: dict[str, Any], found: list[Any], options: argparse.Namespace) -> int:
    from benchmarks.gpuparts.kept import is_fake
    from benchmarks.gpuparts.rows import as_markdown, replaced

    table = as_markdown(facts, found)
    print(table)
    if options.write and is_fake(facts):
        print(NOT_WRITTEN, file=sys.stderr)
        return USAGE
    if options.write:
        DOCUMENT.write_text(replaced(DOCUMENT.read_text(), table))
    return int(any(one.is_wrong for one in found))


def _card(folder: Path, is_fake: bool) -> Any:
    """Raises GpuError."""
    from benchmarks.gpuparts.cards import Fake, Nvidia

    return Fake(folder) if is_fake else Nvidia()


def _measured(card: Any, options: argparse.Namespace) -> tuple[dict[str, Any], list[Any]]:
    from benchmarks.bounds import within
    from benchmarks.gpuparts.bench import Bench
    from benchmarks.gpuparts.kept import keep
    from benchmarks.gpuparts.rows import Found
    from benchmarks.subjects import say

    bench = Bench(card, full=options.full, rounds=1 if options.fake else 3)
    facts = {"measured": time.strftime("%Y-%m-%d"), **card.facts(), **_machine()}
    found = []
    for part in _chosen(options):
        say(f"{part.name}: {part.title}")
        one = Found(part.name, part.title)
        found.append(one)
        try:
            with within(part.seconds * (10 if options.full else 1), part.title):
                part.run(bench, one)
        except Exception as error:
            one.failed(error)
        if options.json:  # after each, since what bounds the whole run may be a kill
            keep(options.json, facts, found)
    return facts, found


def _chosen(options: argparse.Namespace) -> Iterable[Part]:
    for part in parts():
        if (options.only is None or part.name in options.only) and (part.on_fake or not options.fake):
            yield part


def _can_do(options: argparse.Namespace) -> bool:
    """Says which parts a fake GPU leaves out; whether there are others."""
    asked = [part for part in parts() if options.only is None or part.name in options.only]
    if left_out := [part.name for part in asked if not part.on_fake]:
        print(f"left out, for they need a real GPU: {', '.join(left_out)}", file=sys.stderr)
    return len(left_out) < len(asked)


def _machine() -> dict[str, Any]:
    from benchmarks.facts import machine_facts

    facts = machine_facts()
    return {
        "Python": facts["python"],
        "cores": facts["cores"],
        "host memory": f"{facts['memory_gib']} GiB",
        "Linux": facts["kernel"],
        "commit": facts["commit"],
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="checks and times on a GPU")
    names = [part.name for part in parts()]
    parser.add_argument("--only", action="append", choices=names, metavar="PART", help=", ".join(names))
    parser.add_argument("--full", action="store_true", help="turns and trace on the whole GPU: half an hour")
    parser.add_argument("--fake", action="store_true", help="on a GPU of files, in seconds")
    files = {"type": Path, "nargs": "+", "metavar": "FILE", "dest": "read"}
    parser.add_argument("--from", **files, help="measure nothing: put together what --json has written")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    parser.add_argument("--write", action="store_true", help="put the table into docs/gpu.md")
    options = parser.parse_args()
    if options.write and options.fake:
        parser.error(NOT_WRITTEN)
    return options


if __name__ == "__main__":
    raise SystemExit(main())
