"""``pybuild bake`` from its words on: the files that it reads, variables, what it shows and builds."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from pybuild.bake.command import builds_of, definition_of, listing, selected, summary, text_of
from pybuild.bake.files import Environs, read_definition, read_files
from pybuild.bake.prepare import Flags
from pybuild.builds.request import BuildRequest
from pybuild.builds.result import BuildResult
from pybuild.model.digest import Digest
from pybuild.model.errors import UsageError, UserError

HCL = b"""
variable "V" { default = "1" }
variable "W" { default = "2" }
target "default" {
  tags = ["app:${V}-${W}"]
}
target "other" {
  context = "sub"
  dockerfile-inline = "FROM scratch"
  contexts = { base = "target:default" }
}
"""


class Words:
    """A command line, by the values of its options."""

    def __init__(self, *positionals: str, **options: Sequence[str]) -> None:
        self.positionals = list(positionals)
        self._options: Mapping[str, Sequence[str]] = {
            name.replace("_", "-"): values for name, values in options.items()
        }

    def one(self, name: str, default: str = "") -> str:
        return (self.many(name) or [default])[-1]

    def many(self, name: str) -> list[str]:
        return list(self._options.get(name, ()))

    def flag(self, name: str, default: bool = False) -> bool:
        return self.one(name, str(default).lower()) == "true"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("V", "W", "BUILDX_BAKE_FILE", "BUILDX_BAKE_PATH_SEPARATOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("BUILDX_BAKE_DISABLE_VARS_ENV_LOOKUP", raising=False)
    (tmp_path / "docker-bake.hcl").write_bytes(HCL)
    return tmp_path


def tags(words: Words) -> tuple[str, ...]:
    return tuple(definition_of(words).targets["default"].texts("tags"))


def test_variables_come_from_words_then_from_outside(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tags(Words()) == ("app:1-2",)
    monkeypatch.setenv("V", "env")
    assert tags(Words()) == ("app:env-2",)
    assert tags(Words(var=["V=a=b", "W"])) == ("app:a=b-2",)
    monkeypatch.setenv("W", "w")
    monkeypatch.setenv("BUILDX_BAKE_DISABLE_VARS_ENV_LOOKUP", "1")
    assert tags(Words()) == ("app:1-2",)
    assert tags(Words(var=["W"])) == ("app:1-w",)
    with pytest.raises(UsageError, match='invalid variable "=x", expected name=value'):
        tags(Words(var=["=x"]))


def test_files_are_those_that_are_named_then_those_of_the_environment(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        (folder / f"{name}.hcl").write_text(f'target "{name}" {{}}')
    monkeypatch.setenv("BUILDX_BAKE_FILE", " one.hcl :two.hcl:")
    assert list(definition_of(Words()).targets) == ["one", "two"]
    monkeypatch.setenv("BUILDX_BAKE_PATH_SEPARATOR", "@")
    monkeypatch.setenv("BUILDX_BAKE_FILE", "two.hcl@ cwd://one.hcl ")
    assert list(definition_of(Words()).targets) == ["two", "one"]
    assert list(definition_of(Words(file=["cwd://one.hcl"])).targets) == ["one"]
    with pytest.raises(UsageError, match="a definition elsewhere is not read: https://x/y.git"):
        definition_of(Words("https://x/y.git"))


def test_default_files_are_read_in_their_order(folder: Path) -> None:
    (folder / "docker-bake.override.json").write_text("{}")
    names = [file.name for file in read_files((), lambda: b"")]
    assert names == ["docker-bake.hcl", "docker-bake.override.json"]
    [given] = read_files(["-"], lambda: b"said")
    assert (given.name, given.text) == ("-", b"said")
    with pytest.raises(UserError, match="^cannot read none.hcl: no such file$"):
        read_files(["none.hcl"], lambda: b"")
    with pytest.raises(UserError, match="^cannot read .: is a directory$"):
        read_files(["."], lambda: b"")
    for file in folder.iterdir():
        file.unlink()
    with pytest.raises(UserError, match="couldn't find a bake definition") as caught:
        read_files((), lambda: b"")
    assert str(folder) in caught.value.hints[0]


def test_a_file_has_a_most_size(folder: Path) -> None:
    with open("large.hcl", "wb") as file:
        file.truncate(16 << 20)
        assert len(read_files(["large.hcl"], lambda: b"")[0].text) == 16 << 20
        file.truncate((16 << 20) + 1)
    with pytest.raises(UserError, match="^large.hcl: a bake file has at most 16 MiB$"):
        read_files(["large.hcl"], lambda: b"")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x", 'target "a" { tags = ["t"] }'),
        ("x", '{"target": {"a": {"tags": ["t"]}}}'),
        ("x", "services: {a: {build: {tags: [t]}}}"),
        ("X.JSON", '{"target": {"a": {"tags": ["t"]}}}'),
        ("x.YML", "services: {a: {build: {tags: [t]}}}"),
    ],
)
def test_the_language_is_told_by_the_name_or_by_the_text(
    folder: Path, name: str, text: str
) -> None:
    (folder / name).write_text(text)
    made = definition_of(Words(file=[name]))
    assert tuple(made.targets["a"].texts("tags")) == ("t",)


def test_what_is_no_language_is_refused_as_hcl(folder: Path) -> None:
    (folder / "x").write_text("target {{{")
    (folder / "x.hcl").write_text("{}")  # an object, which is JSON alone
    with pytest.raises(UserError, match="^a block or an attribute is expected$") as caught:
        definition_of(Words(file=["x.hcl"]))
    assert caught.value.spans[0].first_line == 1
    around = Environs(given={}, lookup=lambda _: None, environment={}, functions={})
    with pytest.raises(UserError) as caught:
        read_definition(read_files(["x"], lambda: b""), around)
    assert caught.value.spans


def test_standard_input_is_a_definition(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'target "in" {}')))
    assert list(definition_of(Words(file=["-"])).targets) == ["in"]


def shown(words: Words) -> dict[str, object]:
    made = selected(definition_of(words), words).targets["default"].fields
    return dict(made)


def test_flags_are_set_in_all_targets(folder: Path) -> None:
    plain = shown(Words())
    assert not {"no-cache", "pull", "output", "attest"} & set(plain)
    made = shown(Words(pull=["false"], no_cache=["true"], push=["true"], sbom=["false"]))
    assert (made["pull"], made["no-cache"]) == (False, True)
    assert "'push': 'true'" in str(made["output"])
    assert made["attest"] == [{"type": "sbom", "disabled": True}]
    made = shown(Words(provenance=["mode=max"], load=["true"], set=["default.tags=x"]))
    assert made["attest"] == [{"type": "provenance", "mode": "max"}]
    assert "docker" in str(made["output"])
    assert "x" in str(made["tags"]) and "app" not in str(made["tags"])


def requested(context: str, flags: Flags) -> BuildRequest:
    return BuildRequest(context=context)


def test_texts_in_place_of_builds(folder: Path) -> None:
    assert text_of(Words(), requested) is None
    known = json.loads(str(text_of(Words("other", print=["true"]), requested)))
    assert set(known["target"]) == {"default", "other"}
    assert "other" in str(text_of(Words(list=["targets"]), requested))
    graph = text_of(Words("other", graph=["dot"]), requested)
    assert graph is not None and "other" in graph
    made = definition_of(Words())
    assert {row["name"] for row in json.loads(listing(made, "variables,format=json"))} == {"V", "W"}
    assert listing(made, "type=variables") == listing(made, "variables") != listing(made, "targets")
    with pytest.raises(UsageError, match='invalid --list "x": targets or variables'):
        listing(made, "x")


def test_builds_are_made_of_targets_and_their_links(folder: Path) -> None:
    made = builds_of(Words("other"), requested)
    assert list(made) == ["default", "other"]
    assert [one.is_delivered for one in made.values()] == [False, True]
    assert made["other"].request.dockerfile_text == b"FROM scratch"
    assert made["default"].request.dockerfile_text is None
    assert (made["other"].request.context, made["default"].request.context) == ("sub", ".")


def test_a_result_is_summed_up() -> None:
    digest = Digest.of(b"x")
    assert summary("app", BuildResult(image_id=digest, names=("a", "b"))) == (
        f"app: a, b ({digest.hex[:12]})\n"
    )
    assert summary("app", BuildResult(image_id=digest)) == f"app: image ({digest.hex[:12]})\n"
    assert summary("app", BuildResult()) == ""
