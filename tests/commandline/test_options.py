"""The command line is read as docker's is."""

import pytest

from pybuild.commandline import NAMES, find
from pybuild.commandline.building import BUILD
from pybuild.commandline.help import usage
from pybuild.commandline.parser import BadOption, parse


def test_long_short_joined_and_equals_forms_mean_the_same() -> None:
    forms = (["--tag", "a"], ["--tag=a"], ["-t", "a"], ["-ta"], ["-t=a"])
    assert {tuple(parse(form, BUILD.options).many("tag")) for form in forms} == {("a",)}


def test_repeatable_options_keep_their_order_and_others_the_last_value() -> None:
    parsed = parse(["-t", "b", "--target", "x", "-t", "a", "--target=y"], BUILD.options)
    assert parsed.many("tag") == ["b", "a"]
    assert parsed.one("target") == "y"


@pytest.mark.parametrize(
    ("words", "value"),
    [(["--pull"], True), (["--pull=false"], False), (["--pull=1"], True), ([], False)],
)
def test_booleans_take_an_optional_value(words: list[str], value: bool) -> None:
    assert parse(words, BUILD.options).flag("pull") is value


def test_short_booleans_join() -> None:
    parsed = parse(["-qD", "."], BUILD.options)
    assert parsed.flag("quiet") and parsed.flag("debug")
    assert parsed.positionals == ["."]


def test_everything_after_two_dashes_is_positional() -> None:
    assert parse(["--", "--pull", "-"], BUILD.options).positionals == ["--pull", "-"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--taget", "x"], "unknown flag: --taget (did you mean --target?)"),
        (["-z"], 'unknown shorthand flag: "z" in -z'),
        (["--tag"], "flag needs an argument: --tag"),
        (
            ["--pull=maybe"],
            'invalid argument "maybe" for "--pull" flag: expected always, missing, newer, never',
        ),
    ],
)
def test_mistakes_are_named(words: list[str], message: str) -> None:
    with pytest.raises(BadOption) as caught:
        parse(words, BUILD.options)
    assert str(caught.value) == message


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_a_help_page_naming_each_option(name: str) -> None:
    command = find(name)
    assert command is not None
    page = usage(command)
    assert all(f"--{option.name}" in page for option in command.options)
