"""What an app's manifest can ask of GPUs, and what is said of each wrong value."""

from __future__ import annotations

from pathlib import Path

import pytest

from warmd.daemon import manifest
from warmd.daemon.catalog import AppLookupError, Catalog
from warmd.daemon.manifest import Manifest, ManifestError
from warmd.protocol.gpus import GpuAsk
from warmd.protocol.messages import AppRef

FORMS = (
    r"gpu must be a number of GPUs such as 1, a part of one such as 0\.5, an amount such as '20GB', "
    r"'all', 'none' or a list of indexes such as \[0\], not "
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text("class App:\n    def run(self): ...\n")
    return tmp_path


def said(folder: Path, text: str) -> Manifest:
    (folder / "app.toml").write_text(text)
    return manifest.read(str(folder))


@pytest.mark.parametrize(
    ("text", "ask"),
    [
        ("1", GpuAsk(whole=1)),
        ("1.0", GpuAsk(whole=1)),
        ("64", GpuAsk(whole=64)),
        ("0.5", GpuAsk(share=0.5)),
        ('"20GB"', GpuAsk(bytes=20 * 10**9)),
        ('"1.5 GiB"', GpuAsk(bytes=3 * 2**29)),
    ],
)
def test_what_the_daemon_is_to_reserve(folder: Path, text: str, ask: GpuAsk) -> None:
    found = said(folder, f"gpu = {text}")
    assert (found.asks.gpu, found.asks.park, dict(found.env)) == (ask, True, {})


@pytest.mark.parametrize(
    ("text", "variable"),
    [('"all"', None), ('"none"', ""), ("[0]", "0"), ("[2, 1]", "2,1")],
)
def test_what_its_environment_says(folder: Path, text: str, variable: str | None) -> None:
    found = said(folder, f"gpu = {text}")
    assert found.asks.gpu is None
    assert found.env.get("CUDA_VISIBLE_DEVICES") == variable


def test_whether_it_may_be_parked(folder: Path) -> None:
    assert said(folder, 'park = "never"').asks.park is False
    assert said(folder, 'park = "auto"').asks.park is said(folder, "").asks.park is True


@pytest.mark.parametrize(
    ("text", "error"),
    [
        *((f"gpu = {value}", FORMS + shown) for value, shown in [
            ("0", "'0'"), ("-1", "'-1'"), ("65", "'65'"), ("true", "'True'"), ("0.0", "'0.0'"),
            ("1.5", "'1.5'"), ("-0.5", "'-0.5'"), ("nan", "'nan'"), ("inf", "'inf'"), ('"half"', "'half'"),
            ('""', "''"), ('"-1GB"', "'-1GB'"), ("[]", r"'\[\]'"), ("[-1]", r"'\[-1\]'"),
            ("[true]", r"'\[True\]'"), ('["GPU-1"]', "\"\\['GPU-1'\\]\""), ("{}", "'{}'"),
        ]),
        ('gpu = "2"', "gpu '2' could be GPUs or bytes: give a number without quotes, or a unit, such as"),
        ('gpu = "0GB"', "gpu '0GB' is refused, 0 and negative values have no meaning here; give a positive"),
        ('gpu = "20 potatoes"', "gpu '20 potatoes' is not a size; give a positive number of bytes or a text"),
        ('gpu = "50%"', "gpu '50%' is not a size"),
        ('gpu = "9999999999GB"', "gpu must be at most 4611686018427387904 bytes, not '9999999999GB'"),
        ("park = true", "park must be 'auto' or 'never', not 'True'"),
        ('park = "always"', "park must be 'auto' or 'never', not 'always'"),
        ("park = []", r"park must be 'auto' or 'never', not '\[\]'"),
        (
            'gpu = 1\nenv = {CUDA_VISIBLE_DEVICES = "0"}',
            r"app\.toml sets CUDA_VISIBLE_DEVICES, and its gpu lets the daemon choose: leave one of them out",
        ),
    ],
)  # fmt: skip
def test_what_it_cannot_ask_for(folder: Path, text: str, error: str) -> None:
    with pytest.raises(ManifestError, match=error):
        said(folder, text)
    with pytest.raises(AppLookupError, match=error) as refused:
        Catalog().lookup(AppRef(str(folder)))
    assert refused.value.problem.code == "INVALID"
