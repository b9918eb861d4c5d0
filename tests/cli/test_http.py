"""`warmd http` and its keys, as they are typed."""

from __future__ import annotations

import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import warmd
from tests.cli.shell import Shell
from warmd.owndaemon import LocalClient
from warmd.protocol import places
from warmd.protocol.keys import KeyFolder


@pytest.fixture(scope="module")
def daemon() -> Iterator[LocalClient]:
    with warmd.testing.daemon() as found:
        found.status()
        yield found


@pytest.fixture
def shell(daemon: LocalClient, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(daemon.address, capsys)


def test_a_key_is_made_listed_and_revoked(shell: Shell) -> None:
    (key,) = shell("http", "keys", "add", "laptop")
    assert key.startswith("wk_") and "'laptop'" in shell.err
    heads, row = shell("http", "keys", "list")
    assert heads.split() == ["NAME", "SCOPES", "RATE", "CREATED"]
    assert row.split()[:4] == ["laptop", "read,", "run", "-"]
    (listed,) = shell.json("http", "keys", "list")
    assert (listed["keys"][0]["name"], key in str(listed)) == ("laptop", False)
    assert shell("http", "keys", "revoke", "laptop") == []
    assert "revoked laptop" in shell.err
    assert shell("http", "keys", "list") == [] and shell.err == "no keys\n"


def test_json_has_all(shell: Shell) -> None:
    (made,) = shell.json("http", "keys", "add", "phone", "--scope", "admin", "--rate", "2.5")
    assert (made["name"], made["scopes"], made["rate"]) == ("phone", ["admin"], 2.5)
    (listed,) = shell.json("http", "keys", "list")
    assert listed["keys"][0]["rate"] == 2.5
    (told,) = shell.json("http", "keys", "revoke", "phone")
    assert told["revoked"] == ["phone"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("http",), 78, "make one with `warmd http keys add NAME`"),
        (("http", "--http-open", "--listen", "0.0.0.0:8470"), 78, "loopback address alone"),
        (("http", "--listen", "here"), 78, "give HOST:PORT"),
        (("http", "--max-body-bytes", "-1", "--http-open"), 78, "--max-body-bytes"),
        (("http", "--proxy-key", "nobody", "--http-open", "--listen", "127.0.0.1:0"), 78, "no key 'nobody'"),
        (("http", "--nix"), 2, "No such option"),
        (("http", "keys", "add", "x", "--rate", "-1"), 2, "rate: -1 is refused"),
        (("http", "keys", "add", "../x"), 2, "cannot be a key's name"),
        (("http", "keys", "revoke", "nobody"), 2, "there is no key 'nobody'; there are: none"),
        (("serve", "--http-open"), 2, "give --http HOST:PORT too"),
    ],
)
def test_what_is_refused_says_what_helps(shell: Shell, words: tuple[str, ...], code: int, said: str) -> None:
    shell(*words)
    assert shell.code == code
    assert said in shell.err


def test_keys_are_kept_where_nobody_else_may_look(shell: Shell, daemon: LocalClient) -> None:
    shell("http", "keys", "add", "private")
    folder = places.keys_dir(places.path_of(daemon.address).parent)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "http")] == [0o700, 0o700]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--http", "8470"), 78, "give HOST:PORT"),
        (("--http", "127.0.0.1:0"), 78, "make one with `warmd http keys add NAME`"),
        (("--http", "{taken}", "--http-open"), 69, "choose another port"),
    ],
)
def test_a_daemon_whose_gateway_cannot_come_up_does_not_start(
    shell: Shell, tmp_path: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        given = [word.format(taken=address) for word in words]
        shell("serve", "--run-dir", str(tmp_path / "run"), *given)
    assert shell.code == code and said in shell.err
    assert not (tmp_path / "run" / "warmd.sock").exists()


def test_without_the_extra_it_says_what_to_install(daemon: LocalClient) -> None:
    code = (
        "import sys\n"
        "sys.modules['starlette'] = None\n"
        "from warmd.cli import main\n"
        f"sys.exit(main(['--host', {daemon.address!r}, 'http', '--http-open']))\n"
    )
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert said.stderr == "warmd: the gateway needs starlette: pip install 'warmd[http]'\n"
    assert said.returncode == 78


def test_a_gateway_may_be_far_from_its_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with warmd.testing.daemon(listen="tcp://127.0.0.1:0") as far:
        monkeypatch.setenv("WARMD_KEY", KeyFolder(places.keys_dir(far.run_dir)).add("gateway").text)
        far.reload_keys()
        address = str(far.status().listen)
        words = ["--host", address, "http", "--http-open", "--listen", "127.0.0.1:0"]
        with subprocess.Popen(
            [sys.executable, "-m", "warmd", *words], stderr=subprocess.PIPE, text=True
        ) as gateway:
            assert gateway.stderr is not None
            url = gateway.stderr.readline().removeprefix("warmd serves HTTP at ").strip()
            body = {"app": "counter", "wait": True}
            answer = httpx.post(f"{url}/apps/run", json=body, timeout=20.0)
            gateway.terminate()
            assert gateway.wait(20.0) == 0
    assert answer.json()["data"]["output"]["n"] == 1
    (folder,) = (tmp_path / "warmd").glob("http*")
    assert folder.name == f"http-127.0.0.1-{address.rpartition(':')[2]}"
