"""Tables of the configuration file: values of their types, and complaints that name the place."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pybuild.engine.table import Table, read_toml
from pybuild.model.errors import UsageError


def table(**values: Any) -> Table:
    return Table("c.toml", "top", values)


def complaint(read: Callable[[Table], object], value: object) -> str:
    with pytest.raises(UsageError) as caught:
        read(table(key=value))
    message = caught.value.message
    start = 'configuration file c.toml: "top.key" must be '
    assert message.startswith(start)
    return message.removeprefix(start)


def test_what_is_absent_has_a_default() -> None:
    empty = table()
    assert (empty.text("key"), empty.texts("key"), empty.words("key")) == ("", (), ())
    assert (empty.addresses("key"), empty.tables("key")) == ((), [])
    assert (empty.boolean("key", True), empty.boolean("key", False)) == (True, False)
    assert (empty.number("key"), empty.number("key", 7)) == (0, 7)
    assert (empty.duration("key"), empty.duration("key", 7.5)) == (0.0, 7.5)
    assert (empty.size("key"), empty.choice("key", ("a", "b"))) == ("", "a")
    assert empty.child("key").keys_any() == []


def test_values_are_given_as_they_are_written() -> None:
    full = table(
        text="x",
        texts=["a b", ""],
        words=["a", "b"],
        addresses=["::1", "192.0.2.1"],
        flag=False,
        number=0,
        child={"b": 1, "a": 2},
    )
    assert full.text("text") == "x"
    assert full.texts("texts") == ("a b", "")
    assert full.words("words") == ("a", "b")
    assert full.addresses("addresses") == ("::1", "192.0.2.1")
    assert full.boolean("flag", True) is False
    assert full.number("number", 7) == 0
    assert full.child("child").keys_any() == ["a", "b"]
    assert full.child("child").as_dict() == {"b": 1, "a": 2}


@pytest.mark.parametrize("value", [10, "10GB", "60%", "0"])
def test_a_size_stays_as_it_is_written(value: int | str) -> None:
    assert table(key=value).size("key") == str(value)


@pytest.mark.parametrize(("value", "seconds"), [(90, 90.0), ("90", 90.0), ("1h30m", 5400.0)])
def test_a_duration_is_seconds(value: int | str, seconds: float) -> None:
    assert table(key=value).duration("key", 1.0) == seconds


def test_a_choice_is_one_of_them() -> None:
    assert table(key="b").choice("key", ("a", "b")) == "b"


WRONG: list[tuple[Callable[[Table], object], object, str]] = [
    (lambda t: t.text("key"), 7, "a string, not 7"),
    (lambda t: t.choice("key", ("a", "b")), "c", "one of a, b, not 'c'"),
    (lambda t: t.boolean("key", True), 1, "true or false, not 1"),
    (lambda t: t.number("key"), "1", "a whole number, not '1'"),
    (lambda t: t.number("key"), True, "a whole number, not True"),
    (lambda t: t.number("key"), -1, "a whole number, not -1"),
    (lambda t: t.size("key"), True, "a size such as 10GB or 60%, not True"),
    (lambda t: t.size("key"), 1.5, "a size such as 10GB or 60%, not 1.5"),
    (lambda t: t.size("key"), "big", "a size such as 10GB or 60%, not 'big'"),
    (lambda t: t.size("key", "few bytes"), "big", "few bytes, not 'big'"),
    (lambda t: t.duration("key"), False, "a duration such as 48h or 30d, not False"),
    (lambda t: t.duration("key"), 1.5, "a duration such as 48h or 30d, not 1.5"),
    (lambda t: t.duration("key"), "soon", "a duration such as 48h or 30d, not 'soon'"),
    (lambda t: t.child("key"), [], "a table, not []"),
    (lambda t: t.tables("key"), {}, "an array of tables, not {}"),
    (lambda t: t.tables("key"), [{}, 1], "an array of tables, not [{}, 1]"),
    (lambda t: t.texts("key"), "a", "a list of strings, not 'a'"),
    (lambda t: t.texts("key"), ["a", 1], "a list of strings, not ['a', 1]"),
    (lambda t: t.words("key"), ["a", "b c"], "a list of single words, not 'b c'"),
    (lambda t: t.words("key"), [""], "a list of single words, not ''"),
    (lambda t: t.words("key"), [" a"], "a list of single words, not ' a'"),
    (lambda t: t.addresses("key"), ["::1", "h"], "a list of IP addresses, not 'h'"),
]  # fmt: skip


@pytest.mark.parametrize(("read", "value", "text"), WRONG)
def test_a_wrong_value_is_named_with_what_it_must_be(
    read: Callable[[Table], object], value: object, text: str
) -> None:
    assert complaint(read, value) == text


def test_tables_below_are_named_with_those_above() -> None:
    inner = Table("c.toml", "", {"a": {"b": {"key": 7}}, "rows": [{"key": 7}]})
    with pytest.raises(UsageError, match=r'"a\.b\.key" must be a string'):
        inner.child("a").child("b").text("key")
    (row,) = inner.tables("rows")
    with pytest.raises(UsageError, match=r'"rows\.key" must be a string'):
        row.text("key")
    (row,) = table(rows=[{"key": 7}]).tables("rows")
    with pytest.raises(UsageError, match=r'"top\.rows\.key" must be a string'):
        row.text("key")


def test_an_unknown_key_is_named_with_its_neighbour() -> None:
    table(root=1).only(("root", "key"))
    with pytest.raises(UsageError) as caught:
        table(rot=1).only(("root", "key"))
    assert caught.value.message == (
        'configuration file c.toml: unknown key "top.rot" (did you mean root?)'
    )
    with pytest.raises(UsageError) as caught:
        Table("c.toml", "", {"zzz": 1}).only(("root",))
    assert caught.value.message == 'configuration file c.toml: unknown key "zzz"'


def test_a_file_is_read_and_what_is_wrong_with_it_is_said(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[a]\nb = 1\n")
    assert read_toml(str(path)) == {"a": {"b": 1}}
    path.write_bytes(b"a = '\xff'")
    with pytest.raises(UsageError, match=f"^configuration file {path}: 'utf-8' codec"):
        read_toml(str(path))
    path.unlink()
    with pytest.raises(UsageError, match=f"^configuration file {path}: No such file"):
        read_toml(str(path))


def test_a_file_that_others_may_write_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("")
    os.chmod(path, 0o666)
    with pytest.raises(UsageError, match="may be somebody else's word") as caught:
        read_toml(str(path))
    assert caught.value.hints == ("chown and chmod it, or name another with --config",)
