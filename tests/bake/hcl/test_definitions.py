"""Variables take their values from outside, from their rules, and from one another."""

from __future__ import annotations

import pytest

from pybuild.bake.hcl.values import Value, ValueProblem
from tests.bake.scopes import definition, scope_of


@pytest.mark.parametrize(
    ("declared", "outside", "value"),
    [
        ('variable "V" {}', {}, ""),
        ('variable "V" {}', {"V": "x"}, "x"),
        ('variable "V" { default = 1 }', {"V": "2"}, 2),
        ('variable "V" { default = true }', {"V": "0"}, False),
        ('variable "V" { default = null }', {"V": "x"}, "x"),
        ('variable "V" { type = string }', {}, None),
        ('variable "V" { type = number }', {"V": "1.5e1"}, 15),
        ('variable "V" { type = bool }', {"V": "T"}, True),
        ('variable "V" { type = list(string) }', {"V": 'a,"b,c"'}, ["a", "b,c"]),
        ('variable "V" { type = set(number) }', {"V": "2,1,2"}, [1, 2]),
        ('variable "V" { type = map(number) }', {"V": "a:1,b:2"}, {"a": 1, "b": 2}),
        ('variable "V" { type = tuple([string, bool]) }', {"V": "a,true"}, ["a", True]),
        ('variable "V" { type = list(number) }', {"V_JSON": "[1, 2]"}, [1, 2]),
        ('variable "V" { type = object({a = string}) }', {"V_JSON": '{"a": 1}'}, {"a": "1"}),
        (
            (
                'variable "V" {\n type = object({a = optional(string, "x"), b = optional(bool)})\n'
                " default = {}\n}"
            ),
            {},
            {"a": "x", "b": None},
        ),
        ('V = "attribute"\nvariable "V" { default = "block" }', {"V": "outside"}, "attribute"),
        ('variable "V" { default = W }\nvariable "W" { default = "w" }', {"W": "x"}, "x"),
    ],
)
def test_a_variable_has_the_value_of_its_rules(
    declared: str, outside: dict[str, str], value: Value
) -> None:
    assert scope_of(declared + "\n", outside).variable("V") == value


@pytest.mark.parametrize(
    ("declared", "outside", "problem"),
    [
        ('variable "V" { default = 1 }', {"V": "x"}, "failed to parse V as number"),
        ('variable "V" { default = true }', {"V": "maybe"}, "failed to parse V as bool"),
        ('variable "V" { default = [1] }', {"V": "1"}, "unsupported type list for variable V"),
        ('variable "V" { type = object({a = string}) }', {"V": "a"}, "V_JSON"),
        ('variable "V" { type = tuple([string]) }', {"V": "a,b"}, "tuple expects 1 elements"),
        ('variable "V" { type = map(string) }', {"V": "a"}, "expected one key:value pair"),
        ('variable "V" { type = list(list(string)) }', {"V": "a"}, "is not a primitive"),
        (
            'variable "V" {\n type = number\n default = "x"\n}',
            {},
            "invalid type number for variable V default value",
        ),
        (
            (
                'variable "V" {\n default = 1\n validation {\n condition = V > 1\n'
                ' error_message = "V is ${V}"\n }\n}'
            ),
            {},
            "validation failed: V is 1",
        ),
        (
            'variable "V" {\n validation {\n condition = null\n error_message = "" \n }\n}',
            {},
            "not null",
        ),
        ('variable "V" {\n validation {\n condition = true\n }\n}', {}, '"error_message"'),
    ],
)
def test_a_value_that_breaks_the_rules_of_its_variable_is_refused(
    declared: str, outside: dict[str, str], problem: str
) -> None:
    with pytest.raises(ValueProblem) as caught:
        scope_of(declared + "\n", outside).check()
    assert problem in " ".join((caught.value.message, *caught.value.hints))
    assert caught.value.spans


def test_variables_are_listed_with_types_and_values() -> None:
    made = definition(
        """
        variable "B" {
          type = list(string)
          default = ["x"]
          description = "some"
        }
        variable "A" { default = 1 }
        variable "N" { type = string }
        """
    )
    assert [(one.name, one.type, one.value, one.description) for one in made.variables] == [
        ("A", "", "1", ""),
        ("B", "list of string", '["x"]', "some"),
        ("N", "string", None, ""),
    ]


def test_a_function_takes_more_arguments_where_it_says_so() -> None:
    scope = scope_of("""
        function "f" {
          params = [a]
          variadic_params = rest
          result = "${a}:${join("+", rest)}"
        }
        x = f("1", "2", "3")
        y = f("1", ["2", "3"]...)
        z = f("1")
    """)
    assert [scope.variable(name) for name in "xyz"] == ["1:2+3", "1:2+3", "1:"]


def test_a_loop_hides_a_variable_of_its_name_only_inside() -> None:
    scope = scope_of('v = "outer"\nx = [for v in ["inner"]: v]\ny = v\n')
    assert [scope.variable(name) for name in "xy"] == [["inner"], "outer"]
