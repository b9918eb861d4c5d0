"""The package as built and installed: names, files, entry points, and what an import loads."""

from __future__ import annotations

import configparser
import os
import resource
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TREES = {"sdk": "warmd", "daemon": "warmd.daemon", "protocol": "warmd.protocol", "apps": "warmd.apps"}
HEAVY = ("zmq", "msgpack", "loky", "psutil", "asyncio", "numpy", "warmd.daemon", "warmd.protocol.wire")


@pytest.fixture(scope="module")
def setup_cfg() -> configparser.ConfigParser:
    found = configparser.ConfigParser()
    found.read(ROOT / "setup.cfg")
    return found


def words(text: str) -> list[str]:
    return text.split("\n")[1:] if text.startswith("\n") else text.splitlines()


def packages_of_the_tree() -> set[str]:
    found = set()
    for folder, name in TREES.items():
        for init in (ROOT / folder).rglob("__init__.py"):
            found.add(".".join([name, *init.parent.relative_to(ROOT / folder).parts]))
    return found


def test_every_package_of_the_tree_is_listed(setup_cfg: configparser.ConfigParser) -> None:
    assert set(words(setup_cfg["options"]["packages"])) == packages_of_the_tree()


def test_every_folder_with_modules_is_a_package() -> None:
    folders = {module.parent for tree in TREES for module in (ROOT / tree).rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


def test_runtime_dependencies_and_extras(setup_cfg: configparser.ConfigParser) -> None:
    wanted = {line.split()[0] for line in words(setup_cfg["options"]["install_requires"])}
    assert wanted == {"loky", "msgpack", "pyzmq", "psutil", "click"}
    assert {"chat", "plot", "test", "dev"} <= set(setup_cfg["options.extras_require"])


def test_entry_points_load() -> None:
    found = {point.name: point for point in metadata.distribution("warmd").entry_points}
    for name in ("warmd", "counter", "chat", "chat-with-memory"):
        assert callable(found[name].load())


def test_the_version_is_said_in_one_place(setup_cfg: configparser.ConfigParser) -> None:
    import warmd

    assert setup_cfg["metadata"]["version"] == "attr: warmd.__version__"
    assert metadata.version("warmd") == warmd.__version__
    assert f"## [{warmd.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize(
    ("code", "banned"),
    [
        ("import warmd", (*HEAVY, "click", "socket", "subprocess")),
        ("import warmd.cli", (*HEAVY, "click")),
        ("from warmd.cli import main; assert main(['--help']) == 0", HEAVY),
        ("from warmd.cli import main; assert main(['version']) == 0", HEAVY),
        ("from warmd.cli import main; assert main(['bench', '--help']) == 0", ("matplotlib", *HEAVY)),
    ],
)
def test_what_is_imported_stays_light(code: str, banned: tuple[str, ...]) -> None:
    script = f"{code}\nimport sys\nprint('LOADED', [name for name in {banned!r} if name in sys.modules])"
    # Without what `make coverage` has each process import.
    environ = {name: value for name, value in os.environ.items() if name != "COVERAGE_PROCESS_START"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environ)
    assert done.stdout.splitlines()[-1] == "LOADED []", done.stdout + done.stderr


def cpu_seconds(code: str) -> float:
    """The least CPU time of a few interpreters that run this."""

    def once() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, timeout=30)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return min(once() for _ in range(5))


def test_help_costs_at_most_100_ms_of_cpu_beyond_bare_python() -> None:
    assert cpu_seconds("from warmd.cli import main; main(['--help'])") - cpu_seconds("pass") < 0.1


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[set[str], set[str]]:
    """The names in a fresh wheel, and in a fresh sdist, without its top folder."""
    source = tmp_path_factory.mktemp("source")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False).stdout
    if not tracked:
        pytest.skip("not a git checkout: nothing says which files belong to the project")
    copy = ["git", "checkout-index", "--all", f"--prefix={source}/"]
    subprocess.run(copy, cwd=ROOT, check=True, capture_output=True)
    # The backend changes sys.argv, so the folder is read first.
    build = (
        "from setuptools import build_meta as b; import sys; out = sys.argv[1];"
        "b.build_wheel(out); b.build_sdist(out)"
    )
    out = tmp_path_factory.mktemp("built")
    command = [sys.executable, "-W", "ignore", "-c", build, str(out)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=50)
    with zipfile.ZipFile(next(out.glob("*.whl"))) as wheel:
        in_wheel = set(wheel.namelist())
    with tarfile.open(next(out.glob("*.tar.gz"))) as sdist:
        in_sdist = {name.partition("/")[2] for name in sdist.getnames()}
    return in_wheel, in_sdist


def test_the_wheel_holds_the_packages_and_nothing_else(built: tuple[set[str], set[str]]) -> None:
    wheel, _ = built
    assert {"warmd/__init__.py", "warmd/py.typed", "warmd/cli/root.py", "warmd/protocol/wire.py",
            "warmd/daemon/core/events.py", "warmd/apps/chat/__init__.py"} <= wheel  # fmt: skip
    assert {name.partition("/")[0] for name in wheel if ".dist-info/" not in name} == {"warmd"}
    assert any(name.endswith("licenses/LICENSE") for name in wheel)


def test_the_sdist_holds_what_a_packager_needs(built: tuple[set[str], set[str]]) -> None:
    _, sdist = built
    for name in ("LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile", "setup.cfg"):
        assert name in sdist
    assert {"tests/conftest.py", "tests/test_packaging.py", ".ci/run"} <= sdist
    assert not [name for name in sdist if "__pycache__" in name or name.startswith(".venv")]
