"""Our `dataclass` against the standard library's: the same classes from the same text."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import FrozenInstanceError, field
from pathlib import Path
from typing import Any

import pytest

import pybuild
from pybuild.model.dataclass import dataclass

Decorator = Callable[..., Callable[[type], Any]]


def _make(decorator: Decorator) -> dict[str, Any]:
    """Return classes of every kind that the code base has, as *decorator* makes them."""

    @decorator(frozen=True, slots=True)
    class Placed:
        file: str
        line: int = 1

    @decorator(frozen=True, slots=True, kw_only=True)
    class Named:
        """Has a docstring."""

        key: str
        config: Mapping[str, int] = field(hash=False)
        parts: list[str] = field(default_factory=list[str], hash=False)
        seconds: float = field(default=0.0, compare=False)
        secret: str = field(default="", repr=False)

    @decorator(frozen=True, slots=True)
    class Below(Placed):
        name: str = field(default="x", kw_only=True)

    @decorator(slots=True)
    class Changing:
        one: int
        make0: list[int] = field(default_factory=list[int])
        p1: int = 3
        total: int = 0

        def __post_init__(self) -> None:
            self.total = self.one + self.p1

    @decorator(slots=True, kw_only=True, eq=False)
    class Itself:
        one: int = 0

    @decorator(frozen=True, slots=True)
    class Nothing:
        pass

    @decorator(frozen=True, slots=True)
    class One:
        value: object

    @decorator(frozen=True, slots=True)
    class Own:
        value: int

        def __eq__(self, other: object) -> bool:
            return hash(self) == hash(other)

        def __hash__(self) -> int:
            return self.value % 10

        def __repr__(self) -> str:
            return f"<{self.value}>"

    return {name: value for name, value in locals().items() if isinstance(value, type)}


THEIRS = _make(dataclasses.dataclass)
OURS = _make(dataclass)

CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("Placed", ("a",), {}),
    ("Placed", ("a", 2), {}),
    ("Placed", (), {"line": 2, "file": "a"}),
    ("Placed", (), {}),
    ("Placed", ("a", 1, 2), {}),
    ("Placed", ("a",), {"lime": 1}),
    ("Placed", ("a",), {"file": "a"}),
    ("Named", (), {"key": "k", "config": {}}),
    ("Named", (), {"key": "k", "config": {"a": 1}, "parts": ["p"], "seconds": 1.0, "secret": "s"}),
    ("Named", ("k",), {"config": {}}),
    ("Named", (), {"config": {}}),
    ("Below", ("a", 2), {"name": "n"}),
    ("Below", ("a", 2, "n"), {}),
    ("Changing", (4,), {}),
    ("Changing", (4, [1], 2), {}),
    ("Itself", (), {"one": 1}),
    ("Nothing", (), {}),
    ("One", (None,), {}),
    ("Own", (12,), {}),
]


@pytest.mark.parametrize(("name", "args", "kwargs"), CALLS)
def test_instances_are_as_the_standard_library_makes_them(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    try:
        theirs = THEIRS[name](*args, **kwargs)
    except TypeError as error:
        with pytest.raises(TypeError) as caught:
            OURS[name](*args, **kwargs)
        assert str(caught.value) == str(error)
        return
    ours = OURS[name](*args, **kwargs)
    again = OURS[name](*args, **kwargs)
    assert repr(ours) == repr(theirs)
    assert dataclasses.asdict(ours) == dataclasses.asdict(theirs)
    assert (ours == again) == (theirs == THEIRS[name](*args, **kwargs))
    assert ours != theirs or name == "Own"
    assert (type(ours).__hash__ is None) == (type(theirs).__hash__ is None)
    if type(ours).__hash__ is not None and name not in {"Itself"}:
        assert hash(ours) == hash(again)
    if name not in {"Changing"}:  # whose total is computed anew
        assert dataclasses.replace(ours) == ours or name == "Itself"


@pytest.mark.parametrize("name", sorted(THEIRS))
def test_classes_are_as_the_standard_library_makes_them(name: str) -> None:
    ours, theirs = OURS[name], THEIRS[name]
    assert [(f.name, f.type, f.default) for f in dataclasses.fields(ours)] == [
        (f.name, f.type, f.default) for f in dataclasses.fields(theirs)
    ]
    assert ours.__slots__ == theirs.__slots__
    assert ours.__match_args__ == theirs.__match_args__
    assert ours.__qualname__ == theirs.__qualname__
    shown = [
        [(p.name, p.kind, p.default is p.empty) for p in inspect.signature(cls).parameters.values()]
        for cls in (ours, theirs)
    ]
    assert shown[0] == shown[1]


def test_each_instance_gets_a_value_of_its_own_from_a_factory() -> None:
    one, two = OURS["Named"](key="k", config={}), OURS["Named"](key="k", config={})
    one.parts.append("a")
    assert two.parts == []


def test_what_does_not_count_is_not_compared_or_hashed() -> None:
    one = OURS["Named"](key="k", config={}, seconds=1.0)
    two = OURS["Named"](key="k", config={}, seconds=2.0)
    assert one == two
    assert hash(one) == hash(two)
    assert one != OURS["Named"](key="k", config={"a": 1})


@pytest.mark.parametrize("name", ["Placed", "Below"])
def test_frozen_instances_refuse_changes(name: str) -> None:
    instance = OURS[name]("a", 2)
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'file'"):
        instance.file = "b"
    with pytest.raises(FrozenInstanceError, match="cannot delete field 'file'"):
        del instance.file
    assert instance.file == "a"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A class at the top of a module, where pickle can find it."""

    name: str
    parts: tuple[str, ...] = ()


def test_frozen_instances_can_be_copied_and_pickled() -> None:
    kept = Kept(name="a", parts=("b",))
    assert copy.copy(kept) == kept
    assert copy.deepcopy(kept) == kept
    assert pickle.loads(pickle.dumps(kept)) == kept


def test_what_holds_itself_can_be_shown() -> None:
    changing = OURS["Changing"](1)
    changing.make0.append(changing)
    assert "..." in repr(changing)


def test_other_options_are_left_to_the_standard_library() -> None:
    @dataclass(frozen=True, slots=True, order=True)
    class Ordered:
        value: int

    assert sorted([Ordered(2), Ordered(1)]) == [Ordered(1), Ordered(2)]


def test_no_module_of_ours_takes_the_standard_librarys() -> None:
    """It would work, and take each build a third of a millisecond more a class."""
    package = Path(pybuild.__file__).parent
    files = [path for room in (package, *package.iterdir()) for path in room.rglob("*.py")]
    assert len(files) > 500
    borrowed = [
        str(path.relative_to(package))
        for path in files
        if re.search(r"from dataclasses import .*\bdataclass\b", path.read_text())
    ]
    assert borrowed == ["model/dataclass.py"]


def test_the_standard_librarys_own_classes_are_as_ever_after_ours() -> None:
    """Our class is loaded with stand-ins for parts of the standard library, which afterwards understands annotations, names methods and copies values."""
    program = (
        "import pybuild.model.dataclass, dataclasses, typing\n"
        "@dataclasses.dataclass\n"
        "class A:\n"
        "    a: 'int'\n"
        "    b: 'typing.ClassVar[int]' = 1\n"
        "    c: 'dataclasses.InitVar[int]' = 2\n"
        "    d: 'ClassVar[int]' = 3\n"
        "    e: 'tuple[int, ...]' = ()\n"
        "    def __post_init__(self, c): self.a += c\n"
        "from typing import ClassVar\n"
        "one = A(1)\n"
        "assert A.__repr__.__name__ == '__repr__', A.__repr__\n"
        "print(one, [f.name for f in dataclasses.fields(one)], dataclasses.asdict(one), A.__doc__)\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    plain = program.replace("pybuild.model.dataclass, ", "")
    command = [sys.executable, "-c", plain]
    expected = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == expected.stdout
