"""The picture of a bench: what is refused before anything is measured, and what is drawn."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click
import pytest

from warmd.cli import main, plot
from warmd.cli.exits import Refusal
from warmd.cli.samples import Measured, Sample

COLD = Sample(queue=0.01, spawn=0.2, imports=0.5, setup=1.2, first=0.1, total=2.0, parts=1)
WARM = [Sample(first=0.001 * number, total=0.001 * number, parts=1) for number in range(1, 200)]
SLOW = Sample(first=2.5, total=2.5, parts=1)
MEASURED = Measured([COLD, COLD], [*WARM, SLOW])


@pytest.fixture(scope="module", autouse=True)
def fonts(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Opened by the first picture, and then kept open by matplotlib: no test leaves them behind."""
    plot.draw(MEASURED, "fonts", str(tmp_path_factory.mktemp("fonts") / "out.png"))


def test_a_png(tmp_path: Path) -> None:
    path = tmp_path / "out.png"
    plot.check_plot(str(path))
    assert not path.exists(), "looking leaves nothing"
    plot.draw(MEASURED, "counter, run", str(path))
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n")
    width, height = (int.from_bytes(content[at : at + 4]) for at in (16, 20))
    assert (width, height) == tuple(round(inches * plot.DPI) for inches in plot.SIZE_INCHES)


def test_what_is_drawn(tmp_path: Path) -> None:
    path = tmp_path / "out.svg"
    plot.draw(MEASURED, "counter, run", str(path))
    # Letters are drawn as outlines; each text stands beside its own as a comment.
    texts = re.findall(r"<!-- (.*?) -->", path.read_text())
    assert {"counter, run", "Cold 2.01 s, warm 0.10 s: 20 times sooner."} <= set(texts)
    assert {"cold 1", "cold 2", "warm, median", "2.01 s"} <= set(texts)
    assert {"start a process", "imports", "setup", "first answer"} <= set(texts)
    assert {"warm calls (200), until the first answer", "ms; 1 more beyond, up to 2.50 s"} <= set(texts)
    assert {"p50  0.10 s", "p90  0.18 s", "p99  0.20 s"} <= set(texts)


def test_one_warm_call_is_enough(tmp_path: Path) -> None:
    plot.draw(Measured([COLD], WARM[:1]), "counter, run", str(tmp_path / "out.png"))
    assert (tmp_path / "out.png").stat().st_size > 0


def test_a_file_that_exists_is_kept_until_there_is_another(tmp_path: Path) -> None:
    path = tmp_path / "out.png"
    path.write_text("precious")
    plot.check_plot(str(path))
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("out", "the ending says what to draw; there are ."),
        ("out.pgn", ".png"),
        ("none/out.png", "No such file or directory; give another place"),
        ("folder.png", "Is a directory"),
    ],
)
def test_what_cannot_be_drawn_to_is_refused_before_measuring(
    name: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder.png").mkdir()
    command = ["--host", f"{tmp_path}/none.sock", "bench", "counter", "--plot", f"{tmp_path}/{name}"]
    assert main(command) == 2, "and not 69: no daemon is looked for"
    err = capsys.readouterr().err
    assert f"--plot {tmp_path}/{name}: " in err
    assert said in err
    assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]


def test_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "out.png"
    path.symlink_to("/dev/full")
    plot.check_plot(str(path))
    with pytest.raises(Refusal, match="No space left"):
        plot.draw(MEASURED, "counter, run", str(path))


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.backend_bases", None)
    assert main(["bench", "counter", "--plot", "out.png"]) == 2
    assert f"{sys.executable} -m pip install 'warmd[plot]'" in capsys.readouterr().err


def test_an_unknown_ending_is_an_error_of_usage() -> None:
    with pytest.raises(click.UsageError):
        plot.check_plot("out.txt")
