"""Keys: their text, and the folder that says who may come in."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from warmd.protocol.keys import ClientKey, KeyFolder, public_of


@pytest.fixture
def folder(tmp_path: Path) -> KeyFolder:
    return KeyFolder(tmp_path / "keys")


def test_a_key_is_read_as_it_was_written(folder: KeyFolder) -> None:
    key = folder.add("laptop")
    assert ClientKey.parse(key.text) == key
    assert ClientKey.parse(f"  {key.text}\n") == key
    assert len(key.text) == 93 and key.text.startswith("warmd1_")


@pytest.mark.parametrize(
    "text",
    ["", "guess", "warmd1_", "warmd1_" + "A" * 85, "warmd1_" + "A" * 90, "warmd2_" + "A" * 86, "wärmd1_ä"],
)
def test_what_is_no_key_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="none of warmd's") as caught:
        ClientKey.parse(text)
    assert len(text) < 10 or text not in str(caught.value)


def test_the_folder_holds_public_keys_and_no_clients_secret(folder: KeyFolder) -> None:
    key = folder.add("laptop")
    assert folder.clients() == {public_of(key.secret): "laptop"}
    assert key.daemon_public == public_of(folder.daemon_secret())
    everything = "".join(path.read_text() for path in folder.path.rglob("*") if path.is_file())
    assert key.secret.hex() not in everything


def test_it_is_for_its_user_alone(folder: KeyFolder) -> None:
    folder.add("laptop")
    modes = {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in (folder.path, *folder.path.rglob("*"))}
    assert modes == {0}


def test_the_daemons_key_stays_the_same(folder: KeyFolder) -> None:
    assert folder.daemon_secret() == folder.daemon_secret() == KeyFolder(folder.path).daemon_secret()


def test_two_who_make_it_at_once_get_the_same(folder: KeyFolder) -> None:
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(folder.daemon_secret())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1


def test_a_name_that_is_taken_or_none_is_refused(folder: KeyFolder) -> None:
    first = folder.add("laptop")
    with pytest.raises(ValueError, match="already"):
        folder.add("laptop")
    assert folder.clients() == {public_of(first.secret): "laptop"}
    for name in ("", "../daemon", "a/b", ".hidden", "x" * 65, "ä"):
        with pytest.raises(ValueError, match="cannot be a key's name"):
            folder.add(name)
        with pytest.raises(ValueError, match="cannot be a key's name"):
            folder.remove(name)


def test_a_revoked_key_is_gone(folder: KeyFolder) -> None:
    folder.add("laptop")
    folder.add("phone")
    folder.remove("laptop")
    assert list(folder.clients().values()) == ["phone"]
    with pytest.raises(ValueError, match=r"no key 'laptop'; there are: phone"):
        folder.remove("laptop")


def test_a_file_that_holds_no_key_lets_nobody_in(folder: KeyFolder) -> None:
    folder.add("laptop")
    (folder.path / "clients" / "rubbish").write_text("x" * 64)
    (folder.path / "clients" / "empty").write_text("")
    (folder.path / "clients" / "folder").mkdir()
    (folder.path / "clients" / "nowhere").symlink_to("nothing")
    assert list(folder.clients().values()) == ["laptop"]


def test_there_is_nobody_before_the_first(folder: KeyFolder) -> None:
    assert folder.clients() == {}
    assert not folder.path.exists()
