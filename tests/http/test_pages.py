"""The dashboard's files: for all, and nothing else of the disk."""

from __future__ import annotations

import re

import httpx
import pytest

from warmd.http.pages import FOLDER, TYPES


def test_the_page_and_all_that_it_names(http: httpx.Client) -> None:
    index = http.get("/")
    assert index.headers["content-type"] == "text/html; charset=utf-8"
    named = re.findall(r'(?:src|href)="(page/[^"]+)"', index.text)
    assert named
    for name in named:
        assert http.get(f"/{name}").status_code == 200, name


def test_each_file_has_its_type_and_may_do_nothing_but_with_this_gateway(http: httpx.Client) -> None:
    for path in FOLDER.rglob("*"):
        if path.suffix in TYPES:
            answer = http.get(f"/page/{path.relative_to(FOLDER)}")
            assert answer.content == path.read_bytes()
            assert answer.headers["content-type"] == TYPES[path.suffix]
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            assert "unsafe" not in answer.headers["content-security-policy"]


def test_a_browser_that_has_it_is_told_so(http: httpx.Client) -> None:
    etag = http.get("/").headers["etag"]
    again = http.get("/", headers={"If-None-Match": etag})
    assert (again.status_code, again.content) == (304, b"")


def test_behind_a_version_too(http: httpx.Client) -> None:
    assert http.get("/v1/page/index.html").status_code == 200


@pytest.mark.parametrize(
    "path", ["/page/nix.js", "/page/../pages.py", "/page/%2e%2e/pages.py", "/page/", "/page/vendor", "/pages"]
)
def test_nothing_else(http: httpx.Client, path: str) -> None:
    assert http.get(path).status_code == 404


def test_the_page_is_written_for_a_place_below_another(http: httpx.Client) -> None:
    """A reverse proxy may give it a path of its own."""
    assert not re.search(r'(?:src|href)="/', http.get("/").text)
