"""Copies that fail nowhere and were hardly meant are remarked; what is usual is not."""

from __future__ import annotations

import pytest

from pybuild.executor.files import remarking
from pybuild.executor.files.values import Remark
from pybuild.executor.inputs import advice_of
from pybuild.model.ops import Copy, Owner, ScratchSource, Vertex, VertexMeta
from pybuild.model.span import Span
from tests.executor.filetrees import BASE, Bench, Spec, copy, needs_root

pytestmark = [pytest.mark.root, needs_root]

_PEOPLE: Spec = {"etc/passwd": "root:x:0:0::/:\nweb:x:33:34::/:\n", "etc/group": "root:x:0:\n"}


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("/dist/*.whl", "dist/ in the context has a.tar"),
        ("/*.whl", "the context has dist, one"),
        ("/dist/hid*", ".dockerignore excludes dist/hidden"),
    ],
)
def test_patterns_that_match_nothing_come_with_what_is_there(
    bench: Bench, source: str, why: str
) -> None:
    bench.delta(BASE).context({"dist/a.tar": "", "dist/hidden": "", "one": ""}, ["dist/hidden"])
    assert bench.remarks(copy(source, "/d/")) == [("nothing", [source.lstrip("/"), why])]


@pytest.mark.parametrize(
    "actions",
    [
        (copy("/one", "/d/"), copy("/two*", "/d/")),
        (copy("/on[e]", "/d/"),),
        (copy("/tw[o]", "/d/"),),
        (copy("/o*", "/d/"),),
    ],
)
def test_names_of_what_may_be_missing_are_left_alone(
    bench: Bench, actions: tuple[Copy, ...]
) -> None:
    assert bench.delta(BASE).context({"one": ""}).remarks(*actions) == []


def test_a_pattern_in_a_stage_has_that_tree_s_names(bench: Bench) -> None:
    bench.delta(BASE).snapshot({"bin/app": ""})
    assert bench.remarks(copy("/bin/*.exe", "/d/")) == [
        ("nothing", ["bin/*.exe", "bin/ in that tree has app"])
    ]


def test_sources_that_take_each_other_s_place_are_remarked(bench: Bench) -> None:
    bench.delta({"dir/x": ""}).context({"a": "1", "b": "2"})
    both = copy("/a", "/new"), copy("/b", "/new")
    assert bench.remarks(*both) == [("over", ["a, b", "/new"])]


@pytest.mark.parametrize("dest", ["/dir", "/dir/", "/other/"])
def test_sources_that_go_into_a_directory_are_not(bench: Bench, dest: str) -> None:
    bench.delta({"dir/x": ""}).context({"a": "1", "b": "2"})
    assert bench.remarks(copy("/a", dest), copy("/b", dest)) == []


@pytest.mark.parametrize(
    ("owner", "remark"),
    [
        (Owner(user="node", group="node"), ["user", "node"]),
        (Owner(user="web", group="staff"), ["group", "staff"]),
        (Owner(user="web", group="root"), None),
        (Owner(user="0", group="12"), None),
        (None, None),
    ],
)
def test_owners_that_the_image_does_not_know_are_remarked(
    bench: Bench, owner: Owner | None, remark: list[str] | None
) -> None:
    bench.delta(_PEOPLE).context({"a": ""})
    made = bench.remarks(copy("/a", "/", owner=owner))
    assert made == ([] if remark is None else [("owner", remark)])


def test_much_of_a_context_comes_with_its_largest_directories(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remarking, "LARGE_BYTES", 9000)
    spec: Spec = {"modules/a/b": "x" * 6000, "modules/c": "x" * 1000, "data": "x" * 3000, "s": "x"}
    bench.delta(BASE).context({**spec, "hidden": "x" * 9000}, ["hidden"])
    assert bench.remarks(copy("/", "/srv/")) == [
        ("large", ["10kB", "modules (7kB), data (3kB)", "modules"])
    ]


def test_less_than_that_is_no_remark(bench: Bench) -> None:
    assert bench.delta(BASE).context({"a": "x" * 9000}).remarks(copy("/", "/srv/")) == []


def test_a_remark_is_advice_with_the_lines_that_it_is_about() -> None:
    spans = (Span("Dockerfile", 3, 3),)
    vertex = Vertex(ScratchSource(), meta=VertexMeta(spans=spans))
    warning = advice_of(Remark("owner", ["user", "node"]), vertex)
    assert warning.rule == "UnknownOwner"
    assert warning.message == (
        "the image knows no user node, root is the owner: make it before, or give a number"
    )
    assert (warning.spans, warning.at_once) == (spans, True)
