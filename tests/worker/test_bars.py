from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.worker.daemon import PATIENCE_SECONDS, FakeDaemon
from warmd.protocol.values import unpack
from warmd.protocol.work import Interrupted, Progressed, Raised, Ready, Returned

APP = '''
import sys, time
import warmd
{imports}


class App:
    def setup(self):
        self.kept = None

    def count(self, total=3):
        from tqdm import tqdm
        for _ in tqdm(range(total), desc="counting", unit="step", mininterval=0):
            pass

    def nested(self):
        from tqdm.auto import tqdm, trange
        for _ in tqdm(range(2), desc="outer", mininterval=0):
            for _ in trange(3, desc="inner", mininterval=0):
                pass

    def manual(self):
        from tqdm import tqdm
        with tqdm(unit="B", mininterval=0) as bar:
            bar.update(10)

    def disabled(self):
        from tqdm import tqdm
        for _ in tqdm(range(3), disable=True, mininterval=0):
            pass

    def by_itself(self):
        from tqdm import tqdm
        warmd.context.progress("mine")
        for _ in tqdm(range(3), mininterval=0):
            pass

    def broken(self):
        from tqdm import tqdm
        class Odd(tqdm):
            @property
            def format_dict(self):
                return {{"elapsed": "soon"}}
            def __str__(self):
                return "odd"
        return sum(Odd(range(3), mininterval=0))

    def numpy(self):
        import numpy
        from tqdm import tqdm
        with tqdm(total=numpy.int64(4), mininterval=0) as bar:
            bar.update(numpy.int64(3))

    def raising(self):
        from tqdm import tqdm
        for n in tqdm(range(3), mininterval=0):
            if n == 1:
                raise ValueError("no more")

    def keep(self):
        from tqdm import tqdm
        self.kept = tqdm(total=5, mininterval=0)

    def forever(self):
        from tqdm import tqdm
        import itertools
        try:
            for _ in tqdm(itertools.count(), mininterval=0):
                pass
        finally:
            self.left = True

    def in_memory(self):
        import io
        from tqdm import tqdm
        drawn = io.StringIO()
        for _ in tqdm(range(3), file=drawn, mininterval=0):
            pass
        return drawn.getvalue().count("\\r")

    def leave_thread(self):
        import threading
        from tqdm import tqdm
        self.go, self.gone = threading.Event(), threading.Event()
        begun = threading.Event()
        def run():
            bar = tqdm(total=4, desc="thread", mininterval=0)
            begun.set()
            self.go.wait(10)
            bar.update(1)
            self.gone.set()
            bar.close()
        self.thread = threading.Thread(target=run)
        self.thread.start()
        begun.wait(10)

    def end_thread(self):
        from tqdm import tqdm
        self.go.set()
        self.gone.wait(10)
        self.thread.join()
        for _ in tqdm(range(2), desc="own", mininterval=0):
            pass

    def many(self):
        from tqdm import tqdm
        for _ in tqdm(range(1000), desc="many", mininterval=0, miniters=1):
            tqdm.write("said", file=sys.stderr) if _ == 500 else None
        for _ in tqdm(range(1000), desc="gone", mininterval=0, miniters=1, leave=False):
            for _ in tqdm(range(2), desc="inner", mininterval=0, leave=False):
                pass

    def modules(self):
        return [name for name in sys.modules if name.startswith("tqdm")]

    def finders(self):
        return [type(finder).__name__ for finder in sys.meta_path]
'''


def start(daemon: FakeDaemon, folder: Path, imports: str = "") -> FakeDaemon:
    (folder / "bars_app.py").write_text(APP.format(imports=imports))
    ready = daemon.start("bars_app:App", paths=(str(folder),))
    assert isinstance(ready, Ready), ready
    return daemon


@pytest.fixture
def app(daemon: FakeDaemon, tmp_path: Path) -> FakeDaemon:
    return start(daemon, tmp_path)


def told(app: FakeDaemon, function: str) -> list[Any]:
    """What a call that goes well tells of itself."""
    app.invoke(function)
    progress = []
    while isinstance(message := app.next(), Progressed):
        progress.append(unpack(message.value))
    assert isinstance(message, Returned), message
    return progress


def steps(progress: list[Any]) -> list[Any]:
    return [(one["n"], one["total"]) for one in progress]


def test_a_bar_is_the_progress_of_its_call(app: FakeDaemon) -> None:
    progress = told(app, "count")
    assert steps(progress)[0] == (0, 3) and steps(progress)[-1] == (3, 3)
    last = progress[-1]
    assert set(last) == {"n", "total", "unit", "desc", "rate", "elapsed"}
    assert (last["unit"], last["desc"]) == ("step", "counting")
    assert last["elapsed"] > 0 and last["rate"] == pytest.approx(3 / last["elapsed"])
    assert told(app, "count")[-1]["n"] == 3


def test_what_is_not_known_is_none(app: FakeDaemon) -> None:
    first, *_, last = told(app, "manual")
    assert (first["n"], first["total"], first["desc"], first["rate"]) == (0, None, None, None)
    assert (last["n"], last["unit"]) == (10, "B")


def test_of_nested_bars_the_outermost_one_tells(app: FakeDaemon) -> None:
    assert {one["desc"] for one in told(app, "nested")} == {"outer"}


def test_one_that_is_disabled_tells_nothing(app: FakeDaemon) -> None:
    assert told(app, "disabled") == []


def test_what_the_app_tells_by_itself_goes_before(app: FakeDaemon) -> None:
    assert told(app, "by_itself") == ["mine"]
    assert told(app, "count")


def test_an_odd_bar_does_not_end_its_loop(app: FakeDaemon) -> None:
    assert app.value("broken") == 3


def test_numbers_of_numpy(app: FakeDaemon) -> None:
    assert steps(told(app, "numpy"))[-1] == (3.0, 4.0)


def test_a_bar_that_another_call_left_open_is_not_this_ones(app: FakeDaemon) -> None:
    assert told(app, "keep")
    assert {one["desc"] for one in told(app, "count")} == {"counting"}


def test_a_thread_that_another_call_left_is_not_this_ones(app: FakeDaemon) -> None:
    assert {one["desc"] for one in told(app, "leave_thread")} == {"thread"}
    assert {one["desc"] for one in told(app, "end_thread")} == {"own"}


def test_the_apps_errors_come_through(app: FakeDaemon) -> None:
    reply = app.call("raising")
    assert isinstance(reply, Raised) and reply.message == "no more"


def test_an_interrupt_comes_through(app: FakeDaemon) -> None:
    ordinal = app.entered("forever")
    assert isinstance(app.interrupt_until_reply(ordinal), Interrupted)
    assert told(app, "count")


def test_the_log_has_the_closing_line_and_no_drawings(app: FakeDaemon) -> None:
    told(app, "many")
    log = app.log.read_bytes().decode()
    assert log.count("many: 100%") == 1 and "1000/1000" in log
    assert "said" in log
    assert "gone" not in log and "inner" not in log
    assert len(log) < 1000 and log.count("\n") == 2, log


def test_a_bar_that_draws_elsewhere_does_so(app: FakeDaemon) -> None:
    assert app.value("in_memory") >= 3


def test_imported_by_the_app_at_its_import(daemon: FakeDaemon, tmp_path: Path) -> None:
    start(daemon, tmp_path, "from tqdm import tqdm\nfor _ in tqdm(range(3)):\n    pass")
    assert steps(told(daemon, "count"))[-1] == (3, 3)
    assert "_Finder" not in daemon.value("finders")


def test_an_app_without_bars_is_left_alone(app: FakeDaemon) -> None:
    assert app.value("modules") == []
    assert app.value("finders").count("_Finder") == 1
    told(app, "count")
    assert "_Finder" not in app.value("finders")


@pytest.mark.parametrize("order", ["import tqdm; bars.watch()", "bars.watch(); import tqdm"])
def test_whatever_comes_first(order: str) -> None:
    """Outside of a call nothing is told, and looking for the module is not importing it."""
    code = (
        "import importlib.util, io\n"
        "from warmd.daemon.worker import bars\n"
        f"{order}\n"
        "assert importlib.util.find_spec('tqdm.std').loader.get_source('tqdm.std')\n"
        "assert tqdm.tqdm.refresh.__name__ == 'refresh_and_tell'\n"
        "assert list(tqdm.tqdm(range(3), file=io.StringIO())) == [0, 1, 2]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    assert done.returncode == 0, done.stderr


def test_importing_costs_next_to_nothing_where_no_bar_is() -> None:
    """A finder that is asked for each module must answer in less than microseconds count."""
    import timeit

    from warmd.daemon.worker.bars import _Finder

    finder = _Finder()
    seconds = min(timeit.repeat(lambda: finder.find_spec("json.decoder"), number=1000, repeat=5)) / 1000
    assert seconds < 20e-6
