"""The benchmark of a GPU box, on a GPU of files; and what its table says."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import bounds, gpu
from benchmarks.gpuparts import cards
from benchmarks.gpuparts.rows import BEGIN, END, Found, Missing, as_markdown, replaced
from warmd.daemon.gpu import nvidia

ROOT = Path(__file__).parents[2]


def test_all_that_needs_no_real_gpu_is_done_on_a_fake_one(tmp_path: Path) -> None:
    written = tmp_path / "found.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--fake", "--json", str(written)],
        cwd=ROOT, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    parts = {one["part"]: one for one in json.loads(written.read_text())["parts"]}
    assert list(parts) == ["moves", "turns", "trace", "returns"]
    verdicts = [row["verdict"] for one in parts.values() for row in one["rows"]]
    assert verdicts.count("right") >= 12 and "WRONG" not in verdicts
    assert "two sessions of 60% of 8 GiB, driver: all 10 results as before any was parked" in done.stdout
    at_once = "two sessions of 60% of 8 GiB, driver: their memory is never on the GPU at the same time"
    told = "used at most 3.3 GiB, must be below the 6.6 GiB of both"
    assert f"| {at_once} | {told} |  | right |" in done.stdout
    assert BEGIN not in done.stdout
    assert "left out, for they need a real GPU: start, llama, share" in done.stderr


def test_without_a_gpu_it_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu"])
    monkeypatch.setattr(nvidia, "SIGNS", ())
    assert gpu.main() == gpu.NO_GPU == 3
    assert "nothing can be measured: no NVIDIA driver is here" in capsys.readouterr().err


def test_a_part_that_fails_is_told_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fails(_bench: Any, found: Found) -> None:
        found.figure("before", 1.0, "s")
        raise RuntimeError("the driver is asleep")

    def lacks(_bench: Any, _found: Found) -> None:
        raise Missing("not installed: torch")

    def works(_bench: Any, found: Found) -> None:
        found.target("fast", 20.0, 15, "x")

    written = [str(tmp_path / "one.json"), str(tmp_path / "two.json")]
    made = [("moves", fails), ("turns", lacks), ("trace", works)]
    parts = [gpu.Part(name, name, run, 5.0, on_fake=True) for name, run in made]
    monkeypatch.setattr(gpu, "parts", lambda: parts)
    monkeypatch.setattr(bounds, "nothing_outlives", contextlib.nullcontext)
    monkeypatch.setattr(sys, "argv", ["gpu", "--fake", "--json", written[0]])
    for name in ("FAKE_GPU_DIR", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "")
    assert gpu.main() == 1
    table = capsys.readouterr().out
    assert "| **moves** | failed, see below | | |\n| before | 1.00 s |" in table
    assert "| **turns** | not measured: not installed: torch | | |" in table
    assert "| fast | 20.0 x | at least 15 x | met |" in table
    assert "What went wrong in `moves`:" in table and "RuntimeError: the driver is asleep" in table

    def works_now(_bench: Any, found: Found) -> None:
        found.check("equal", True)

    parts[0] = gpu.Part("moves", "moves", works_now, 5.0, on_fake=True)
    monkeypatch.setattr(sys, "argv", ["gpu", "--fake", "--only", "moves", "--json", written[1]])
    assert gpu.main() == 0
    monkeypatch.setattr(sys, "argv", ["gpu", "--from", *written])
    capsys.readouterr()
    assert gpu.main() == 0
    together = capsys.readouterr().out
    assert "| equal |  |  | right |" in together and "| fast | 20.0 x |" in together
    assert "asleep" not in together


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "cannot be read: No such file or directory"),
        ("no json", "has no figures as --json writes them: it is no JSON"),
        ("{}", "has no figures as --json writes them"),
        ("[]", "has no figures as --json writes them"),
        ('{"facts": [], "parts": []}', "has no figures as --json writes them"),
        ('{"facts": {}, "parts": ["moves"]}', "has no figures as --json writes them"),
        ('{"facts": {}, "parts": [{"part": "x", "title": "x", "rows": []}]}', "has a part 'x'"),
    ],
)
def test_a_file_without_figures_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    text: str | None,
    why: str,
) -> None:
    path = tmp_path / "found.json"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(sys, "argv", ["gpu", "--from", str(path)])
    assert gpu.main() == gpu.USAGE == 2
    assert f"--from: {path} {why}" in capsys.readouterr().err


def test_figures_of_a_fake_are_not_written_by_a_detour(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    fake, real = tmp_path / "fake.json", tmp_path / "real.json"
    fake.write_text(json.dumps({"facts": {"device": cards.FAKE_DEVICE}, "parts": []}))
    real.write_text(json.dumps({"facts": {"device": "H100"}, "parts": []}))
    monkeypatch.setattr(gpu, "DOCUMENT", tmp_path / "gpu.md")
    gpu.DOCUMENT.write_text(f"{BEGIN}{END}")
    for several in ([fake], [fake, real], [real, fake]):
        monkeypatch.setattr(sys, "argv", ["gpu", "--from", *map(str, several), "--write"])
        assert gpu.main() == gpu.USAGE
        assert gpu.NOT_WRITTEN in capsys.readouterr().err
        assert gpu.DOCUMENT.read_text() == f"{BEGIN}{END}"
    monkeypatch.setattr(sys, "argv", ["gpu", "--from", str(real), "--write"])
    assert gpu.main() == 0
    assert "device H100." in gpu.DOCUMENT.read_text()


def test_what_a_fake_cannot_do_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu", "--fake", "--only", "start", "--only", "share"])
    assert gpu.main() == gpu.USAGE
    assert "left out, for they need a real GPU: start, share" in capsys.readouterr().err


def test_the_help_says_of_full_what_the_document_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu", "--help"])
    with pytest.raises(SystemExit):
        gpu.main()
    said = "turns and trace on the whole GPU: half an hour"
    assert said in " ".join(capsys.readouterr().out.split())
    assert said in gpu.DOCUMENT.read_text()


def test_a_missed_target_is_no_error_and_a_wrong_check_is() -> None:
    found = Found("moves", "Moves")
    found.target("slow", 1.3, 1.2, "x", at_most=True)
    assert found.rows[0].verdict == "MISSED" and not found.is_wrong
    found.check("equal", False, "2 of 40")
    assert found.rows[1].verdict == "WRONG" and found.is_wrong
    assert as_markdown({"device": "H100"}, [found]).startswith("device H100.\n\n| | measured | target | |")


def test_the_document_has_a_place_for_it() -> None:
    text = gpu.DOCUMENT.read_text()
    once = replaced(text, "a table")
    assert f"{BEGIN}\n\na table\n\n{END}" in once
    assert replaced(once, "another").count("a table") == text.count("a table")
    with pytest.raises(ValueError, match="each once"):
        replaced("no markers", "a table")
