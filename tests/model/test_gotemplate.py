"""The Go templates of ``--format``."""

from __future__ import annotations

from typing import Any

import pytest

from pybuild.model.errors import UsageError
from pybuild.model.gotemplate import rendered

VALUES: dict[str, Any] = {
    "name": "app",
    "size": 3,
    "manifest": {"digest": "sha256:1", "List": [1, {"a": "ä"}]},
    "image": {"linux/amd64": {"config": {"User": "u"}}, "Linux/ARM64": 1},
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain", "plain"),
        ("{{.Name}}", "app"),
        ("{{ .name }}-{{.NAME}}", "app-app"),
        ("{{.size}}", "3"),
        ("{{json .Name}}", '"app"'),
        ("{{json .Size}}", "3"),
        ("{{.Manifest.Digest}}", "sha256:1"),
        ("{{.Manifest.list}}", '[\n  1,\n  {\n    "a": "\\u00e4"\n  }\n]'),
        ("{{json .Manifest.List}}", '[1, {"a": "\\u00e4"}]'),
        ('{{index .Image "linux/amd64"}}', '{\n  "config": {\n    "User": "u"\n  }\n}'),
        ('{{json (index .Image "linux/amd64")}}', '{"config": {"User": "u"}}'),
        ('{{json (index .Image "linux/amd64").Config.user}}', '"u"'),
        ('{{(index .Image "linux/amd64").config.User}}', "u"),
        ('{{index .Manifest "digest"}}', "sha256:1"),
        ('{{(index .Image.linux "x")}}', None),
        ("{{\n.Name\n}}", "app"),
    ],
)
def test_actions_are_replaced(template: str, text: str | None) -> None:
    if text is None:
        with pytest.raises(UsageError, match='nothing is called "linux"'):
            rendered(template, VALUES)
    else:
        assert rendered(template, VALUES) == text


def test_a_dot_is_everything() -> None:
    assert rendered("{{json .}}", {"a": 1}) == '{"a": 1}'
    assert rendered("{{.}}", {"a": 1}) == '{\n  "a": 1\n}'


def test_exact_names_come_before_those_of_another_case() -> None:
    assert rendered("{{.a}}{{.A}}", {"A": "1", "a": "2"}) == "21"


@pytest.mark.parametrize("action", ["", "range .X", "Name", ".Name | upper", "index .Image", "..a"])
def test_actions_that_are_none(action: str) -> None:
    with pytest.raises(UsageError) as caught:
        rendered(f"{{{{{action}}}}}", VALUES)
    assert caught.value.message == (
        f'template "{{{{{action}}}}}": expected {{{{.Name}}}}, {{{{json .Name}}}} or '
        '{{index .Name "key"}}'
    )


def test_names_that_stand_for_nothing() -> None:
    with pytest.raises(UsageError) as caught:
        rendered("{{.Manifest.Size}}", VALUES)
    assert caught.value.message == 'template "{{.Manifest.Size}}": nothing is called "Size"'
    assert caught.value.hints == ("there is List, digest",)
    with pytest.raises(UsageError) as caught:
        rendered("{{.Name.X}}", VALUES)
    assert caught.value.hints == ()
    with pytest.raises(UsageError, match='nothing is called "linux/arm64"'):
        rendered('{{index .Image "linux/arm64"}}', VALUES)  # a key is exact
