"""Compose files that name others: their services are read as if they stood in one file."""

from __future__ import annotations

from pathlib import Path

import pytest

from pybuild.bake.definition import Definition
from pybuild.bake.files import Environs, read_definition, read_files
from pybuild.model.errors import UserError
from tests.harness import write


def definition(environment: dict[str, str] | None = None) -> Definition:
    around = Environs(
        given={}, lookup=lambda name: None, environment=environment or {}, functions={}
    )
    return read_definition(read_files(["compose.yaml"], lambda: b""), around)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_service_of_another_file_is_extended_with_its_own_paths(project: Path) -> None:
    write(
        project,
        **{
            "compose.yaml": """
services:
  app:
    extends: {file: common/base.yml, service: web}
    build: {args: {y: 2}}
""",
            "common/base.yml": """
services:
  web:
    extends: {file: ../deep/b.yml, service: root}
    build: {context: web, args: {x: 1, y: 1}, additional_contexts: {lib: ../lib, s: "service:web"}}
""",
            "deep/b.yml": """
services:
  under: {build: {context: ., target: one, labels: {a: b}}}
  root: {extends: under, build: {context: root, target: two}}
""",
        },
    )
    made = definition()
    app = made.targets["app"]
    assert app.text("context") == "common/web"
    assert app.pairs("args") == {"x": "1", "y": "2"}
    assert app.text("target") == "two"
    assert app.pairs("labels") == {"a": "b"}
    assert app.pairs("contexts") == {"lib": "lib", "s": "target:web"}
    assert made.parts == ("common/base.yml", "deep/b.yml")


def test_included_files_have_paths_and_variables_of_their_own(project: Path) -> None:
    write(
        project,
        **{
            "compose.yaml": """
include:
  - team/compose.yaml
  - {path: [other/a.yml, other/b.yml], project_directory: elsewhere}
services: {own: {build: {context: .}}}
""",
            "team/compose.yaml": """
include: [sub/compose.yaml]
services:
  team: {build: {context: app, tags: ["team:$TAG"], secrets: [key]}}
  git: {build: {context: "https://example.org/r.git"}}
secrets: {key: {file: ./key}}
""",
            "team/.env": "TAG=v2\n",
            "team/sub/compose.yaml": "services: {sub: {build: .}}",
            "other/a.yml": "services: {a: {build: a}}",
            "other/b.yml": "services: {b: {build: /b}}",
        },
    )
    made = definition()
    contexts = {name: target.text("context") for name, target in made.targets.items()}
    assert contexts == {
        "sub": "team/sub",
        "team": "team/app",
        "git": "https://example.org/r.git",
        "a": "elsewhere/a",
        "b": "/b",
        "own": ".",
    }
    assert made.targets["team"].texts("tags") == ["team:v2"]
    assert made.targets["team"].entries("secret") == [{"id": "key", "src": "team/key"}]


def test_files_that_include_each_other_twice_are_refused_in_time(project: Path) -> None:
    """Each level would double what is read."""
    files = {f"f{n}": f"include: [f{n + 1}, f{n + 1}]" for n in range(30)}
    write(project, **{"compose.yaml": "include: [f0]", **files, "f30": "services: {}"})
    with pytest.raises(UserError, match="more than 200 times"):
        definition()


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"compose.yaml": "services: {a: {extends: {service: b, file: c}}}"}, "cannot read c: no"),
        (
            {
                "compose.yaml": "services: {a: {extends: {service: b, file: c}}}",
                "c": "services: {}",
            },
            "extends b, which is not in c",
        ),
        (
            {
                "compose.yaml": "services: {a: {extends: {service: b, file: c}}}",
                "c": "services: {b: {extends: {service: b, file: d}}}",
                "d": "services: {b: {extends: {service: b, file: c}}}",
            },
            "extends itself",
        ),
        (
            {
                "compose.yaml": "services: {a: {extends: {service: b, file: c}}}",
                "c": "services: {b: {extends: d}, d: {extends: b}}",
            },
            "extends itself",
        ),
        ({"compose.yaml": "include: [c]", "c": "include: [c]"}, "includes itself"),
        ({"compose.yaml": "include: {a: b}"}, "include must be a list"),
        ({"compose.yaml": "include: [{env_file: a}]"}, "env_file of an include is not read"),
        ({"compose.yaml": "include: [{}]"}, "an include has a path"),
        ({"compose.yaml": "include: [.]"}, "it is no file"),
        (
            {
                "compose.yaml": "include: [c]\nservices: {a: {build: .}}",
                "c": "services: {a: {build: .}}",
            },
            "service a of c is one of compose.yaml too",
        ),
    ],
)
def test_what_is_wrong_is_said(project: Path, files: dict[str, str], problem: str) -> None:
    write(project, **files)
    with pytest.raises(UserError, match=problem):
        definition()
