"""From a step that ran to its reason, and to the line where that comes from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pybuild.explain.cause import Explainer, Surroundings
from pybuild.explain.difference import Difference
from pybuild.explain.report import Miss, Reason
from pybuild.frontend.syntax.parse import parse_dockerfile
from pybuild.model.digest import Digest
from pybuild.model.named import KnownInputs, Listing, NamedInputs
from pybuild.model.ops import Vertex
from pybuild.model.snapshot import LocalTree
from pybuild.model.span import Span
from pybuild.solver.messages import Run
from tests.solver.builders import image, run

NAME = "[2/2] RUN make"
KEY, OLD = Digest.of(b"key"), Digest.of(b"old")
NOWHERE = Surroundings(trees={}, files={}, started=100.0)
DOCKERFILE = b"""\
FROM base
ARG A=1 B=2
ENV A=3
RUN make
ENV A=4
FROM base
ENV C=5
"""


def vertex(line: int = 4) -> Vertex:
    step = run(NAME, image())
    return Vertex(step.op, step.inputs, replace(step.meta, spans=(Span("Dockerfile", line, line),)))


def exec_parts(*env: str, **other: Any) -> dict[str, Any]:
    return {"op": {"type": "ExecOp", "args": ["make"], "env": list(env)}, **other}


def why(
    was: dict[str, Any] | None,
    now: dict[str, Any],
    *,
    around: Surroundings = NOWHERE,
    key: Digest = OLD,
    name: str = NAME,
    place: str = "",
    fresh: bool = False,
    line: int = 4,
    listings: dict[str, Listing] | None = None,
    find: dict[str, Listing] | None = None,
) -> Miss:
    step = vertex(line)
    known = [] if was is None else [KnownInputs(key=key, name=name, parts=was, place=place)]
    named_inputs = NamedInputs(now, listings or {})
    missed = Run(1, step, (), "job", KEY, named_inputs, fresh)
    return Explainer(known, [NAME], (find or {}).get, around).explain(step, missed)


def test_what_was_to_run_afresh_was_not_looked_up() -> None:
    assert why(exec_parts(), exec_parts(), key=KEY, fresh=True) == Miss(reason=Reason.IGNORED)


def test_a_known_key_without_a_result_was_freed() -> None:
    found = why(exec_parts("A=1"), exec_parts(), key=KEY, name="other", place="cache:1")
    assert found == Miss(reason=Reason.EVICTED, nearest="other", place="cache:1")


def test_without_anything_near_it_is_new() -> None:
    assert why(None, exec_parts()) == Miss(reason=Reason.NEW)
    assert why(exec_parts(), exec_parts(), name="[2/2] COPY a b") == Miss(reason=Reason.NEW)


def test_the_nearest_result_is_named_with_its_place_and_what_differs() -> None:
    found = why(exec_parts("A=1"), exec_parts("A=2"), name="[2/2] RUN make it", place="cache:1")
    assert found == Miss(
        reason=Reason.CHANGED,
        nearest="[2/2] RUN make it",
        place="cache:1",
        differences=(Difference(field="env.A", was="1", now="2"),),
    )
    assert why(exec_parts(), exec_parts()) == Miss(reason=Reason.UNEXPLAINED, nearest=NAME)


@pytest.mark.parametrize(
    ("name", "line", "field", "note"),
    [
        ("A", 4, "env.A", "Dockerfile:3"),
        ("A", 3, "arg.A", "Dockerfile:2"),
        ("A", 99, "env.A", "Dockerfile:5"),
        ("B", 4, "arg.B", "Dockerfile:2"),
        ("A", 2, "env.A", ""),  # set below it only
        ("C", 4, "env.C", ""),
        ("D", 99, "env.D", ""),
    ],
)
def test_a_variable_has_the_line_above_that_sets_it_last(
    name: str, line: int, field: str, note: str
) -> None:
    around = replace(NOWHERE, dockerfile=parse_dockerfile(DOCKERFILE, "Dockerfile"))
    found = why(exec_parts(f"{name}=1"), exec_parts(f"{name}=2"), around=around, line=line)
    assert found.differences == (Difference(field=field, was="1", now="2", note=note),)


def test_the_order_of_variables_has_no_line() -> None:
    around = replace(NOWHERE, dockerfile=parse_dockerfile(DOCKERFILE, "Dockerfile"))
    found = why(exec_parts("A=1", "B=2"), exec_parts("B=2", "A=1"), around=around)
    assert [(one.field, one.note) for one in found.differences] == [("env.order", "")]


def content(digest: str, **source: Any) -> dict[str, Any]:
    return exec_parts(inputs=[{"name": "context", "content": [digest], **source}])


LOOK = "100644 0:0 1 aa"


def of_files(was: Listing, now: Listing, around: Surroundings = NOWHERE, **source: Any) -> Miss:
    """A miss whose old files the store knows, and whose new ones only the step that ran."""
    return why(
        content("x", **source),
        content("y"),
        around=around,
        listings={"y": now},
        find={"x": was, "y": (("wrong", LOOK),)},
    )


@pytest.mark.parametrize(
    ("ignore", "note"),
    [
        ({"/c/.dockerignore": b"# logs\n*.log\n"}, '.dockerignore line 2 ("*.log")'),
        ({"/c/D.dockerignore": b"*.log\n"}, 'D.dockerignore line 1 ("*.log")'),
        ({"/c/.dockerignore": b"*.o\n"}, 'the ignore file ("*.log")'),
        ({"/c/.dockerignore": None, "/c/other": b"*.log\n"}, 'the ignore file ("*.log")'),
    ],
)
@pytest.mark.parametrize("held", [False, True])
def test_a_file_that_is_hidden_now_has_the_line_that_hides_it(
    tmp_path: Path, ignore: dict[str, bytes | None], note: str, held: bool
) -> None:
    (tmp_path / "a.log").touch()
    tree = LocalTree(str(tmp_path), ("*.log",), held=held)
    around = replace(NOWHERE, trees={"context": tree}, files=ignore)
    found = of_files((("a.log", LOOK), ("b", LOOK)), (("b", LOOK),), around)
    assert found.differences == (
        Difference(
            field="file.ignored", was="file of 1 bytes", now="ignored", path="a.log", note=note
        ),
    )


def test_a_file_that_is_gone_is_not_hidden(tmp_path: Path) -> None:
    around = replace(NOWHERE, trees={"context": LocalTree(str(tmp_path), ("*.o",))})
    found = of_files((("a.log", LOOK), ("b", LOOK)), (("b", LOOK),), around)
    assert [(one.field, one.note) for one in found.differences] == [("file.removed", "")]


@pytest.mark.parametrize(
    ("exclude", "field", "note"),
    [
        (["*.log"], "file.ignored", "no ignore file hides it now"),
        (["*.log", "!a.log"], "file.added", ""),
        ([], "file.added", ""),
        (["["], "file.added", ""),
    ],
)
def test_a_file_that_was_hidden_did_not_come_new(exclude: list[str], field: str, note: str) -> None:
    found = of_files((("b", LOOK),), (("a.log", LOOK), ("b", LOOK)), exclude=exclude)
    was = "ignored" if note else None
    assert found.differences == (
        Difference(field=field, was=was, now="file of 1 bytes", path="a.log", note=note),
    )


@pytest.mark.parametrize(
    ("was", "now", "is_hinted"),
    [("0644", "0664", True), ("0755", "0700", True), ("0644", "0755", False)],
)
def test_modes_that_git_does_not_keep_get_a_hint(was: str, now: str, is_hinted: bool) -> None:
    def look(mode: str) -> Listing:
        return (("a", f"10{mode} 0:0 1 aa"),)

    (one,) = of_files(look(was), look(now)).differences
    assert (one.field, one.was, one.now) == ("file.mode", was, now)
    assert ("--modes=git" in one.note) == is_hinted


def test_the_ignore_file_itself_is_the_last_to_be_blamed() -> None:
    was = ((".dockerignore", LOOK), ("z", LOOK))
    now = ((".dockerignore", "100644 0:0 1 bb"), ("z", "100644 0:0 1 cc"))
    found = of_files(was, now)
    assert [one.path for one in found.differences] == ["z", ".dockerignore"]


def test_other_files_and_the_mode_of_the_ignore_file_keep_their_order() -> None:
    was = ((".dockerignore", LOOK), ("a", LOOK))
    now = ((".dockerignore", "100755 0:0 1 aa"), ("a", "100644 0:0 1 bb"), ("z", LOOK))
    found = of_files(was, now)
    assert [(one.field, one.path) for one in found.differences] == [
        *(("file.added", "z"), ("file.mode", ".dockerignore"), ("file.content", "a")),
    ]


def test_no_more_is_kept_than_a_history_should_have() -> None:
    env = [f"V{n}=1" for n in range(25)]
    found = why(exec_parts(*env), exec_parts())
    assert (len(found.differences), found.more) == (20, 5)
