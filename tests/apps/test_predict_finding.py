"""Names of models, their kinds, and who is trusted."""

from __future__ import annotations

import os
import pickle
import zipfile

import pytest

pytest.importorskip("numpy")

from warmd.apps.predict import finding
from warmd.apps.trust import folders_of


@pytest.fixture
def folder(tmp_path):
    for name in ("large-model-v2.onnx", "flowers.joblib", "both.pt", "both.pkl", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text("{}")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("large-model-v2", "large-model-v2.onnx"),
        ("flowers.joblib", "flowers.joblib"),
        ("both.pt", "both.pt"),
        ("bert", "bert"),
        ("./flowers", "flowers.joblib"),
    ],
)
def test_a_name_may_lack_its_suffix(folder, name, file):
    assert finding.find(name, [folder / "none", folder]) == folder / file


def test_a_path_needs_no_folder(folder):
    assert finding.find(str(folder / "both.pt"), []) == folder / "both.pt"
    with pytest.raises(FileNotFoundError, match=r"there is no model .*/none\.onnx"):
        finding.find(str(folder / "none.onnx"), [folder])


def test_the_first_folder_goes_before_the_others(folder, tmp_path):
    first = tmp_path / "first"
    first.mkdir()
    (first / "flowers.onnx").write_bytes(b"x")
    assert finding.find("flowers", [first, folder]) == first / "flowers.onnx"


def test_a_name_of_two_files_is_refused(folder):
    with pytest.raises(ValueError, match=r"has both\.pkl and both\.pt: name the model with its suffix"):
        finding.find("both", [folder])


def test_what_there_is_instead_is_told(folder):
    with pytest.raises(FileNotFoundError, match=r"'large-model-v3' in .*: did you mean 'large-model-v2"):
        finding.find("large-model-v3", [folder])
    with pytest.raises(FileNotFoundError, match=r"there are bert, both\.pkl, both\.pt, flowers\.joblib"):
        finding.find("zzz", [folder])
    with pytest.raises(FileNotFoundError, match=r"no folder to look in: .*the variable WARMD_MODELS"):
        finding.find("zzz", [])
    with pytest.raises(FileNotFoundError, match="there is none"):
        finding.find("zzz", [folder / "none"])
    for wrong in (3, "", None):
        with pytest.raises(TypeError, match="the model must be a name or a path"):
            finding.find(wrong, [folder])


def test_folders_come_as_a_path_list(monkeypatch, tmp_path):
    monkeypatch.setenv("WARMD_MODELS", f"{tmp_path}:~/models::")
    assert [str(one) for one in folders_of("WARMD_MODELS")] == [
        str(tmp_path),
        os.path.expanduser("~/models"),
    ]
    monkeypatch.delenv("WARMD_MODELS")
    assert folders_of("WARMD_MODELS") == []


def zipped(path, *names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return path


def test_kinds_are_known_by_suffix_and_content(tmp_path):
    written = tmp_path / "a.onnx"
    written.write_bytes(b"x")
    assert finding.kind_of(written) == "onnx"
    nameless = tmp_path / "nameless"
    nameless.write_bytes(pickle.dumps({}))
    assert finding.kind_of(nameless) == "sklearn"
    assert finding.kind_of(zipped(tmp_path / "a.pt", "a/constants.pkl", "a/code/x.py")) == "torchscript"
    assert finding.kind_of(zipped(tmp_path / "a.bin", "a/constants.pkl", "a/code/x.py")) == "torchscript"
    bert = tmp_path / "bert"
    bert.mkdir()
    (bert / "config.json").write_text("{}")
    (bert / "model.safetensors").write_bytes(b"")
    assert finding.kind_of(bert) == "transformers"


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a.h5", b"\x89HDF", r"a\.h5 is of no kind that .*name one of onnx, .* as 'kind'"),
        ("a.onnx", b"", "is empty"),
        ("a.pt", b"\x80\x02}.", r"a\.pt is no TorchScript"),
        ("a.pt", ("a/data.pkl", "a/data/0"), r"was written by torch\.save: save the model with torch"),
        ("a.npz", ("x.npy",), "is an archive of no kind"),
        ("a", None, r"a has no config\.json"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path, name, content, text):
    path = tmp_path / name
    if content is None:
        path.mkdir()
    elif isinstance(content, tuple):
        zipped(path, *content)
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=text):
        finding.kind_of(path)


def test_weights_that_are_pickled_are_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"has no \*\.safetensors: weights of other forms are not loaded"):
        finding.kind_of(tmp_path)


@pytest.mark.parametrize("kind", ["sklearn", "torchscript"])
def test_files_that_run_code_must_be_trusted(tmp_path, monkeypatch, kind):
    path = tmp_path / "given" / "model"
    path.parent.mkdir()
    path.write_bytes(b"x")
    for trusted in (False, "yes", 1):
        with pytest.raises(PermissionError, match=r"any code .*say trusted=True or have it below"):
            finding.check_trust(path, kind, trusted)
    finding.check_trust(path, kind, True)
    monkeypatch.setenv("WARMD_TRUSTED_MODELS", f"{tmp_path / 'other'}:{path.parent}")
    finding.check_trust(path, kind, False)
    monkeypatch.setenv("WARMD_TRUSTED_MODELS", str(tmp_path / "giv"))
    with pytest.raises(PermissionError):
        finding.check_trust(path, kind, False)


def test_a_link_out_of_a_trusted_folder_is_not_trusted(tmp_path, monkeypatch):
    outside, inside = tmp_path / "outside.pkl", tmp_path / "trusted" / "model.pkl"
    outside.write_bytes(b"x")
    inside.parent.mkdir()
    inside.symlink_to(outside)
    monkeypatch.setenv("WARMD_TRUSTED_MODELS", str(inside.parent))
    with pytest.raises(PermissionError):
        finding.check_trust(inside, "sklearn", False)
    with pytest.raises(PermissionError):
        finding.check_trust(inside.parent / ".." / "outside.pkl", "sklearn", False)


@pytest.mark.parametrize("kind", ["onnx", "transformers"])
def test_files_without_code_need_no_trust(tmp_path, kind):
    finding.check_trust(tmp_path, kind, False)
