"""Targets inherit, are laid over one another, are overridden, and name what they read."""

from __future__ import annotations

import json

import pytest

from pybuild.bake.definition import Definition, Selected
from pybuild.bake.prepare import cleaned
from pybuild.bake.printing import printed, targets_listed, variables_listed
from pybuild.model.errors import UserError
from tests.bake.scopes import definition


def select(made: Definition, *words: str, flags: tuple[str, ...] = ()) -> Selected:
    return cleaned(made.select(words or ("default",), flags, {"FROM_OUTSIDE": "o"}.get), {})


def shown(
    made: Definition, *words: str, flags: tuple[str, ...] = ()
) -> dict[str, dict[str, object]]:
    """Return the targets as ``--print`` shows them."""
    return dict(json.loads(printed(select(made, *words, flags=flags)))["target"])


def test_a_matrix_makes_a_target_of_each_combination_and_a_group_of_all() -> None:
    made = definition("""
        target "app" {
          name = "app-${replace(v, ".", "-")}-${os}"
          matrix = { v = ["1.0", "2.0"], os = ["a", "b"] }
          tags = ["app:${v}"]
        }
    """)
    assert list(made.targets) == ["app-1-0-a", "app-2-0-a", "app-1-0-b", "app-2-0-b"]
    assert made.groups["app"].targets == tuple(made.targets)
    assert made.targets["app-2-0-b"].texts("tags") == ["app:2.0"]


def test_a_target_takes_what_it_does_not_set_from_those_that_it_inherits() -> None:
    made = definition("""
        target "one" {
          args = { a = "1", b = "1", n = null }
          tags = ["one"]
          cache-from = ["type=registry,ref=one"]
          annotations = ["x=1"]
          secret = ["id=s,env=ONE"]
        }
        target "two" {
          inherits = ["one"]
          args = { b = "2" }
          cache-from = ["two"]
          annotations = ["y=2"]
        }
        target "app" {
          inherits = ["two"]
          tags = ["app"]
          secret = [{ id = "s", src = "./file" }]
        }
    """)
    assert shown(made, "app")["app"] == {
        "annotations": ["x=1", "y=2"],
        "args": {"a": "1", "b": "2"},
        "cache-from": [
            {"ref": "one", "type": "registry"},
            {"ref": "two", "type": "registry"},
        ],
        "context": ".",
        "dockerfile": "Dockerfile",
        "secret": [{"id": "s", "src": "./file"}],
        "tags": ["app"],
    }


def test_a_file_is_laid_over_those_before_it() -> None:
    made = definition(
        'group "default" { targets = ["app"] }\ntarget "app" {\n tags = ["a"]\n args = { x = "1" }\n}\n',
        'group "default" { targets = ["app", "db"] }\ntarget "app" {\n args = { y = "2" }\n}\n'
        'target "db" {}\n',
    )
    assert made.groups["default"].targets == ("app", "db")
    assert made.targets["app"].pairs("args") == {"x": "1", "y": "2"}
    assert made.targets["app"].texts("tags") == ["a"]


def test_a_field_of_another_target_is_a_value() -> None:
    made = definition("""
        target "base" {
          dockerfile = "base.Dockerfile"
          tags = ["base:1"]
        }
        target "app" {
          dockerfile = target.base.dockerfile
          tags = [for t in target.base.tags: "${t}-app"]
          args = { name = target.base.name, none = target.base.network }
        }
    """)
    app = made.targets["app"]
    assert app.text("dockerfile") == "base.Dockerfile"
    assert app.texts("tags") == ["base:1-app"]
    assert app.pairs("args") == {"name": "base"}


@pytest.mark.parametrize(
    ("flag", "field", "value"),
    [
        ("app.args.x=2", "args", {"x": "2"}),
        ("app.args.FROM_OUTSIDE", "args", {"x": "1", "FROM_OUTSIDE": "o"}),
        ("*.tags=t:2", "tags", ["t:2"]),
        ("a*.tags+=t:2", "tags", ["t:1", "t:2"]),
        ("app.context=./other/", "context", "other"),
        ("app.contexts.lib=./lib", "contexts", {"lib": "./lib"}),
        ("app.labels.a.b=c", "labels", {"a.b": "c"}),
        ("app.platform=linux/arm64", "platforms", ["linux/arm64"]),
        ("app.output=out", "output", [{"dest": "out", "type": "local"}]),
        ("app.output=type=oci,dest=-", "output", [{"dest": "-", "type": "oci"}]),
        ("app.push=true", "output", [{"push": "true", "type": "image"}]),
        ("app.load=true", "output", [{"type": "docker"}]),
        ("app.no-cache=1", "no-cache", True),
        ("app.pull=false", "pull", False),
        ("app.network=host", "entitlements", ["network.host"]),
        ("app.secrets=id=x,src=f", "secret", [{"id": "x", "src": "f"}]),
        ("app.secret.s=env=OTHER", "secret", [{"env": "OTHER", "id": "s"}]),
        ("app.ssh=default=key", "ssh", [{"id": "default", "paths": ["key"]}]),
        ("app.cache-to=type=local,dest=c", "cache-to", [{"dest": "c", "type": "local"}]),
        ("app.attest=type=sbom", "attest", [{"type": "sbom"}]),
        ("app.resources.memory=1g", "resources", {"memory": "1g"}),
        ("app.extra-hosts.db=10.0.0.1", "extra-hosts", {"db": "10.0.0.1"}),
        ("app.ulimits=nofile=1:2", "ulimits", ["nofile=1:2"]),
        ("app.shm-size=64m", "shm-size", "64m"),
        ("app.target=stage", "target", "stage"),
        ("app.entitlements=security.insecure", "entitlements", ["security.insecure"]),
    ],
)
def test_set_changes_a_field(flag: str, field: str, value: object) -> None:
    made = definition("""
        target "app" {
          args = { x = "1" }
          tags = ["t:1"]
          secret = ["id=s,env=S"]
        }
    """)
    assert shown(made, "app", flags=(flag,))["app"][field] == value


@pytest.mark.parametrize(
    ("flag", "problem"),
    [
        ("app", "invalid override key app"),
        ("app.tags", "expected target.name=value"),
        ("app.args=1", "args requires name"),
        ("app.nosuch=1", "unknown key: nosuch"),
        ("app.pull=perhaps", "invalid value perhaps for boolean key pull"),
        ("nosuch.tags=1", "could not find any target matching 'nosuch'"),
        ("app.secret.s=env=S", "must be declared"),
        ("app.resources.memory+=1", "does not support append"),
        ("app.resources.cpu-shares=x", "number is required"),
        ("app.secrets=id=x,y", "expected name=value"),
    ],
)
def test_set_that_means_nothing_is_refused(flag: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        select(definition('target "app" {}\n'), "app", flags=(flag,))


def test_outputs_that_push_and_load_decide_nothing_about_stay() -> None:
    made = definition('target "app" { output = ["type=local,dest=out"] }\n')
    both = ("*.push=true", "*.load=true")
    assert shown(made, "app", flags=both)["app"]["output"] == [{"dest": "out", "type": "local"}]
    made = definition('target "app" { output = ["type=image", "type=registry"] }\n')
    assert shown(made, "app", flags=("*.push=false",))["app"]["output"] == [
        {"push": "false", "type": "image"}
    ]


LINKED = """
    target "base" { output = ["type=image"] }
    target "app" { contexts = { base = "target:base" } }
    target "web" {
      contexts = { app = "target:app" }
      network = "host"
    }
"""


def test_targets_that_are_read_are_built_for_their_readers_alone() -> None:
    chosen = select(definition(LINKED), "web")
    assert {name: one.is_linked for name, one in chosen.targets.items()} == {
        "web": False,
        "app": True,
        "base": True,
    }
    assert chosen.targets["base"].entries("output") == [{"type": "cacheonly"}]
    chosen = select(definition(LINKED), "web", "base")
    assert not chosen.targets["base"].is_linked
    assert chosen.groups["default"].targets == ("base", "web")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('target "a" { contexts = { x = "target:a" } }', "cannot link to itself"),
        (
            (
                'target "a" { contexts = { x = "target:b" } }\n'
                'target "b" { contexts = { x = "target:a" } }'
            ),
            "infinite loop from b to a",
        ),
        ('target "a" { contexts = { x = "target:nosuch" } }', "failed to find target nosuch"),
        ('target "a" { inherits = ["nosuch"] }', "failed to find target nosuch"),
        (
            (
                'target "a" {\n contexts = { x = "target:b" }\n platforms = ["linux/amd64", "linux/arm64"]\n}\n'
                'target "b" { platforms = ["linux/arm64", "linux/386"] }'
            ),
            "its platforms",
        ),
        ('target "a" { context = "-" }', "context from stdin not allowed"),
    ],
)
def test_targets_that_cannot_be_built_are_refused(text: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        select(definition(text + "\n"), "a")


def test_words_name_groups_targets_and_patterns() -> None:
    made = definition("""
        group "default" { targets = ["all"] }
        group "all" { targets = ["a-1", "all", "b"] }
        target "a-1" {}
        target "a-2" {}
        target "b" {}
    """)
    assert sorted(select(made).targets) == ["a-1", "b"]
    assert sorted(select(made, "a-*").targets) == ["a-1", "a-2"]
    assert sorted(select(made, "[^ad]*").targets) == ["b"]
    with pytest.raises(UserError, match='could not find any target matching "x\\*"'):
        select(made, "x*")
    with pytest.raises(UserError) as caught:
        select(made, "a-3")
    assert caught.value.hints == ("did you mean a-1?",)


def test_what_is_printed_is_read_as_the_same_targets() -> None:
    made = definition("""
        target "app" {
          args = { shell = "$${HOME} %%{x}" }
          dockerfile-inline = <<-EOT
            FROM scratch
            RUN echo $${HOME} <&1
          EOT
          labels = { a = "b" }
          tags = ["x"]
        }
    """)
    text = printed(select(made, "app"))
    assert "\\u003c\\u0026" in text
    again = definition(text, names=("docker-bake.json",))
    assert select(again, "app").targets == select(made, "app").targets


def test_lists_show_targets_and_variables() -> None:
    made = definition("""
        variable "TAG" { default = "v1" }
        group "default" { targets = ["app"] }
        target "app" { description = "the app" }
        target "_common" {}
    """)
    assert targets_listed(made, as_json=False).split() == [
        *("TARGET", "DESCRIPTION", "default", "app", "app", "the", "app"),
    ]
    assert json.loads(variables_listed(made, as_json=True)) == [{"name": "TAG", "value": "v1"}]
