"""What the ready apps gain: the same job in a script of its own, in a new session, in a warm one.

    python -m benchmarks.apps [--only APP] [--json] [--write]

In turns: a Python process that does the job once with the app's own class and ends; the first result of a
new session, its setup included, of an app that the daemon knows; calls to one session that is warm.
`--write` puts the table into the README.  Needs the packages of all apps, as `make test` installs them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import warmd
from benchmarks.facts import machine_facts
from benchmarks.subjects import say
from warmd.cli.talk import table
from warmd.owndaemon import LocalClient

ROUNDS = 3
WARM_CALLS = 20
SCRIPT_SECONDS = 300.0
ROWS = 5_000_000
PAGE = "data:text/html,<button id='ok' onclick='this.textContent++'>0</button>"
README = Path(__file__).parents[1] / "README.md"
BEGIN = "<!-- apps: written by python -m benchmarks.apps --write -->"
END = "<!-- end of apps -->"

Step = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class Job:
    app: str
    what: str
    target: tuple[str, str]
    """Module and class."""
    first: list[Step]
    """What a fresh process has to do, up to the first result."""
    again: Step
    """What is asked of a warm session."""


@dataclass(frozen=True)
class Figures:
    """Seconds, medians."""

    app: str
    what: str
    script: float
    new_session: float
    warm_call: float

    @property
    def times_sooner(self) -> float:
        return self.script / self.warm_call


def jobs(folder: Path) -> Iterator[Job]:
    """All of them; what they work on is made in `folder`."""
    click: Step = ("click", {"selector": "#ok"})
    shot: Step = ("screenshot", {})
    for what, step in (("a click in Chromium", click), ("a screenshot in Chromium", shot)):
        target = ("warmd.apps.browser", "Browser")
        yield Job("browser", what, target, [("start", {"url": PAGE}), step], step)
    ask: Step = ("run", {"input": {"message": "What is a llama?", "max_tokens": 1, "seed": 1}})
    yield Job("chat", "the first token of an answer, SmolLM2 135M", ("warmd.apps.chat", "Chat"), [ask], ask)
    from warmd.apps.data.example import write_example

    dataset = str(write_example(folder / "events.parquet", ROWS))
    analyze: Step = ("analyze", {"type": "correlations"})
    yield Job(
        "data", f"correlations of {ROWS / 1e6:g} million rows", ("warmd.apps.data", "Data"),
        [("load", {"dataset": dataset}), analyze], analyze,
    )  # fmt: skip
    embed: Step = ("embed", {"texts": "The quick brown fox jumps over the lazy dog."})
    yield Job("embeddings", "a sentence, MiniLM-L6", ("warmd.apps.embeddings", "Embeddings"), [embed], embed)
    model, sample = _forest(folder)
    predict: Step = ("predict", {"data": sample})
    yield Job(
        "predict", "a digit by a forest of scikit-learn", ("warmd.apps.predict", "Predict"),
        [("load_model", {"model": model, "trusted": True}), predict], predict,
    )  # fmt: skip
    cell: Step = ("run", {"input": {"code": "values.sum()"}})
    yield Job(
        "python", "a cell on values of an earlier one", ("warmd.apps.python", "Python"),
        [("run", {"input": {"code": "import numpy\nvalues = numpy.arange(10**6)"}}), cell], cell,
    )  # fmt: skip


def _forest(folder: Path) -> tuple[str, list[float]]:
    """A model that was really trained, and one of the digits."""
    import joblib
    from sklearn.datasets import load_digits
    from sklearn.ensemble import RandomForestClassifier

    digits = load_digits()
    model = RandomForestClassifier(n_estimators=100, random_state=1).fit(digits.data, digits.target)
    path = folder / "digits.joblib"
    joblib.dump(model, path)
    return str(path), digits.data[0].tolist()


def measured(client: LocalClient, job: Job, rounds: int = ROUNDS, calls: int = WARM_CALLS) -> Figures:
    """In turns, so that what else goes on hits all three alike."""
    scripts, sessions, warm = [], [], []
    with _session(client, job) as (kept, _):  # the app is known from now on
        for _ in range(rounds):
            scripts.append(_seconds(lambda: _script(job)))
            with _session(client, job) as (_, seconds):
                sessions.append(seconds)
            warm += [_seconds(lambda: _call(kept, job.again)) for _ in range(calls)]
    return Figures(job.app, job.what, *map(statistics.median, (scripts, sessions, warm)))


def _script(job: Job) -> None:
    command = [sys.executable, "-m", "benchmarks.apponce", json.dumps([*job.target, job.first])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SCRIPT_SECONDS, check=False)
    if done.returncode:
        raise RuntimeError(f"the script of {job.app} failed:\n{done.stderr[-2000:]}")


@contextmanager
def _session(client: LocalClient, job: Job) -> Iterator[tuple[Any, float]]:
    """A new session that has given its first result, and how long that took."""
    begun = time.perf_counter()
    with client.session(job.app, session_timeout="1h") as session:
        for step in job.first:
            _call(session, step)
        yield session, time.perf_counter() - begun


def _call(session: Any, step: Step) -> None:
    function, given = step
    session.call(function, given.get("input", given))


def _seconds(work: Callable[[], None]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def rows(found: list[Figures]) -> list[list[str]]:
    """The table's lines."""
    return [
        [one.app, one.what, _span(one.script), _span(one.new_session), _span(one.warm_call),
         f"{one.times_sooner:.2g} ×" if one.times_sooner < 100 else f"{one.times_sooner:.0f} ×"]
        for one in found
    ]  # fmt: skip


HEAD = ["app", "job", "a script of its own", "a new session", "a warm call", "sooner"]


def _span(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def as_markdown(found: list[Figures]) -> str:
    lines = [HEAD, ["---"] * len(HEAD), *rows(found)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", metavar="APP", action="append", help="this app; repeatable")
    parser.add_argument("--json", action="store_true", help="figures and the machine's facts")
    parser.add_argument("--write", action="store_true", help="put the table into the README")
    options = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as folder, warmd.local(max_session_timeout="1h") as client:
        for job in jobs(Path(folder)):
            if options.only is None or job.app in options.only:
                say(f"{job.app}: {job.what}")
                found.append(measured(client, job))
    if options.json:
        print(json.dumps({"machine": machine_facts(), "figures": [asdict(one) for one in found]}, indent=2))
    else:
        print(table(HEAD, rows(found)))
    if options.write:
        before, rest = README.read_text().split(BEGIN)
        after = rest.split(END)[1]
        README.write_text(f"{before}{BEGIN}\n{as_markdown(found)}\n{END}{after}")


if __name__ == "__main__":
    main()
