"""HCL and JSON files are read alike, and what is neither is refused with its place."""

from __future__ import annotations

import pytest

from pybuild.bake.hcl.jsonbody import read_json
from pybuild.bake.hcl.syntax import read_hcl
from pybuild.model.errors import PybuildError, UserError
from tests.bake.scopes import definition, value_of

BLOCKS = frozenset(("function", "group", "target", "variable"))


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        ("a = \n", "2:1", "missing"),
        ('target "x" {', "1:13", "} is missing"),
        ("a = [1, 2\nb = 3\n", "2:1", "missing"),
        ("a b c\n", "1:1", 'unexpected "a b c"'),
        ("\x00", "1:1", "unexpected"),
    ],
)
def test_what_is_no_hcl_is_refused_with_line_and_column(
    text: str, place: str, problem: str
) -> None:
    with pytest.raises(UserError) as caught:
        read_hcl(text.encode(), "docker-bake.hcl")
    assert caught.value.message.startswith(f"docker-bake.hcl:{place}: ")
    assert problem in caught.value.message
    assert caught.value.hints


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a = 1\na = 2\n", "already set in line 1"),
        ("a = 1 b = 2\n", 'a new line is missing before "b"'),
        (f"a = {'(' * 400}1{')' * 400}\n", "nest deeper"),
        ('target "a" "b" {}\n', "invalid block label"),
        ("target {}\n", "invalid block label"),
        ('target "a b" {}\n', "invalid name"),
        ('target "a" { tag = ["x"] }\n', "did you mean"),
        ('target "a" { tags = "x" }\n', "list of string required"),
        ('target "a" { args = ["x"] }\n', "map of string required"),
        ('target "a" { cache-from = [{ ref = "x" }] }\n', "type required"),
        ('target "a" { secret = ["id=a,nosuch=b"] }\n', 'unexpected key "nosuch"'),
        ('target "a" { attest = ["mode=max"] }\n', "attestation type not specified"),
        ('target "a" { resources = { disk = "1" } }\n', "unknown resources key disk"),
        ('target "a" { pull = "perhaps" }\n', "bool required"),
        ('group "a" { matrix = { x = ["1"] } }\n', "matrix is not supported for groups"),
        ('target "a" { name = "b" }\n', "name requires matrix"),
        ('target "a" { matrix = ["x"] }\n', "matrix must be a map"),
        ('target "a" { matrix = { x = "y" } }\n', "matrix values must be a list"),
        ('target "a" {\n name = "b"\n matrix = { x = ["1", "2"] }\n}\n', 'duplicate name "b"'),
        ("a = b\nb = a\n", "variable cycle not allowed"),
        ('target "a" { tags = target.a.tags }\n', "reference cycle not allowed for target.a.tags"),
        ('target "a" { tags = [target] }\n', "cannot access target as a variable"),
        ('target "a" { tags = target.b.tags }\n', 'no target named "b"'),
        ('function "f" { params = [x] }\n', "empty result not allowed"),
        ('function "f" { result = 1 }\n', "empty params not allowed"),
        ('function "f" {\n params = [1]\n result = 1\n}\n', "must be an identifier"),
        ('function "f" {\n params = [x]\n result = f(x)\n}\na = f(1)\n', "function cycle"),
    ],
)
def test_a_definition_that_means_nothing_is_refused_with_its_line(text: str, problem: str) -> None:
    with pytest.raises(PybuildError) as caught:
        definition(text)
    assert problem in " ".join((caught.value.message, *caught.value.hints))
    assert caught.value.spans
    assert caught.value.spans[0].file in caught.value.sources


def test_a_chain_of_conditions_takes_the_first_that_holds() -> None:
    chain = "n == 1 ? 10 : n == 2 ? 20 : n == 3 ? 30 : 40"
    assert value_of(f"[for n in [1, 2, 3, 4]: {chain}]") == [10, 20, 30, 40]
    assert value_of("(true ? false : true) ? 1 : 2") == 2


def test_json_says_the_same_as_hcl() -> None:
    in_json = definition(
        """{
          "//": "a comment",
          "variable": {"TAG": {"default": "v1", "type": "string"}},
          "function": {"twice": {"params": ["a"], "result": "${a}${a}"}},
          "group": {"default": {"targets": ["app"]}},
          "target": {"app": [
            {"tags": ["app:${twice(TAG)}", "%{if TAG == \\"v1\\"}one%{endif}"], "args": {"n": 2}},
            {"pull": true}
          ]}
        }""",
        names=("docker-bake.json",),
    )
    in_hcl = definition("""
        variable "TAG" {
          type = string
          default = "v1"
        }
        function "twice" {
          params = [a]
          result = "${a}${a}"
        }
        group "default" { targets = ["app"] }
        target "app" {
          tags = ["app:${twice(TAG)}", "%{if TAG == "v1"}one%{endif}"]
          args = { n = 2 }
        }
        target "app" { pull = true }
    """)
    assert in_json == in_hcl
    assert in_json.targets["app"].texts("tags") == ["app:v1v1", "one"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[]", "a bake file is an object"),
        ("{", "invalid JSON"),
        ('{"target": "x"}', "is an object, or a list of them"),
        ('{"target": {"x": 1}}', "is an object, or a list of them"),
        ("[" * 100_000, "invalid JSON"),
    ],
)
def test_what_is_no_bake_file_in_json_is_refused(text: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        read_json(text.encode(), "docker-bake.json", BLOCKS)
