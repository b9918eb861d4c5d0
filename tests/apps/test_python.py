"""The python app as a plain object, on the real IPython."""

from __future__ import annotations

import builtins
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

pytest.importorskip("IPython")

from warmd.apps.python import Python, capture, figures
from warmd.apps.python import app as app_module

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def app(monkeypatch):
    # Another test's doctest leaves it behind, and IPython takes it for gettext's.
    monkeypatch.delattr(builtins, "_", raising=False)
    main = sys.modules["__main__"]
    app = Python()
    app.setup()
    yield app
    app.unload()
    assert sys.modules["__main__"] is main


def run(app, code):
    found = app.run({"code": code})
    assert os.fstat(1).st_ino != os.fstat(app._capture.out.memory).st_ino, "output still leads into a cell"
    return found


def error_of(app, code):
    found = run(app, code)
    assert found["error"] is not None, found
    return found["error"]


def test_cells_see_each_others_variables(app):
    first = run(app, "import math\nx = 40\ndef double(n):\n    return 2 * n")
    assert first.pop("seconds") >= 0
    assert first == {
        "stdout": "", "stderr": "", "result": None, "plots": [], "error": None, "execution_count": 1,
    }  # fmt: skip
    second = run(app, "x += 2\n[double(x), math.tau]")
    assert (second["result"], second["execution_count"]) == ("[84, 6.283185307179586]", 2)
    assert run(app, "_[0] + 1")["result"] == "85"
    assert run(app, "x;")["result"] is None


def test_output_of_python_and_of_children_in_its_order(app):
    code = (
        "import os, subprocess, sys\nprint('one ', end='')\nsubprocess.run(['echo', 'two'])\n"
        "os.system('echo three >&2')\nprint('four', file=sys.stderr)\nos.write(1, b'five')\nNone"
    )
    found = run(app, code)
    assert (found["stdout"], found["stderr"]) == ("one two\nfive", "three\nfour\n")
    assert run(app, "!echo $((1 + 1))")["stdout"] == "2\n"
    assert run(app, "%%bash\necho from bash")["stdout"] == "from bash\n"


def test_too_much_output_keeps_its_beginning_and_its_end(app):
    found = run(app, "print('begin')\nprint('x' * 3_000_000)\nprint('end')")
    assert found["dropped"] == {"stdout_bytes": 3_000_011 - capture.MAX_BYTES}
    assert found["stdout"].startswith("begin\nxxx") and found["stdout"].endswith("xxx\nend\n")
    assert f"[... {3_000_011 - capture.MAX_BYTES} bytes are left out ...]" in found["stdout"]
    assert len(found["stdout"]) < capture.MAX_BYTES + 100
    assert "dropped" not in run(app, "1")


def test_the_middle_of_much_output_takes_no_memory(app, monkeypatch):
    monkeypatch.setattr(capture, "LOOK_SECONDS", 0.01)
    code = "import time\nfor _ in range(40):\n    print('x' * 2**20)\n    time.sleep(0.03)"
    found = run(app, code)
    assert found["dropped"]["stdout_bytes"] == 40 * (2**20 + 1) - capture.MAX_BYTES
    assert os.fstat(app._capture.out.memory).st_blocks * 512 < 20 * 2**20


def test_what_a_cell_raises_is_part_of_its_result(app):
    found = run(app, "print('before')\ndef f():\n    return 1 / 0\nf()")
    assert found["stdout"] == "before\n"
    assert found["stderr"] == ""
    error = found["error"]
    assert (error["type"], error["message"]) == ("ZeroDivisionError", "division by zero")
    lines = error["traceback"].splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1] == '  File "<cell 1>", line 4, in <module>'
    assert "    return 1 / 0" in lines
    assert not any("IPython" in line or "warmd" in line for line in lines)
    assert run(app, "f")["error"] is None


@pytest.mark.parametrize(
    ("code", "type", "message"),
    [
        ("x = (", "SyntaxError", "incomplete input"),
        ("if 1:\nx = 2", "IndentationError", "indented block"),
        ("%nosuchmagic", "IPython.core.error.UsageError", "%nosuchmagic"),
        ("raise ExceptionGroup('g', [ValueError(1)])", "ExceptionGroup", "g"),
        ("class E(Exception):\n    def __str__(self): 1 / 0\nraise E", "__main__.E", "raised ZeroDiv"),
        ("input('name? ')", "RuntimeError", "nobody to ask"),
        ("import sys\nsys.stdin.read()", "RuntimeError", "nobody to ask"),
        ("import sys\nsys.exit(3)", "SystemExit", "the cell called exit(3); the session goes on"),
        ("exit()", "SystemExit", "the session goes on"),
        ("quit", "SystemExit", "the session goes on"),
        ("exit(2)", "SystemExit", "exit(2)"),
        ("get_ipython().ask_exit()", "SystemExit", "the session goes on"),
        ("import warnings\nwarnings.simplefilter('error')\nexit(4)", "SystemExit", "exit(4)"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt", ""),
    ],
)
def test_each_kind_of_error_is_told(app, code, type, message):
    found = run(app, code)
    assert found["error"]["type"] == type
    assert message in found["error"]["message"]
    assert found["stderr"] == ""
    assert run(app, "1")["result"] == "1"


def test_top_level_await_and_one_loop_for_all_cells(app):
    assert run(app, "import asyncio\nq = asyncio.Queue()\nawait q.put(5)")["error"] is None
    assert run(app, "t = asyncio.create_task(asyncio.sleep(0, 7))\nawait q.get()")["result"] == "5"
    assert run(app, "await t")["result"] == "7"
    assert run(app, "asyncio.run(asyncio.sleep(0, 8))")["result"] == "8"


def test_rich_forms_of_the_result_and_of_what_is_displayed(app):
    code = (
        "class Rich:\n    def __repr__(self): return 'plain'\n    def _repr_html_(self): return '<b>x</b>'\n"
        "    def _repr_png_(self): return b'png'\n"
        "display(Rich())\ndisplay({'application/json': {'a': 1}}, raw=True)\nRich()"
    )
    found = run(app, code)
    assert found["result"] == "plain"
    assert found["data"] == {"text/html": "<b>x</b>", "image/png": b"png"}
    assert found["displays"] == [
        {"text/plain": "plain", **found["data"]},
        {"application/json": {"a": 1}},
    ]
    assert found["stdout"] == ""


def test_a_long_result_is_cut_and_a_huge_form_left_out(app, monkeypatch):
    monkeypatch.setattr(app_module, "MAX_SHOWN_BYTES", 1000)
    text = run(app, "'y' * 200_000")["result"]
    assert len(text) < app_module.MAX_RESULT_CHARACTERS + 100 and "characters are left out" in text
    found = run(app, "class Huge:\n    def _repr_html_(self): return 'h' * 2000\nHuge()")
    assert "data" not in found and found["dropped"] == {"text/html": 2000}


@pytest.fixture(scope="module")
def fonts(tmp_path_factory):
    """matplotlib keeps the files of its fonts open: the leak check must not count them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLCONFIGDIR", str(tmp_path_factory.mktemp("fonts")))
        pytest.importorskip("matplotlib")
        from matplotlib.figure import Figure

        figure = Figure()
        figure.add_subplot().set_title(r"$\frac{1}{2}$")
        figure.savefig(io.BytesIO())


@pytest.mark.usefixtures("fonts")
def test_plots_are_the_figures_that_are_open_or_shown(app, monkeypatch):
    code = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()\nplt.hist([1])\nplt.figure();"
    found = run(app, code)
    assert found["error"] is None and found["stderr"] == ""
    assert [plot[:8] for plot in found["plots"]] == [PNG, PNG]
    assert run(app, "plt.get_fignums()")["result"] == "[]"
    assert run(app, "1")["plots"] == []
    code = "%matplotlib inline\nfig, ax = plt.subplots()\nax.plot([1])\ndisplay(fig)\nplt.plot([2]);"
    found = run(app, code)
    assert found["displays"][0]["image/png"][:8] == PNG
    assert len(found["plots"]) == 1
    error = error_of(app, "plt.title(r'$\\frac{1}$');")
    assert error["type"] == "ValueError", "a figure that cannot be drawn is the cell's error"
    monkeypatch.setattr(figures, "MAX_PLOTS", 3)
    found = run(app, "for n in range(5):\n    plt.figure().add_subplot()")
    assert len(found["plots"]) == 3 and found["dropped"] == {"plots": 2}


def test_nothing_is_written_to_the_home_directory(monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "IPYTHONDIR"):
        monkeypatch.delenv(name, raising=False)
    app = Python()
    app.setup()
    python = "import matplotlib.pyplot"
    found = run(app, f"import subprocess, sys\nsubprocess.check_call([sys.executable, '-c', {python!r}])")
    kept = list(Path(tempfile.gettempdir()).glob("warmd-matplotlib*"))
    app.unload()
    assert (found["error"], found["stderr"]) == (None, "")
    assert list(tmp_path.iterdir()) == []
    assert len(kept) == 1 and not kept[0].exists()
    assert "MPLBACKEND" not in os.environ


def test_the_folder_of_a_session_that_was_killed_is_removed_by_the_next(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("MPLCONFIGDIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    ended = subprocess.Popen(["true"])
    ended.wait()
    living, left = (
        Path(tempfile.gettempdir(), f"warmd-matplotlib-{pid}-00") for pid in (os.getpid(), ended.pid)
    )
    for folder in (living, left):
        (folder / "inner").mkdir(parents=True)
    figures.Settings().undo()
    assert living.exists() and not left.exists()
    shutil.rmtree(living)


def test_variables_get_and_set(app):
    np = pytest.importorskip("numpy")
    run(app, "n = 5\nname = 'x' * 500\ndef f(): pass\nclass Bad:\n    def __repr__(self): 1 / 0\nbad = Bad()")
    assert app.run({"action": "set", "values": {"a": np.arange(6).reshape(2, 3)}}) == ["a"]
    variables = {variable["name"]: variable for variable in app.variables()}
    assert set(variables) == {"n", "name", "f", "Bad", "bad", "a"}
    assert variables["n"] == {"name": "n", "type": "int", "repr": "5"}
    assert variables["a"]["type"] == "numpy.ndarray" and variables["a"]["shape"] == [2, 3]
    assert len(variables["name"]["repr"]) <= 160
    assert variables["bad"]["repr"].startswith("<Bad instance")
    assert run(app, "int(a.sum())")["result"] == "15"
    assert app.run({"action": "get", "name": "a"}).shape == (2, 3)


def test_reset_forgets_all_but_the_code_of_setup():
    app = Python()
    app.setup({"code": "base = 10"})
    try:
        assert run(app, "base += 1\nother = 1\nbase")["execution_count"] == 1
        assert app.reset() == {"execution_count": 1}
        assert [variable["name"] for variable in app.variables()] == ["base"]
        assert run(app, "base")["result"] == "10"
        assert run(app, "__name__")["result"] == "'__main__'"
    finally:
        app.unload()


def test_code_of_setup_that_raises_is_told():
    app = Python()
    try:
        with pytest.raises(RuntimeError, match=r"the code of setup raised ZeroDivisionError:[^$]*<cell 1>"):
            app.setup({"code": "1 / 0"})
    finally:
        app.unload()


@pytest.mark.parametrize(
    ("input", "kind", "text"),
    [
        ({"code": 3}, TypeError, "the code must be text, not int"),
        ({"cod": "1"}, TypeError, "cod"),
        ({"action": "get", "name": "mathh"}, NameError, "no variable 'mathh': did you mean 'math'"),
        ({"action": "get", "name": "zzz"}, NameError, "there are math"),
        ({"action": "set", "values": {"1x": 1}}, ValueError, "'1x' cannot be a variable's name"),
        ({"action": "set", "values": {"class": 1}}, ValueError, "'class' cannot be"),
        ({"action": "set", "values": [1]}, TypeError, "must be a dict"),
    ],
)
def test_refusals(app, input, kind, text):
    run(app, "import math")
    with pytest.raises(kind, match=text):
        app.run(input)


def test_an_interrupt_goes_through_and_the_state_stays(app):
    run(app, "x = 1")

    def interrupt(*_):
        raise app_module.Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for code in ("x += 1\nwhile True: pass", "import asyncio\nx += 1\nawait asyncio.sleep(60)"):
            begun = time.monotonic()
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(app_module.Interrupted):
                app.run({"code": code})
            assert time.monotonic() - begun < 10
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    found = run(app, "print('still here')\nx")
    assert (found["stdout"], found["result"]) == ("still here\n", "3")
    assert run(app, "import asyncio\nawait asyncio.sleep(0)\nlen(asyncio.all_tasks())")["result"] == "1"


def test_a_child_that_outlives_its_cell_does_not_mix_into_the_next(app):
    run(app, "from subprocess import *\nchild = Popen('read x; echo late', shell=True, stdin=PIPE)")
    os.write(app.get("child").stdin.fileno(), b"\n")
    assert app.get("child").wait(timeout=10) == 0
    app.get("child").stdin.close()
    assert run(app, "print('next')")["stdout"] == "next\n"
    app.reset()


@pytest.mark.parametrize(
    "spoil",
    ["import sys\nsys.stdout.close()", "import sys\nsys.stdout = None", "import os\nos.close(1)"],
)
def test_streams_that_a_cell_has_spoilt_are_there_again_in_the_next(app, spoil):
    run(app, spoil)
    assert run(app, "print('well')")["stdout"] == "well\n"


def test_a_missing_package_is_named_with_the_command(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("warmd.apps.python")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "IPython", None)
    with pytest.raises(ImportError, match=r"pip install 'warmd\[python\]'"):
        import warmd.apps.python  # noqa: F401
