"""The Go templates of ``--format``."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pybuild.model.errors import UsageError
from pybuild.model.gotemplate import go_json, go_text, rendered

VALUES: dict[str, Any] = {
    "name": "app",
    "size": 3,
    "none": None,
    "manifest": {"digest": "sha256:1", "List": [1, {"a": "ä"}]},
    "image": {"linux/amd64": {"config": {"User": "u"}}, "Linux/ARM64": 1},
    "tags": ["one:1", "two:2"],
    "empty": [],
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain", "plain"),
        ("{{.Name}}", "app"),
        ("{{ .name }}-{{.NAME}}", "app-app"),
        ("{{.size}}", "3"),
        ("{{.None}}", "<no value>"),
        ("{{json .Name}}", '"app"'),
        ("{{json .Size}}", "3"),
        ("{{.Manifest.Digest}}", "sha256:1"),
        ("{{.Manifest.list}}", "[1 map[a:ä]]"),
        ("{{json .Manifest.List}}", '[1,{"a":"ä"}]'),
        ('{{index .Image "linux/amd64"}}', "map[config:map[User:u]]"),
        ('{{json (index .Image "linux/amd64")}}', '{"config":{"User":"u"}}'),
        ('{{json (index .Image "linux/amd64").Config.user}}', '"u"'),
        ('{{(index .Image "linux/amd64").config.User}}', "u"),
        ('{{index .Manifest "digest"}}', "sha256:1"),
        ("{{index .Tags 1}} {{len .Tags}}", "two:2 2"),
        ("{{\n.Name\n}}", "app"),
        ("a \\t{{- .Name -}} \\n b", "aappb"),
        ("{{.Name}}\\t{{.Size}}\\n", "app\t3\n"),
        ("{{/* nothing */}}x", "x"),
        ("{{.Name | upper | printf `%s-%5s|` `x`}}", "x-  APP|"),
        ('{{join .Tags ", "}} {{range split .Name "p"}}[{{.}}]{{end}}', "one:1, two:2 [a][][]"),
        ("{{range .Tags}}{{println .}}{{end}}", "one:1\ntwo:2\n"),
        ("{{range $i, $t := .Tags}}{{$i}}={{$t}} {{$.Name}};{{end}}", "0=one:1 app;1=two:2 app;"),
        ("{{range $k, $v := .Manifest}}{{$k}} {{end}}", "List digest "),
        ("{{range $t := .Tags}}{{$t}},{{end}}", "one:1,two:2,"),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ("{{if eq .Name `app`}}yes{{else}}no{{end}}", "yes"),
        ("{{if .None}}1{{else if gt .Size 2}}2{{else}}3{{end}}", "2"),
        ("{{with .Manifest}}{{.Digest}}{{end}}{{with .None}}x{{else}}-{{end}}", "sha256:1-"),
        ("{{$x := .Name}}{{$x}}", "app"),
        ("{{and .Name .None}} {{or .None .Name}} {{not .Name}}", "<no value> app false"),
        ("{{pad .Name 1 2}}|{{truncate .Name 2}}|{{title .Name}}|{{slice .Name 1 2}}", " app  |ap|App|p"),
        ("{{print .Name .Size}} {{true}} {{ne 1 2}} {{printf `%3d%%` .Size}}", "app3 true true   3%"),
    ],
)  # fmt: skip
def test_actions_are_replaced(template: str, text: str) -> None:
    assert rendered(template, VALUES) == text


def test_a_dot_is_everything() -> None:
    assert rendered("{{json .}}", {"a": 1}) == '{"a":1}'
    assert rendered("{{.}}", {"a": 1}) == "map[a:1]"
    assert rendered("{{.}}", {"a": 1}, json.dumps) == '{"a": 1}'


def test_exact_names_come_before_those_of_another_case() -> None:
    assert rendered("{{.a}}{{.A}}", {"A": "1", "a": "2"}) == "21"


def test_values_are_written_as_go_writes_them() -> None:
    assert go_text({"b": [True, None], "a": "x"}) == "map[a:x b:[true <no value>]]"
    assert go_json({"a": "<&>\u2028"}) == '{"a":"\\u003c\\u0026\\u003e\\u2028"}'


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{}}", 'template "{{}}": expected {{.Name}}, {{json .Name}} or another action of Go\'s'),
        ("{{.Name .Size}}", "expected {{.Name}}"),
        ("{{Name}}", 'there is no function "Name"'),
        ("{{.Name | upper | nope}}", 'there is no function "nope"'),
        ("{{upper .Size}}", "upper cannot be applied: "),
        ("{{.Name | .Size}}", "expected {{.Name}}"),
        ("{{json upper}}", '"upper" is out of place'),
        ("{{..a}}", 'template "{{..a}}": nothing is called "a"'),
        ("{{.Name", 'template "{{.Name": an action has no end'),
        ("{{range .Tags}}x", 'template "{{range .Tags}}": it has no {{end}}'),
        ("{{end}}", 'template "{{end}}": there is no block that it belongs to'),
        ('{{template "x"}}', "there is no template here"),
        ("{{(len .Tags}}", "a parenthesis has no end"),
        ("{{$x}}", 'there is no variable "$x"'),
        ("{{.Name )}}", '")" is out of place'),
        ("{{.Name ?}}", '"?" cannot be read'),
        ("{{index .Tags 7}}", "index cannot be applied: list index out of range"),
        ('{{(index .Image.linux "x")}}', 'nothing is called "linux"'),
        ('{{index .Image "linux/arm64"}}', 'nothing is called "linux/arm64"'),  # a key is exact
    ],
)
def test_actions_that_are_none(template: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        rendered(template, VALUES)
    assert message in caught.value.message


def test_names_that_stand_for_nothing() -> None:
    with pytest.raises(UsageError) as caught:
        rendered("{{.Manifest.Size}}", VALUES)
    assert caught.value.message == 'template "{{.Manifest.Size}}": nothing is called "Size"'
    assert caught.value.hints == ("there is List, digest",)
    with pytest.raises(UsageError) as caught:
        rendered("{{.Name.X}}", VALUES)
    assert caught.value.hints == ()
