"""Values on their way to another process: named tuples as the library has them, packed and unpacked."""

from __future__ import annotations

import copy
import marshal
import pickle
import subprocess
import sys
from collections.abc import Callable
from enum import StrEnum
from typing import Any
from typing import NamedTuple as LibraryTuple

import pytest

from pybuild.model.border import Misfit, NamedTuple, packed, unpacked
from pybuild.model.digest import Digest
from tests.harness import ROOT


class Point(NamedTuple):
    """A place."""

    x: int
    y: int = 0

    @property
    def sum(self) -> int:
        return self.x + self.y


class Path(NamedTuple):
    points: tuple[Point, ...]
    by_name: dict[str, Point]
    last: Point | None = None


class Twin(LibraryTuple):
    x: int
    y: int = 0


class Colour(StrEnum):
    RED = "red"


def crossed(value: Any) -> Any:
    return unpacked(marshal.loads(marshal.dumps(packed(value))))


Use = Callable[[Any], Any]
ALLOWED: list[Use] = [
    lambda kind: kind(1),
    lambda kind: kind(1, 2),
    lambda kind: kind(y=1, x=2),
    lambda kind: kind(1, y=3)._replace(x=5),
    lambda kind: kind(1, 2)._asdict(),
    lambda kind: hash(kind(1, 2)),
    lambda kind: (kind(1, 2).x, kind(1, 2).y, kind(1, 2)[1]),
    lambda kind: kind(1) == kind(1, 0) != kind(1, 1),
    lambda kind: kind._fields,
    lambda kind: repr(kind(1, 2)).partition("(")[2],
    lambda kind: pickle.loads(pickle.dumps(kind(1, 2))),
    lambda kind: copy.copy(kind(1, 2)),
]
REFUSED: list[Use] = [
    lambda kind: kind(),
    lambda kind: kind(1, 2, 3),
    lambda kind: kind(1, z=2),
    lambda kind: kind(1, 2, y=3),
    lambda kind: setattr(kind(1), "x", 2),
    lambda kind: setattr(kind(1), "z", 2),
]


@pytest.mark.parametrize("use", ALLOWED)
def test_a_named_tuple_is_as_the_librarys(use: Use) -> None:
    assert use(Point) == use(Twin)


@pytest.mark.parametrize("use", REFUSED)
def test_a_named_tuple_refuses_what_the_librarys_refuses(use: Use) -> None:
    for kind in (Point, Twin):
        with pytest.raises((TypeError, AttributeError)):
            use(kind)


def test_a_named_tuple_can_be_matched_and_have_properties() -> None:
    match Point(1, 2):
        case Point(x=1, y=second):
            assert second == 2
        case _:
            raise AssertionError
    assert Point(1, 2).sum == 3


@pytest.mark.parametrize(
    "value",
    [
        Point(1, 2),
        Path((Point(1), Point(2)), {"a": Point(3)}, Point(4)),
        Path((), {}),
        [Point(1), Point(2)],
        [[Point(1)]],
        {"a": [("x", b"\0"), ("y", b"\xff")], "b": []},
        None,
        (),
        ["text", 1, 2.5, None, b"x"],
    ],
)
def test_what_is_sent_arrives(value: Any) -> None:
    arrived = crossed(value)
    assert arrived == value
    assert repr(arrived) == repr(value)


def test_text_of_a_kind_arrives_as_text() -> None:
    digest = Digest.of(b"")
    for value in (digest, Colour.RED):
        assert crossed([value]) == [value]
        assert type(crossed([value])[0]) is str


def test_what_cannot_be_sent_is_refused() -> None:
    with pytest.raises(Misfit, match="a value of type object cannot be sent"):
        packed([object()])
    with pytest.raises(ValueError, match="unmarshallable"):
        marshal.dumps(packed(["plain", Point(1)]))


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ((..., f"{__name__}:Point", 1), "came with 1 values, and has x, y here"),
        ((..., f"{__name__}:Point", 1, 2, 3), "came with 3 values"),
        ((..., f"{__name__}:Gone", 1), "Gone is not known in this process"),
        ((..., "no.such.module:Gone", 1), "Gone is not known in this process"),
    ],
)
def test_what_is_another_one_here_is_refused(message: Any, text: str) -> None:
    """As where pybuild was installed anew while it ran."""
    with pytest.raises(Misfit, match=text):
        unpacked(message)


def test_the_border_imports_nothing() -> None:
    program = (
        f"import sys; sys.path.append({str(ROOT)!r}); before = set(sys.modules)\n"
        "import pybuild.model.border\n"
        "print(*sorted(n for n in set(sys.modules) - before if not n.startswith('pybuild')))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert set(done.stdout.split()) <= {"__future__", "_operator"}
