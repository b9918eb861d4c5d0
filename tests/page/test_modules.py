"""The page's modules without a browser: their own tests and types, in Node, and what is vendored."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "sdk" / "http" / "page"
TESTS = Path(__file__).with_name("js")
PACKAGES = ROOT / "build" / "page" / "node_modules"
VENDORED = {
    "htm-preact-standalone.module.js": "htm/preact/standalone.module.js",
    "htm.module.js": "htm/dist/htm.module.js",
    "LICENSE-htm.txt": "htm/LICENSE",
    "LICENSE-preact.txt": "preact/LICENSE",
    "uPlot.esm.js": "uplot/dist/uPlot.esm.js",
    "uPlot.min.css": "uplot/dist/uPlot.min.css",
    "LICENSE-uplot.txt": "uplot/LICENSE",
}
OWN = sorted(PAGE.glob("*.js"))
MAX_FILE_LINES = 400
MAX_LINE_CHARACTERS = 140
TYPES_ALONE = {"types.js"}
"""What no browser needs to load."""

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="needs Node")
needs_packages = pytest.mark.skipif(
    not (PACKAGES / "typescript").exists(),
    reason="needs Node and the packages of sdk/http/page/package.json: `make .venv/page`, with npm",
)


def run(*command: str | Path) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_node
def test_the_modules_own_tests_pass() -> None:
    run("node", "--test", *sorted(TESTS.glob("*.test.mjs")))


@needs_packages
def test_types_are_right() -> None:
    run(PACKAGES / ".bin" / "tsc", "--project", TESTS)


@needs_packages
@pytest.mark.parametrize("name", sorted(VENDORED))
def test_what_is_vendored_is_as_it_was_published(name: str) -> None:
    """`make vendor` copies it."""
    assert (PAGE / "vendor" / name).read_bytes() == (PACKAGES / VENDORED[name]).read_bytes()


def test_packages_are_pinned() -> None:
    package = json.loads((PAGE / "package.json").read_text())
    versions = {**package["dependencies"], **package["devDependencies"]}
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions.values())


def imports(path: Path) -> Iterator[str]:
    """As paths from the page's folder."""
    yield from re.findall(r"^import[^;]* from '\./([^']+)';", path.read_text(), re.MULTILINE)


def test_all_modules_are_loaded_at_once() -> None:
    """Each is named in the page, so that a browser needs not find out by loading others."""
    named = re.findall(r'<link rel="modulepreload" href="page/([^"]+)">', (PAGE / "index.html").read_text())
    assert named == sorted({each for path in OWN for each in imports(path)})


def test_every_module_is_used() -> None:
    used = {each for path in OWN for each in imports(path)}
    assert {path.name for path in OWN} - used - TYPES_ALONE == {"main.js"}


def test_style_sheets_are_named_in_the_page() -> None:
    named = re.findall(r'<link rel="stylesheet" href="page/([^"/]+)">', (PAGE / "index.html").read_text())
    assert sorted(named) == sorted(path.name for path in PAGE.glob("*.css"))


def test_files_are_for_one_sitting_and_checked() -> None:
    for path in OWN:
        lines = path.read_text().splitlines()
        assert lines[0] == "// @ts-check", path.name
        assert len(lines) <= MAX_FILE_LINES, path.name
        long = [number for number, line in enumerate(lines, 1) if len(line) > MAX_LINE_CHARACTERS]
        assert not long, f"{path.name}: lines {long}"


def test_nothing_needs_what_the_policy_forbids() -> None:
    """No script, style or handler within the page, and nothing from elsewhere."""
    page = (PAGE / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon[a-z]+=|javascript:", page)
    for path in (*OWN, *PAGE.glob("*.css"), PAGE / "index.html"):
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|\beval\(|new Function|innerHTML|insertAdjacentHTML", text), path.name
