"""Lists of requirements that mean the same wherever they are installed from."""

from __future__ import annotations

import os

import pytest

from warmd.daemon import requirements


def test_lines_of_a_file(tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "base.txt").write_text("numpy\n../wheel.whl\n")
    (tmp_path / "requirements.txt").write_text(
        "# a comment\n\npolars >= 1  # why\n-r more/base.txt\n-e ./lib[extra]\n-c limits.txt\n-c https://x/limits\n"
        "torch \\\n  == 2.13\nhttp://x/y#egg=z\n"
    )
    assert requirements.of_file(str(tmp_path / "requirements.txt")).splitlines() == [
        "polars >= 1",
        "numpy",
        f"{tmp_path}/wheel.whl",
        f"-e {tmp_path}/lib[extra]",
        f"-c {tmp_path}/limits.txt",
        "-c https://x/limits",
        "torch    == 2.13",
        "http://x/y#egg=z",
    ]


def test_lines_that_are_given(tmp_path):
    (tmp_path / "base.txt").write_text("numpy\n")
    assert requirements.of_lines(str(tmp_path), ["-r base.txt", ".", "--requirement=base.txt"]) == (
        f"numpy\n{tmp_path}\nnumpy\n"
    )


def test_files_that_include_themselves(tmp_path):
    (tmp_path / "a.txt").write_text("-r a.txt\n")
    with pytest.raises(ValueError, match=r"includes files in files, 10 deep, and again .*a\.txt"):
        requirements.of_file(str(tmp_path / "a.txt"))


def test_the_most_that_it_may_have(tmp_path):
    with pytest.raises(ValueError, match="has more than 32768 bytes"):
        requirements.of_lines(str(tmp_path), ["numpy"] * 6668)


@pytest.mark.parametrize(
    ("text", "whole"),
    [("numpy\n", "numpy\nx\n"), ("X>=1\n", "X>=1\n"), ("xylem\n", "xylem\nx\n"), ("x[a]\n", "x[a]\n")],
)
def test_a_package_that_may_be_left_out(text, whole):
    assert requirements.with_package(text, "x") == whole


def test_files_that_include_others_again_and_again(tmp_path):
    for number in range(9):
        (tmp_path / f"{number}.txt").write_text(f"-r {number + 1}.txt\n" * 1000)
    (tmp_path / "9.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"includes more than 100 files, the last one .*9\.txt"):
        requirements.of_file(str(tmp_path / "0.txt"))


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(ValueError, match="which is no file"):
            requirements.of_file(str(path))
