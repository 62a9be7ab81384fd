"""Differences are named as people look for them, and the nearest result is the one meant."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from pybuild.explain import nearest
from pybuild.explain.difference import Difference, differences
from pybuild.explain.listings import MAX_DIFFERENCES, file_differences
from pybuild.explain.nearest import Neighbours, StepName
from pybuild.model.digest import Digest
from pybuild.model.named import KnownInputs, Listing
from pybuild.model.ops import Copy, ExecOp, FileOp, Mount, MountType, Vertex
from pybuild.solver import keys
from tests.solver.builders import AMD64, image

ROOT = Mount(target="/", input=0, output=True)
RUN = ExecOp(args=("/bin/sh", "-c", "make"), env=("A=1",), cwd="/", mounts=(ROOT,), platform=AMD64)
PARENT = Digest.of(b"parent")


def parts(op: ExecOp, key: Digest = PARENT, base: Vertex | None = None) -> dict[str, Any]:
    source = keys.NamedSource(base or Vertex(RUN, meta=image().meta))
    return dict(keys.named_inputs(keys.definition_part(op), [source], [keys.ByKey(key)]).parts)


def nothing(_digest: str) -> Listing | None:
    return None


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (replace(RUN, args=("/bin/sh", "-c", "ninja")), Difference(field="command", was="make", now="ninja")),
        (replace(RUN, args=("bash", "-c", "make")), Difference(field="shell", was="/bin/sh -c", now="bash -c")),
        (replace(RUN, args=("make",)), Difference(field="command", was="/bin/sh -c make", now="make")),
        (replace(RUN, env=("A=2",)), Difference(field="env.A", was="1", now="2")),
        (replace(RUN, env=()), Difference(field="env.A", was="1")),
        (replace(RUN, cwd="/src"), Difference(field="workdir", was="/", now="/src")),
        (
            replace(RUN, mounts=(ROOT, Mount(target="/c", type=MountType.CACHE))),
            Difference(field="mount.added", now="cache", path="/c"),
        ),
    ],
)  # fmt: skip
def test_one_difference_of_a_run(now: ExecOp, expected: Difference) -> None:
    assert differences(parts(RUN), parts(now), nothing) == [expected]


def test_a_copy_is_told_by_what_was_written() -> None:
    def copied(copy: Copy) -> dict[str, Any]:
        return {"op": keys.definition_part(FileOp(actions=(copy,)))}

    one = copied(Copy(input=1, source="/config", dest="/etc/tool"))
    other = copied(Copy(input=1, source="/conf*", dest="/etc/", wildcard=True, allow_empty=True))
    assert differences(one, other, nothing) == [
        Difference(field="source", was="/config", now="/conf*"),
        Difference(field="dest", was="/etc/tool", now="/etc/"),
    ]


def test_a_parent_is_blamed_last_and_a_base_by_its_digest() -> None:
    other = replace(RUN, env=("A=2",))
    found = differences(parts(RUN), parts(other, Digest.of(b"another")), nothing)
    assert [one.field for one in found] == ["env.A", "parent"]
    was, now = (Vertex(RUN, meta=replace(image().meta, name=name)) for name in ("old", "new"))
    (found_parent,) = differences(
        parts(RUN, base=was), parts(RUN, Digest.of(b"n"), base=now), nothing
    )
    assert found_parent == Difference(field="parent", was="old", now="new")
    old, new = image("old"), image("new")
    found = differences(parts(RUN, base=old), parts(RUN, Digest.of(b"n"), base=new), nothing)
    assert [one.field for one in found] == ["base"]


def test_files_are_told_by_what_changed_about_them() -> None:
    was = (
        ("came-and-went", "100644 0:0 1 aa"),
        ("content", "100644 0:0 1 aa"),
        ("link", "120777 0:0 0 >a b"),
        ("mode", "100644 0:0 1 aa"),
        ("owner", "100644 0:0 1 aa"),
        ("same", "100644 0:0 1 aa"),
        ("type", "100644 0:0 1 aa"),
    )
    now = (
        ("content", "100644 0:0 1 bb"),
        ("link", "120777 0:0 0 >c"),
        ("mode", "100755 0:0 1 aa"),
        ("new", "040755 0:0 0 0"),
        ("owner", "100644 1:0 1 aa"),
        ("same", "100644 0:0 1 aa"),
        ("type", "040755 0:0 0 0"),
    )
    found = [(one.what, one.path, one.was, one.now) for one in file_differences(was, now)]
    assert found == [
        ("removed", "came-and-went", "file of 1 bytes", None),
        ("added", "new", None, "directory"),
        ("type", "type", "file of 1 bytes", "directory"),
        ("link", "link", "a b", "c"),
        ("mode", "mode", "0644", "0755"),
        ("owner", "owner", "0:0", "1:0"),
        ("content", "content", "1 bytes, sha256 aa…", "1 bytes, sha256 bb…"),
    ]


def test_no_more_files_are_told_than_anybody_reads() -> None:
    now = tuple((f"{n:04}", "100644 0:0 1 aa") for n in range(MAX_DIFFERENCES + 5))
    assert len(file_differences((), now)) == MAX_DIFFERENCES


def test_lists_that_are_not_kept_leave_the_digests_to_tell() -> None:
    was: dict[str, Any] = {"op": {"type": "FileOp"}, "inputs": [{"name": "ctx", "content": ["x"]}]}
    now = {**was, "inputs": [{"name": "ctx", "content": ["y"]}]}
    assert differences(was, now, nothing) == [
        Difference(field="content", was="x", now="y", path="ctx")
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("[2/5] RUN make", StepName("RUN make", "", 2, 5)),
        ("[linux/arm64 build 3/4] COPY a b", StepName("COPY a b", "linux/arm64 build", 3, 4)),
        ("[1/2] FROM docker.io/x:1@sha256:ab", StepName("docker.io/x:1", "", 1, 2)),
        ("[internal] load build context", StepName("[internal] load build context")),
    ],
)
def test_names_are_taken_apart(name: str, expected: StepName) -> None:
    assert StepName.parse(name) == expected


def known(name: str, op: ExecOp, key: Digest = PARENT, first: float = 1.0) -> KnownInputs:
    return KnownInputs(key=name + str(first), name=name, parts=parts(op, key), first=first)


def choose(name: str, *candidates: KnownInputs, names: tuple[str, ...] = ()) -> str | None:
    found = Neighbours(candidates, {name, *names}).nearest(name, parts(RUN))
    return None if found is None else found.key


def test_the_same_instruction_is_nearest_and_of_several_the_most_alike() -> None:
    same = known("[2/3] RUN make", replace(RUN, env=("A=2",)))
    worse = known("[2/3] RUN make", replace(RUN, env=("A=2", "B=2")), first=9.0)
    other = known("[2/3] RUN maki", RUN, first=10.0)
    assert choose("[2/3] RUN make", worse, same, other) == same.key


def test_of_equally_near_ones_the_latest_is_taken() -> None:
    old = known("[2/3] RUN make", replace(RUN, env=("A=2",)), first=1.0)
    new = known("[2/3] RUN make", replace(RUN, env=("A=3",)), first=2.0)
    assert choose("[2/3] RUN make", old, new) == new.key


def test_an_edited_instruction_is_found_in_its_place() -> None:
    edited = known("[2/3] RUN something else", RUN)
    assert choose("[2/3] RUN make", edited) == edited.key


def test_an_inserted_line_is_no_edit_of_the_one_that_it_pushed_down() -> None:
    pushed = known("[2/3] RUN make it", RUN)
    assert choose("[2/4] RUN make", pushed, names=("[3/4] RUN make it",)) is None
    assert choose("[2/4] RUN make", known("[2/3] COPY a b", RUN)) is None


@pytest.mark.slow
@pytest.mark.parametrize("are_renamed", [False, True])
def test_all_misses_of_a_large_build_are_explained_in_proportion(
    monkeypatch: pytest.MonkeyPatch, are_renamed: bool
) -> None:
    def looked_at(steps: int) -> int:
        calls = 0

        def counted(name: str) -> StepName:
            nonlocal calls
            calls += 1
            return parse(name)

        def compared(*args: Any, **kinds: Any) -> float | None:
            nonlocal calls
            calls += 1
            return likeness(*args, **kinds)

        parse, likeness = StepName.parse, nearest.likeness
        with monkeypatch.context() as patch:
            patch.setattr(StepName, "parse", counted)
            patch.setattr(nearest, "likeness", compared)
            names = [f"[s {n}/{steps}] RUN make {n}" for n in range(1, steps + 1)]
            olds = [name + " -k" * are_renamed for name in names]
            rows = [known(old, RUN, key=Digest.of(old.encode())) for old in olds]
            neighbours = Neighbours(rows, names)
            for name in names:
                found = neighbours.nearest(name, parts(replace(RUN, env=("B=1",))))
                assert found is not None
                assert found.name == name + " -k" * are_renamed
        return calls

    assert looked_at(600) < 2.2 * looked_at(300)


@pytest.mark.slow
def test_a_million_like_results_are_not_all_compared() -> None:
    latest = known("[2/3] RUN something else", RUN, first=5000.0)
    crowd = [known(f"[2/3] RUN other {n}", RUN, first=float(n)) for n in range(2000)]
    neighbours = Neighbours([*crowd, latest], ["[2/3] RUN make"])
    compared = 0

    def count(was: object, now: object, find: object) -> list[Difference]:
        nonlocal compared
        compared += 1
        return []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "differences", count)
        found = neighbours.nearest("[2/3] RUN make", parts(RUN))
    assert found is latest
    assert 0 < compared <= 200


@pytest.mark.parametrize("root", ["ctx", "deep/er"])
def test_one_content_listed_at_two_places_differs_by_files_alone(root: str) -> None:
    """The list that is kept of a content is that of the place where it was first read."""
    look = "100644 0:0 1 "
    was: Listing = (("a", look + "00"), ("sub", "040755 0:0 0 00"), ("sub/b", look + "01"))
    now: Listing = (
        (root, "directory"),
        (f"{root}/a", look + "99"),
        (f"{root}/sub", "040755 0:0 0 00"),
        (f"{root}/sub/b", look + "01"),
    )
    there = [(one.what, one.path) for one in file_differences(was, now)]
    back = [(one.what, one.path) for one in file_differences(now, was)]
    assert there == [("content", f"{root}/a")]
    assert back == [("content", "a")]


def test_a_secret_in_another_variable_is_no_more_shown_than_in_its_own() -> None:
    env = ("API_TOKEN=hunter2hunter2", "URL=https://x/?k=hunter2hunter2", "A=1")
    told = json.dumps(parts(replace(RUN, env=env)))
    assert "hunter2" not in told and told.count("[redacted") == 2 and '"A=1"' in told
