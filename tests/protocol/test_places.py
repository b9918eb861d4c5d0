from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from warmd.protocol import places


def test_the_run_directory_is_the_chosen_one_then_the_runtime_directory_then_tmp(tmp_path: Path) -> None:
    runtime = {"XDG_RUNTIME_DIR": str(tmp_path)}
    assert places.default_run_dir({**runtime, "WARMD_RUN_DIR": "/x/y"}) == Path("/x/y")
    assert places.default_run_dir(runtime) == tmp_path / "warmd"
    own = Path(f"/tmp/warmd-{os.getuid()}")
    assert places.default_run_dir({}) == own
    assert places.default_run_dir({"XDG_RUNTIME_DIR": str(tmp_path / "gone")}) == own


def test_logs_of_a_chosen_run_directory_stay_in_it(tmp_path: Path) -> None:
    environ = {"XDG_STATE_HOME": "/state"}
    users = places.users_run_dir(environ)
    assert places.logs_dir(users, environ) == Path("/state/warmd/logs")
    assert places.daemon_log_path(users, environ) == Path("/state/warmd/daemon.log")
    assert places.logs_dir(tmp_path, environ) == tmp_path / "logs"


def test_an_address_names_its_socket_and_back() -> None:
    path = Path("/run/user/7/warmd/warmd.sock")
    assert places.address_of(path) == "unix:///run/user/7/warmd/warmd.sock"
    assert places.path_of(places.address_of(path)) == path
    assert places.path_of(str(path)) == path


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("warmd.sock", "absolute path"),
        ("", "absolute path"),
        ("http://x", "absolute path"),
        ("unix://rel", "absolute path"),
        ("/" + "x" * 107, "107"),
    ],
)
def test_an_address_that_cannot_work_says_why(address: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        places.path_of(address)


def test_a_private_directory_is_made_with_0700_and_tightened_when_found_open(tmp_path: Path) -> None:
    made = places.make_private_dir(tmp_path / "a" / "b")
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    made.chmod(0o755)
    assert stat.S_IMODE(places.make_private_dir(made).stat().st_mode) == 0o700


def test_a_private_directory_is_neither_a_link_nor_a_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(PermissionError, match="is a file, or a symbolic link"):
            places.make_private_dir(tmp_path / name)


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("tcp://127.0.0.1:7433", "127.0.0.1", 7433),
        ("tcp://gpu-box.example.org:0", "gpu-box.example.org", 0),
        ("tcp://[::1]:65535", "::1", 65535),
    ],
)
def test_tcp_addresses_are_read_and_written_alike(address: str, host: str, port: int) -> None:
    found = places.tcp_of(address)
    assert found == (host, port)
    assert str(found) == address


@pytest.mark.parametrize(
    "address",
    ["tcp://host", "tcp://:1", "tcp://host:65536", "tcp://*:1", "tcp://::1:5", "host:1", "tcp://h:1/x", ""],
)
def test_what_is_no_tcp_address_is_refused_with_an_example(address: str) -> None:
    with pytest.raises(ValueError, match=r"tcp://127\.0\.0\.1:7433"):
        places.tcp_of(address)
