"""Results that are models, dataclasses or files of inference.sh travel as plain values."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import pytest
from inferencesh import File as ForeignFile
from pydantic import BaseModel, ConfigDict, Field, RootModel

from warmd.daemon.worker import results
from warmd.protocol import values
from warmd.protocol.files import File
from warmd.protocol.values import Unpackable, fall_back_on, pack, pack_apart, unpack


@pytest.fixture(autouse=True)
def as_in_a_worker() -> Iterator[None]:
    before = values._fallback
    fall_back_on(results.plain)
    yield
    fall_back_on(before)


@dataclasses.dataclass
class Point:
    x: Any
    y: int = 2


@pydantic.dataclasses.dataclass
class Checked:
    number: int
    name: str = Field("n", serialization_alias="Name")


class Colour(enum.Enum):
    RED = "red"


class Model(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True, extra="allow")

    value: Any = None
    point: Point | None = None
    file: ForeignFile | None = None
    files: list[ForeignFile] = []
    named: dict[str, ForeignFile] = {}
    when: datetime.datetime | None = None
    secret: int = Field(5, exclude=True)


class Outer(BaseModel):
    inner: Model
    renamed: Model | None = Field(None, serialization_alias="Renamed")


class ByAlias(BaseModel):
    model_config = ConfigDict(serialize_by_alias=True)

    file: ForeignFile = Field(serialization_alias="File")


def travelled(value: Any) -> Any:
    found = unpack(pack(value, "result"))
    apart = pack_apart(value, "result")
    assert isinstance(apart, bytes)
    assert repr(unpack(apart)) == repr(found)
    return found


def changed(value: Any) -> dict[str, Any]:
    """What of a model is not as it would be."""
    plain = travelled(Model())
    return {key: item for key, item in travelled(value).items() if key not in plain or plain[key] != item}


def test_models_and_dataclasses_are_dicts_wherever_they_are() -> None:
    assert travelled(Point(1)) == {"x": 1, "y": 2}
    assert travelled([Point(1), {"a": (Point(Point(3)),)}]) == [
        {"x": 1, "y": 2}, {"a": ({"x": {"x": 3, "y": 2}, "y": 2},)},
    ]  # fmt: skip
    found = changed(Model(value=3, point=Point(1), more=4))
    assert found == {"value": 3, "point": {"x": 1, "y": 2}, "more": 4}
    assert travelled(Checked(3)) == {"number": 3, "name": "n"}
    assert travelled(RootModel[list[int]]([1, 2])) == [1, 2]
    assert travelled(RootModel[tuple[int, ...]]((1, 2))) == (1, 2)
    assert travelled([Outer(inner=Model(value=1))])[0]["inner"]["value"] == 1


def test_files_are_files_in_models_too(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_text("a")
    theirs, ours = ForeignFile(path=str(path)), File(path, "image/png", "a.png")
    assert travelled(theirs) == ours
    assert travelled({"f": [theirs]}) == {"f": [ours]}
    assert changed(Model(file=theirs, files=[theirs], named={"n": theirs}, value=theirs, extra=theirs)) == {
        "file": ours, "files": [ours], "named": {"n": ours}, "value": ours, "extra": ours,
    }  # fmt: skip
    outer = travelled(Outer(inner=Model(file=theirs), renamed=Model(file=theirs)))
    assert (outer["inner"]["file"], outer["renamed"]["file"]) == (ours, ours)
    assert travelled(Point(theirs))["x"] == ours
    assert travelled(ByAlias(file=theirs)) == {"File": ours}


def test_a_file_that_is_not_there_is_refused_by_its_path(tmp_path: Path) -> None:
    gone = ForeignFile(path=str(tmp_path / "gone"))
    with pytest.raises(Unpackable, match=r'result\["a"\]: no file at .*gone'):
        pack({"a": Model(file=gone)}, "result")


def test_what_json_has_no_word_for_is_text_within_a_model() -> None:
    id = uuid.UUID(int=5)
    when = datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC)
    odd = {"id": id, "path": Path("/a"), "c": [Colour.RED], "s": {Colour.RED}}
    found = changed(Model(when=when, value=odd))
    assert found["when"] == "2020-01-02T00:00:00Z"
    assert found["value"] == {"id": str(id), "path": "/a", "c": ["red"], "s": {"red"}}


def test_arrays_and_bytes_stay_what_they_are() -> None:
    found = travelled(Model(value=np.arange(3), raw=b"\xff"))
    assert found["value"].tolist() == [0, 1, 2]
    assert found["raw"] == b"\xff"


def test_large_arrays_in_a_model_lie_apart() -> None:
    packed = pack_apart(Model(value=np.zeros(2**20)), "result")
    assert not isinstance(packed, bytes), "it is copied into shared memory at once"


def test_what_cannot_travel_is_named_within_a_model() -> None:
    with pytest.raises(Unpackable, match=r'result\[0\]\["value"\]\["b"\]: object of type object'):
        pack([Model(value={"b": object()})], "result")
    with pytest.raises(Unpackable, match=r'result\["x"\]: object of type object'):
        pack(Point(object()), "result")
    with pytest.raises(Unpackable, match="result: object of type type"):
        pack(Point, "result")


def test_a_structure_that_contains_itself_is_refused() -> None:
    point = Point(1)
    point.x = point
    with pytest.raises(Unpackable):
        pack(point, "result")


def test_keys_of_a_model_are_told_as_its_values_are() -> None:
    id, day = uuid.UUID(int=5), datetime.date(2026, 1, 2)
    found = travelled(Model(value={id: 1, day: {Colour.RED: 2}, 3: 4}))
    assert found["value"] == {str(id): 1, "2026-01-02": {"red": 2}, 3: 4}
