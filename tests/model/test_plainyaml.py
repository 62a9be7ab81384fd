"""Plain YAML, as specifications of devices are written."""

from __future__ import annotations

import pytest

from pybuild.model.plainyaml import Value, read_yaml

SPEC = """
---
cdiVersion: "0.6.0"   # of the specification
kind: vendor.com/device
annotations:
  a.b/c: true
devices:
- name: all
  containerEdits:
    env:
      - "A=# no \\"comment\\""
      - 'it''s'
      - B=x:y#z
    deviceNodes:
    - path: /dev/x
      permissions: rw
    - {path: /dev/y, hostPath: "/dev/z", fileMode: 438}
    mounts: []
- name: none
  containerEdits:
    hooks:
    - hookName: createContainer
      args: [nvidia-ctk, "a, b", c]
containerEdits: ~
"""


def test_a_specification_as_tools_write_it() -> None:
    assert read_yaml(SPEC) == {
        "cdiVersion": "0.6.0",
        "kind": "vendor.com/device",
        "annotations": {"a.b/c": "true"},
        "devices": [
            {
                "name": "all",
                "containerEdits": {
                    "env": ['A=# no "comment"', "it's", "B=x:y#z"],
                    "deviceNodes": [
                        {"path": "/dev/x", "permissions": "rw"},
                        {"path": "/dev/y", "hostPath": "/dev/z", "fileMode": "438"},
                    ],
                    "mounts": [],
                },
            },
            {
                "name": "none",
                "containerEdits": {
                    "hooks": [{"hookName": "createContainer", "args": ["nvidia-ctk", "a, b", "c"]}]
                },
            },
        ],
        "containerEdits": None,
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("# nothing\n", None),
        ("x", "x"),
        ("- - a\n  - b\n- c", [["a", "b"], "c"]),
        ("-\n  a: 1\n-\n- b", [{"a": "1"}, None, "b"]),
        ("a:\nb: {}\n", {"a": None, "b": {}}),
        ('"a: b": "c\\td"', {"a: b": "c\td"}),
        ("- --flag=x\n- -v", ["--flag=x", "-v"]),
        ("a: http://x:80/", {"a": "http://x:80/"}),
        ("[[a, {b: c}], []]", [["a", {"b": "c"}], []]),
    ],
)
def test_values(text: str, value: Value) -> None:
    assert read_yaml(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\na: 2",
        "a: &x 1",
        "a: *x",
        "a: !!int 1",
        "a: |\n  text",
        "a: b: c",
        "a: [1,",
        "a: {b}",
        "a: 1\n  b: 2",
        "- a\n  - b: 1",
        "\ta: 1",
        "a: 1\n---\nb: 2",
        'a: "x',
        "a: 'x'y'",
        "[" * 1000,
        "- " * 1000 + "a",
    ],
)
def test_what_is_not_plain_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="line "):
        read_yaml(text)
