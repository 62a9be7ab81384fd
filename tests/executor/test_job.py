"""Jobs: the names of functions elsewhere, and what of a call goes to a worker."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pybuild.executor.files import jobs as real
from pybuild.executor.files.values import OwnerMode
from pybuild.executor.steps import mounttars
from pybuild.executor.workers.job import Job, WorkerModule, job
from pybuild.model.border import packed
from pybuild.model.errors import InternalError
from tests.harness import ROOT

SKIPPED = {"tests", ".venv", "build", "dist"}


def users() -> Iterator[tuple[Path, ast.Module]]:
    """Give each file that names functions of the worker side."""
    for path in sorted(ROOT.rglob("*.py")):
        if not SKIPPED.intersection(path.relative_to(ROOT).parts) and path.name != "job.py":
            text = path.read_text(encoding="utf-8")
            if "WorkerModule(" in text:
                yield path, ast.parse(text)


def names_of(tree: ast.Module) -> Iterator[tuple[str, str, str]]:
    """Give the name, the import that checkers see, and the module that is named, of each."""
    for node in tree.body:
        if not isinstance(node, ast.If) or ast.unparse(node.test) != "TYPE_CHECKING":
            continue
        seen = {
            alias.asname or alias.name: f"{line.module}.{alias.name}"
            for line in node.body
            if isinstance(line, ast.ImportFrom)
            for alias in line.names
        }
        for line in node.orelse:
            assert isinstance(line, ast.Assign) and isinstance(line.value, ast.Call)
            (target,), (module,) = line.targets, line.value.args
            assert isinstance(target, ast.Name) and isinstance(module, ast.Constant)
            yield target.id, seen[target.id], str(module.value)


@pytest.mark.slow
def test_each_function_elsewhere_is_the_one_that_checkers_see() -> None:
    functions = 0
    for path, tree in users():
        modules = dict[str, str]()
        for name, checked, named in names_of(tree):
            assert named == checked, path
            modules[name] = named
        used = [
            (node.value.id, node.attr)
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in modules
        ]
        assert {name for name, _ in used} == set(modules), path
        for name, attribute in used:
            assert callable(getattr(importlib.import_module(modules[name]), attribute)), path
            functions += 1
    assert functions > 20


def test_a_job_names_a_function_and_imports_nothing() -> None:
    jobs = WorkerModule("no.such.module")
    work = job(jobs.function, "path", look=OwnerMode(1, 2, 0o755))  # type: ignore[arg-type, var-annotated]  # pyright: ignore
    assert work.function == "no.such.module:function"
    assert work.request(stay=True) == (
        "no.such.module:function",
        ("path",),
        {"look": packed(OwnerMode(1, 2, 0o755))},
        True,
    )


def test_a_job_of_a_function_that_is_here_is_the_same() -> None:
    assert job(real.remove, "/x") == Job("pybuild.executor.files.jobs:remove", ("/x",), {})
    assert job(mounttars.export_job, "/x").function.endswith("mounttars:export_job")


def test_an_answer_that_does_not_fit_is_an_internal_error() -> None:
    with pytest.raises(
        InternalError, match="the answer of a:b: .*OwnerMode came with 1 values"
    ) as caught:
        Job[OwnerMode]("a:b", (), {}).answer((..., "pybuild.executor.files.values:OwnerMode", 1))
    assert "restart" in caught.value.hints[0]
