"""GPUs on the command line: in listings, and parking by hand."""

from __future__ import annotations

import doctest
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cli.shell import Shell
from tests.cli.test_commands import INFO
from tests.sdk.gpubox import GIB, GPU, Box, gpu_box
from warmd.cli import gpus, parking
from warmd.cli.service import described
from warmd.cli.sessions import listing

GPU_INFO: dict[str, Any] = {
    "memory": 8 * GIB,
    "reserved": 10 * GIB,
    "parked": 0,
    "gpus": {GPU: 8 * GIB},
    "kept": None,
    "moves": 0,
    "park_seconds": None,
    "unpark_seconds": None,
    "waits_seconds": None,
}
CARD: dict[str, Any] = {
    "id": GPU,
    "index": 1,
    "name": "H100",
    "memory": 80 * GIB,
    "used": 12 * GIB,
    "utilization": 35,
    "sessions": {"sess_a": 8 * GIB},
    "others": [{"pid": 12, "memory": 3 * GIB}, {"pid": 13, "memory": None}],
    "shows_processes": True,
}


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with gpu_box(tmp_path_factory.mktemp("box")) as box:
        yield box


@pytest.fixture
def shell(box: Box, capsys: pytest.CaptureFixture[str]) -> Iterator[Shell]:
    yield Shell(box.client.address, capsys)
    box.client.sessions.end(all=True)


def test_a_column_only_where_somebody_has_a_gpu() -> None:
    assert "GPU" not in listing([INFO], 1060.0)
    parked = {**GPU_INFO, "parked": 8 * GIB, "memory": 0}
    shown = listing([INFO, {**INFO, "gpu": GPU_INFO}, {**INFO, "state": "parked", "gpu": parked}], 1060.0)
    heads, *rows = shown.splitlines()
    assert heads.endswith("MEMORY  GPU")
    assert [row[heads.index("GPU") :] for row in rows] == ["-", "8.0G", "parked 8.0G"]
    unseen = {**INFO, "gpu": {**GPU_INFO, "memory": 0}}
    assert listing([unseen], 1060.0).endswith("  (10.0G)"), "nobody has measured it yet"


def test_the_examples_in_the_documentation() -> None:
    assert doctest.testmod(gpus).failed == 0


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, ["8.0G on GPU 1 (H100); 10.0G are reserved"]),
        (
            {"memory": 12 * GIB, "gpus": {GPU: 12 * GIB}},
            [
                "12.0G on GPU 1 (H100); more than the 10.0G that its app asks for: "
                "let gpu in its app.toml say what it needs"
            ],
        ),
        ({"gpus": {}, "waits_seconds": 12.0}, ["waits for room, for 12s; `warmd why` says who has it"]),
        (
            {"moves": 2, "park_seconds": 4.2, "unpark_seconds": 1.6, "kept": "its app says so"},
            [
                "8.0G on GPU 1 (H100); 10.0G are reserved",
                "parked 2 times; it took 4.2s, and 1.6s back, the last time",
                "is not parked: its app says so",
            ],
        ),
        (
            {"parked": 10 * GIB, "gpus": {"GPU-gone": 0}, "moves": 1, "park_seconds": 4.2},
            [
                "10.0G in host memory, 0B on GPU-gone; it comes back when 10.0G are free there",
                "parked once; it took 4.2s, the last time",
            ],
        ),
    ],
)
def test_what_a_session_has_in_words(more: dict[str, Any], said: list[str]) -> None:
    assert gpus.facts({**GPU_INFO, **more}, [CARD]) == said


def test_the_gpus_of_a_daemon_in_words() -> None:
    assert gpus.lines({"gpus": [CARD], "no_gpus": None, "sessions": 1}) == [
        "gpu 1:    H100, 12.0G of 80.0G used, 35% busy; 1 session 8.0G; other programs 3.0G (pids 12, 13)"
    ]
    assert "when last looked at" in gpus.lines({"gpus": [CARD], "sessions": 0})[0]
    (hidden,) = gpus.lines({"gpus": [{**CARD, "others": [], "shows_processes": False}], "sessions": 1})
    assert hidden.endswith("35% busy; " + gpus.HIDDEN)
    assert gpus.lines({"gpus": [], "no_gpus": "NVML cannot be started: x"}) == [
        "no gpus:  NVML cannot be started: x"
    ]


def test_a_machine_without_a_gpu_is_no_news(box: Box) -> None:
    found = {**box.client.status(), "gpus": [], "sessions": 0}
    for why in ("no NVIDIA driver is here", "GPUs are left alone (gpu_driver = 'off')"):
        assert "gpu" not in described({**found, "no_gpus": why})


def test_parking_by_hand(shell: Shell, box: Box) -> None:
    llama, keeper = box.client.session("llama"), box.client.session("keeper")
    assert shell("park", llama.id[5:11]) == []
    assert re.fullmatch(rf"session {llama.id[5:13]} is parked: 10.0G in host memory, in \S+\n", shell.err)
    shown = "\n".join(shell("inspect", llama.id))
    assert "state:            parked\n" in shown
    assert "gpu:              10.0G in host memory, 0B on GPU 0 (Fake H100); it comes back" in shown
    assert "\n                  parked once" in shown
    assert "running_function: -\n" in shown
    assert any("parked 10.0G" in line for line in shell("ps"))
    assert any(line.startswith("gpu 0:    Fake H100") for line in shell("status"))
    (told,) = shell.json("unpark", "--all")
    assert [(info["id"], info["state"]) for info in told["sessions"]] == [(llama.id, "idle")]
    (told,) = shell.json("park", "--all")
    assert [info["id"] for info in told["sessions"]] == [llama.id], "the other is never parked"
    shell("unpark", "--app", "keeper")
    assert shell.err == f"session {keeper.id[5:13]} is not parked\n"
    shell("unpark", llama.id, keeper.id)
    back, kept = shell.err.splitlines()
    assert re.fullmatch(rf"session {llama.id[5:13]} is back: 10.0G on GPU 0 \(Fake H100\), in \S+", back)
    assert kept == f"session {keeper.id[5:13]} was not parked: idle, 2.0G reserved"


def test_who_makes_room_for_the_next_is_told_to_be_parked_again(shell: Shell, box: Box) -> None:
    both = [box.client.session("llama"), box.client.session("gemma")]
    shell("park", "--all")
    shell("unpark", *(session.id for session in both))
    assert shell.code == 0
    gone, back = shell.err.splitlines()
    assert gone == f"session {both[0].id[5:13]} is parked again, to make room for others"
    assert back.startswith(f"session {both[1].id[5:13]} is back: 9.0G on GPU 0")
    (told,) = shell.json("unpark", *(session.id for session in reversed(both)))
    assert [info["state"] for info in told["sessions"]] == ["parked", "idle"]


def test_why_there_is_nothing_to_park(shell: Shell, box: Box) -> None:
    def told(*words: str) -> list[str]:
        shell(*words)
        assert shell.code == 0
        return shell.err.splitlines()

    assert told("park", "--all") == told("unpark", "--all") == ["no sessions"]
    assert told("park", "--app", "nosuch") == ["no session of app nosuch"]
    named = {app: box.client.session(app) for app in ("counter", "keeper", "llama")}
    ids = {app: session.id[5:13] for app, session in named.items()}
    named["llama"].park()
    assert told("park", "--all") == [
        f"session {ids['counter']} is without GPU memory, as far as is known",
        f'session {ids["keeper"]} is never parked: its app says so (park = "never")',
        f"session {ids['llama']} is parked already",
    ]
    box.client.run(app="llama")
    box.client.sessions.end(named["llama"].id)
    assert told("park", "--app", "llama") == [
        "no session of app llama",
        "workers of the shared pool are no sessions: they make room when others need it",
    ]
    (found,) = shell.json("park", "--app", "llama")
    assert found == {"schema_version": 1, "sessions": []} and shell.err == ""


def test_sessions_that_are_left_alone_for_one_reason_share_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    infos = [{**INFO, "id": f"sess_{n}" + "0" * 31, "gpu": GPU_INFO, "state": "busy"} for n in range(7)]
    parking.tell_why_none(infos, None, parking.why_not_parked)
    ids = ", ".join(f"{n}0000000" for n in range(5))
    assert capsys.readouterr().err == f"sessions {ids} and 2 more are busy, and only who is idle is parked\n"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["park"], 2, "say which: SESSION..., --app APP or --all"),
        (["unpark", "ab", "--all"], 2, "give one of SESSION..., --app APP and --all, not several"),
        (["park", "ffff"], 3, "ffff"),
    ],
)
def test_refusals(shell: Shell, words: list[str], code: int, said: str) -> None:
    shell(*words)
    assert shell.code == code and said in shell.err


def test_one_that_is_never_parked(shell: Shell, box: Box) -> None:
    shell("park", box.client.session("keeper").id)
    assert shell.code == 77 and "its app says so" in shell.err
