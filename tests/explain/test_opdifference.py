"""Differences of ops, sources and contents, in the words that a Dockerfile has for them."""

from __future__ import annotations

from typing import Any

import pytest

from pybuild.explain.difference import MAX_TEXT, Difference, differences, source_name
from pybuild.explain.listings import FileDifference, file_differences
from pybuild.model.named import Listing

FILE = "100644 0:0 1 aa"


def found(
    was: dict[str, Any], now: dict[str, Any], listings: dict[str, Listing] | None = None
) -> list[Difference]:
    return differences(was, now, (listings or {}).get)


def of_ops(was: dict[str, Any], now: dict[str, Any], kind: str = "ExecOp") -> list[Difference]:
    return found({"op": {"type": kind, **was}}, {"op": {"type": kind, **now}})


def test_platforms_differ_where_both_are_known() -> None:
    was = {"platform": {"os": "linux", "arch": "arm", "variant": "v7"}}
    now = {"platform": {"os": "linux", "arch": "amd64", "variant": ""}}
    assert of_ops(was, now) == [Difference(field="platform", was="linux/arm/v7", now="linux/amd64")]
    assert of_ops(was, {}) == of_ops({}, now) == of_ops(now, now) == []


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        ("ImageSource", "base"),
        ("OciLayoutSource", "base"),
        ("GitSource", "commit"),
        ("HttpSource", "url"),
    ],
)
def test_a_source_differs_by_what_it_stands_for(kind: str, field: str) -> None:
    def source(identity: str) -> dict[str, Any]:
        return {"op": {"type": kind}, "identity": identity}

    assert found(source("a"), source("b")) == [Difference(field=field, was="a", now="b")]
    assert found(source(""), source("b")) == found(source("a"), source("")) == []


def base(key: str, **more: str) -> dict[str, Any]:
    return {"inputs": [{"key": key, "type": "ImageSource", "name": "[1/2] FROM a:1", **more}]}


def test_a_base_is_named_as_its_author_wrote_it_and_no_parent_besides() -> None:
    was, now = base("1", identity="x"), base("2", identity="y")
    assert found(was, now) == [Difference(field="base", was="x", now="y", path="a:1")]
    assert found(was, base("1", identity="y")) == []


@pytest.mark.parametrize(("was", "now"), [("x", ""), ("", "y"), ("", "")])
def test_without_both_identities_it_is_another_step(was: str, now: str) -> None:
    assert found(base("1", identity=was), base("2", identity=now)) == [
        Difference(field="parent", was="[1/2] FROM a:1", now="[1/2] FROM a:1")
    ]


def test_an_input_without_a_key_is_no_parent() -> None:
    keyless = {"inputs": [{"name": "context"}]}
    assert found(base("1"), keyless) == found(keyless, base("1")) == found({}, base("1")) == []


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("[1/3] FROM a:1@sha256:ab", "a:1"),
        ("[linux/arm64 build 1/3] FROM a", "a"),
        ("FROM a", "a"),
        ("[internal] load build context", "load build context"),
        ("a:1", "a:1"),
    ],
)
def test_sources_have_the_names_of_their_authors(name: str, shown: str) -> None:
    assert source_name(name) == shown


def test_the_command_comes_first_then_variables_then_the_rest_by_name() -> None:
    was = {"args": ["a"], "env": ["A=1"], "cwd": "/", "user": "u", "valid_exit_codes": [0]}
    now = {"args": ["b"], "env": ["A=2"], "cwd": "/b", "user": "v", "valid_exit_codes": [0, 1]}
    shown = [(one.field, one.was, one.now) for one in of_ops(was, now)]
    assert shown == [
        ("command", "a", "b"),
        ("env.A", "1", "2"),
        ("workdir", "/", "/b"),
        ("user", "u", "v"),
        ("exit-codes", "[0]", "[0, 1]"),
    ]


@pytest.mark.parametrize(
    ("was", "now", "expected"),
    [
        ("sh -c a", "sh -c b", ("command", "a", "b")),
        ("sh -c a", "bash -c a", ("shell", "sh -c", "bash -c")),
        ("sh -c a", "bash -c b", ("command", "sh -c a", "bash -c b")),
        ("a b", "a c", ("command", "a b", "a c")),
        ("a b c d", "a b c e", ("command", "a b c d", "a b c e")),
        ("a", "sh a", ("command", "a", "sh a")),
        ("sh a", "a", ("command", "sh a", "a")),
        ("", "a", ("command", "", "a")),
    ],
)
def test_of_a_command_the_part_that_differs_is_shown(
    was: str, now: str, expected: tuple[str, str, str]
) -> None:
    (one,) = of_ops({"args": was.split()}, {"args": now.split()})
    assert (one.field, one.was, one.now) == expected


def test_variables_that_are_gone_come_last_and_only_order_is_order() -> None:
    def of_env(was: str, now: str) -> list[tuple[str, str | None, str | None]]:
        changes = of_ops({"env": was.split()}, {"env": now.split()})
        return [(one.field, one.was, one.now) for one in changes]

    assert of_env("A=1 B=1", "B=x=y C=") == [
        ("env.B", "1", "x=y"),
        ("env.C", None, ""),
        ("env.A", "1", None),
    ]
    assert of_env("A=1 B=2", "B=2 A=1") == [("env.order", "A, B", "B, A")]


def of_mounts(*pairs: tuple[dict[str, Any] | None, dict[str, Any] | None]) -> list[Difference]:
    was = [old for old, _ in pairs if old is not None]
    now = [new for _, new in pairs if new is not None]
    return of_ops({"mounts": was}, {"mounts": now})


def mount(target: str, kind: str = "Mount", **more: Any) -> dict[str, Any]:
    return {"target": target, "type": kind, **more}


def test_mounts_come_go_and_change() -> None:
    root = mount("/")
    assert of_mounts((root, root), (None, mount("/a")), (mount("/b", "cache"), None)) == [
        Difference(field="mount.added", now="bind", path="/a"),
        Difference(field="mount.removed", was="cache", path="/b"),
    ]
    assert of_mounts((mount("/a", cache_id="x"), mount("/a", "tmpfs", tmpfs_size_bytes=5))) == [
        Difference(field="mount.id", was="x", path="/a"),
        Difference(field="mount.size", now="5", path="/a"),
        Difference(field="mount.type", was="bind", now="tmpfs", path="/a"),
    ]
    assert of_mounts((mount("/a"), mount("/a", readonly=True))) == [
        Difference(field="mount.readonly", now="true", path="/a")
    ]


def test_where_a_mount_comes_from_is_told_elsewhere_and_order_alone() -> None:
    was, now = mount("/a", input=1, selection="x"), mount("/a", input=2, selection="y")
    order = [Difference(field="mount.order", was="/a", now="/a")]
    assert of_mounts((was, now)) == order
    assert of_ops({"mounts": [mount("/"), mount("/a")]}, {"mounts": [mount("/a"), mount("/")]}) == [
        Difference(field="mount.order", was="/, /a", now="/a, /")
    ]


def of_actions(was: list[Any], now: list[Any]) -> list[Difference]:
    return of_ops({"actions": was}, {"actions": now}, "FileOp")


def action(kind: str = "Copy", **fields: Any) -> dict[str, Any]:
    return {"type": kind, **fields}


def test_other_actions_are_another_command() -> None:
    was = [action(source="/a", dest="/b"), action("Mkdir", path="/w", mode=0o755)]
    assert of_actions(was, was[:1]) == [
        Difference(field="command", was="Copy /a /b; Mkdir /w", now="Copy /a /b")
    ]


@pytest.mark.parametrize(
    ("kind", "name", "was", "now", "expected"),
    [
        ("Mkdir", "path", "/a", "/b", ("workdir", "/a", "/b")),
        ("Rm", "path", "/a", "/b", ("path", "/a", "/b")),
        ("Copy", "mode", 0o755, 0o60, ("chmod", "0755", "0060")),
        ("Copy", "mode", "u+x", None, ("chmod", "u+x", None)),
        ("Copy", "owner", {"user": "1", "group": "2"}, None, ("chown", "1:2", None)),
        ("Copy", "owner", {"type": "Owner", "user": "5"}, None, ("chown", "5", None)),
        ("Copy", "owner", {"type": "Owner", "group": "7"}, None, ("chown", "0:7", None)),
        ("Mkfile", "data", {"bytes": "sha256:a", "size": 3}, None, ("content", "3 bytes, sha256:a", None)),
        ("Copy", "exclude", ["a", "b"], [], ("exclude", "a, b", "")),
        ("Copy", "parents_pivot", 1, 2, ("parents", "1", "2")),
        ("Copy", "mtime", None, 0, ("epoch", None, "0")),
        ("Copy", "wildcard", False, True, ("wildcard", "false", "true")),
    ],
)  # fmt: skip
def test_options_of_an_action_have_the_names_that_people_write(
    kind: str, name: str, was: Any, now: Any, expected: tuple[str, str | None, str | None]
) -> None:
    (one,) = of_actions([action(kind, **{name: was})], [action(kind, **{name: now})])
    assert (one.field, one.was, one.now) == expected


def test_how_a_source_is_read_matters_only_where_it_is_the_same() -> None:
    was = action(dest="/d", source="/a", wildcard=False, input=1)
    now = action(dest="/e", source="/*", wildcard=True, input=2)
    assert [one.field for one in of_actions([was], [now])] == ["source", "dest"]


def test_texts_are_cut_where_nobody_reads_on() -> None:
    def shown(length: int) -> str | None:
        (one,) = of_ops({}, {"user": "x" * length})
        return one.now

    assert shown(MAX_TEXT) == "x" * MAX_TEXT
    assert shown(MAX_TEXT + 1) == "x" * MAX_TEXT + "…"


def contents(*digests: str) -> dict[str, Any]:
    return {"inputs": [{"name": "context", "content": list(digests)}]}


def test_contents_are_compared_one_by_one_and_equal_ones_are_not_looked_at() -> None:
    asked: list[str] = []

    def find(digest: str) -> Listing | None:
        asked.append(digest)
        return {"x": (("a", FILE),), "y": (("b", FILE),)}.get(digest)

    assert differences(contents("same", "x"), contents("same", "y"), find) == [
        Difference(field="file.removed", was="file of 1 bytes", path="a"),
        Difference(field="file.added", now="file of 1 bytes", path="b"),
    ]
    assert asked == ["x", "y"]


@pytest.mark.parametrize("known", ["x", "y", "xy"])
def test_lists_that_are_missing_or_equal_leave_the_digests_to_tell(known: str) -> None:
    listings: dict[str, Listing] = {digest: (("a", "directory"),) for digest in known}
    assert found(contents("x"), contents("y"), listings) == [
        Difference(field="content", was="x", now="y", path="context")
    ]


def test_the_same_difference_is_said_once() -> None:
    def twice(digest: str) -> dict[str, Any]:
        return {"inputs": [*contents(digest)["inputs"], *contents(digest)["inputs"]]}

    assert len(found(twice("x"), twice("y"))) == 1


@pytest.mark.parametrize(
    ("look", "shown"),
    [
        ("010644 0:0 0 0", "pipe"),
        ("020666 0:0 0 0", "character device"),
        ("040755 0:0 0 0", "directory"),
        ("060660 0:0 0 0", "block device"),
        ("100644 0:0 12 ab", "file of 12 bytes"),
        ("120777 0:0 0 >../b", "link to ../b"),
        ("140755 0:0 0 0", "socket"),
        ("990000 0:0 0 0", "99"),
        ("directory", "directory"),
    ],
)
def test_files_are_shown_by_their_kind(look: str, shown: str) -> None:
    assert file_differences((), (("a", look),)) == [FileDifference("added", "a", None, shown)]
    assert file_differences((("a", look),), ()) == [FileDifference("removed", "a", shown, None)]


def test_one_file_may_differ_in_several_ways() -> None:
    def of(was: str, now: str) -> list[str]:
        return [one.what for one in file_differences((("a", was),), (("a", now),))]

    assert of("100644 0:0 1 aa", "100600 1:1 2 bb") == ["mode", "owner", "content"]
    assert of("100644 0:0 1 aa", "100644 0:0 2 aa") == ["content"]
    assert of("100644 0:0 1 aa", "100644 0:0 1 bb") == ["content"]
    assert of("120777 0:0 0 >a", "120777 1:0 0 >b") == ["link", "owner"]
    assert of("100644 0:0 1 aa", "120777 1:0 0 >b") == ["type"]


def listed(*paths: str) -> Listing:
    return tuple((path, FILE) for path in paths)


def changed(was: Listing, now: Listing) -> list[tuple[str, str]]:
    return [(one.what, one.path) for one in file_differences(was, now)]


def test_files_that_moved_together_are_compared_where_they_are_now() -> None:
    assert changed(listed("a/w", "a/x", "a/y"), listed("b/w", "b/x", "b/z")) == [
        ("removed", "b/y"),
        ("added", "b/z"),
    ]
    assert changed(listed("a/b/x", "a/b/y"), listed("x", "z")) == [("removed", "y"), ("added", "z")]


def test_files_that_have_nothing_in_common_did_not_move() -> None:
    assert changed(listed("a/x"), listed("b/z")) == [("removed", "a/x"), ("added", "b/z")]
    assert changed(listed("x"), ()) == [("removed", "x")]
    assert changed((), ()) == []


def test_one_file_that_came_between_others_is_the_only_difference() -> None:
    assert changed(listed("a", "c"), listed("a", "b", "c")) == [("added", "b")]
    assert changed(listed("a", "b", "c"), listed("a", "c")) == [("removed", "b")]
    assert changed(listed("a", "b"), listed("a", "b")) == []
