"""`CUDA_VISIBLE_DEVICES`, as CUDA reads it."""

from __future__ import annotations

import pytest

from warmd.daemon.gpu.driver import GpuError
from warmd.daemon.gpu.visible import visible

IDS = ["GPU-11aa", "GPU-11bb", "GPU-22cc"]
ONE_KIND, KINDS = ["H100"] * 3, ["L4", "H100", "H100"]


def test_without_it_all_are_visible() -> None:
    assert visible({}, IDS, ONE_KIND) == [0, 1, 2]
    assert visible({}, IDS, KINDS) == [0, 1, 2]


@pytest.mark.parametrize(
    ("named", "found"),
    [
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("0", [0]),
        ("2,0", [2, 0]),
        (" 2 , 0 ", [2, 0]),
        ("0,2,-1,1", [0, 2]),
        ("0,3,1", [0]),
        ("0,,1", [0]),
        ("1,1,2", [1]),
        ("GPU-22cc", [2]),
        ("GPU-2,GPU-11b", [2, 1]),
        ("gpu-22CC", [2]),
        ("GPU-11", []),
        ("GPU-33,0", []),
        ("GPU-22cc,0", [2, 0]),
        ("0x1", []),
        ("²", []),
    ],
)
def test_entries_count_up_to_the_first_that_names_no_gpu(named: str, found: list[int]) -> None:
    assert visible({"CUDA_VISIBLE_DEVICES": named}, IDS, ONE_KIND) == found


@pytest.mark.parametrize("named", ["MIG-GPU-11aa/1/0", "0,MIG-9f"])
def test_mig_devices_are_refused(named: str) -> None:
    with pytest.raises(GpuError, match="MIG device") as refused:
        visible({"CUDA_VISIBLE_DEVICES": named}, IDS, ONE_KIND)
    assert refused.value.kind == "unsupported"


def test_numbers_of_gpus_of_several_kinds_need_an_order() -> None:
    named = {"CUDA_VISIBLE_DEVICES": "1,0"}
    with pytest.raises(GpuError, match="CUDA_DEVICE_ORDER=PCI_BUS_ID"):
        visible(named, IDS, KINDS)
    with pytest.raises(GpuError, match="CUDA_DEVICE_ORDER=PCI_BUS_ID"):
        visible({**named, "CUDA_DEVICE_ORDER": "FASTEST_FIRST"}, IDS, KINDS)
    assert visible({**named, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, IDS, KINDS) == [1, 0]
    assert visible({"CUDA_VISIBLE_DEVICES": "GPU-22,GPU-11a"}, IDS, KINDS) == [2, 0]
