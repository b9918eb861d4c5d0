"""Where gateways say that they serve, and the key of the page."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from warmd.http.keys import Keys
from warmd.http.pagekey import NAME, page_key
from warmd.http.serving import Serving, address_of, announced, found

KILLED = """
import os, signal, sys
from pathlib import Path
from warmd.http.serving import Serving, announced
with announced(Path(sys.argv[1]), Serving("http://127.0.0.1:1", False)):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_one_that_serves_is_found_while_it_does(tmp_path: Path) -> None:
    assert found(tmp_path) == []
    serving = Serving("http://127.0.0.1:8470", True)
    with announced(tmp_path, serving):
        assert found(tmp_path) == [serving]
        (path,) = (tmp_path / "serving").iterdir()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert found(tmp_path) == []


def test_one_that_was_killed_is_not_found_and_its_file_goes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert len(list((tmp_path / "serving").iterdir())) == 1
    assert found(tmp_path) == []
    assert list((tmp_path / "serving").iterdir()) == []


def test_one_that_has_only_begun_is_passed_over(tmp_path: Path) -> None:
    with announced(tmp_path, Serving("http://127.0.0.1:1", False)):
        (path,) = (tmp_path / "serving").iterdir()
        path.write_text("{")
        assert found(tmp_path) == []


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
    ],
)
def test_an_address_to_ask_at(host: str, url: str) -> None:
    assert address_of(host, 80) == url


def test_the_pages_key_is_made_once_and_again_when_it_is_none_any_more(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys" / "http")
    folder = tmp_path / "http"
    first = page_key(folder, keys)
    assert keys.caller(first).may("admin") and keys.caller(first).name == NAME
    assert page_key(folder, keys) == first
    assert stat.S_IMODE((folder / "page-key").stat().st_mode) == 0o600
    keys.revoke(NAME)
    second = page_key(folder, keys)
    assert second != first and keys.caller(second).name == NAME
    (folder / "page-key").write_text("wk_nonsense")
    assert keys.caller(page_key(folder, keys)).may("admin")


def test_a_key_of_that_name_that_is_somebody_elses_stays(tmp_path: Path) -> None:
    """Another daemon's page has the same keys: that of a daemon elsewhere, say."""
    keys = Keys(tmp_path / "keys" / "http")
    own = keys.add(NAME, ["read"])
    one, two = page_key(tmp_path / "http", keys), page_key(tmp_path / "http-far-1", keys)
    assert [keys.caller(text).name for text in (own, one, two)] == [NAME, f"{NAME}-2", f"{NAME}-3"]
    assert page_key(tmp_path / "http", keys) == one


def test_two_who_open_it_at_one_time_get_the_same_key(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from warmd.http.keys import Keys; "
        "from warmd.http.pagekey import page_key; folder = Path(sys.argv[1]); "
        "print(page_key(folder / 'http', Keys(folder / 'keys')))"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=-1, env=os.environ) for _ in "12"
    ]
    said = {one.communicate()[0] for one in both}
    assert len(said) == 1 and said.pop().startswith(b"wk_")
