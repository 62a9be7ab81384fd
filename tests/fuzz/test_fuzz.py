"""A short run of the fuzzer at each test, and proof that it would find what there is to find."""

from __future__ import annotations

import json

import pytest

from pybuild.frontend.ignore import parse_ignore
from pybuild.frontend.syntax import ast
from pybuild.frontend.syntax.parse import parse_dockerfile
from pybuild.model.errors import UserError
from pybuild.model.patterns import PatternMatcher
from tests.fuzz.coverage import Arcs
from tests.fuzz.run import Fuzzer
from tests.fuzz.targets import base_image, dockerfile


@pytest.mark.slow
def test_nothing_breaks_the_language() -> None:
    tally = Fuzzer(seed=7).run(2000)
    assert tally.inputs == 2000
    assert not tally.findings, "\n".join(map(str, tally.findings.values()))
    # It got somewhere: many ways to fail, and plenty of files that are fine.
    assert len(tally.outcomes) > 40
    assert tally.errors < 1700


@pytest.mark.slow
def test_a_seed_does_the_same_twice() -> None:
    first, second = Fuzzer(seed=3).run(60), Fuzzer(seed=3).run(60)
    assert (first.outcomes, first.corpus, first.arcs) == (
        second.outcomes,
        second.corpus,
        second.arcs,
    )


def _fragile(data: bytes) -> None:
    if b"--chown" in data:
        raise KeyError(data[:1])


def _endless(data: bytes) -> None:
    while b"$" in data:
        pass


def _rude(data: bytes) -> None:
    raise UserError("no text: \udcff")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "problem"),
    [(_fragile, "KeyError"), (_endless, "takes longer"), (_rude, "no text")],
)
def test_faults_are_found(target: object, problem: str) -> None:
    fuzzer = Fuzzer(seed=1, targets={"options": target}, limit_s=0.02)  # type: ignore[dict-item]
    tally = fuzzer.run(200)
    assert problem in next(iter(tally.findings.values())).problem


def test_arcs_are_new_once() -> None:
    arcs = Arcs()

    def parse(text: bytes) -> bool:
        return arcs.add(lambda: parse_dockerfile(text))

    assert parse(b"FROM a\n")
    parse(b"FROM a\n")  # what is loaded or remembered at the first use makes a difference
    assert not parse(b"FROM a\n")
    assert parse(b"FROM a\nCOPY --chmod=u+x a b\n")


# --- what it found ---


def test_directives_that_are_not_utf8_are_shown_as_text() -> None:
    with pytest.raises(UserError) as caught:
        parse_dockerfile(b"# escape=\xff\nFROM a\n")
    assert "invalid escape token '\ufffd'" in caught.value.message
    with pytest.raises(UserError):
        dockerfile(b"# check=\xff\nFROM a\n")


def test_configs_with_halves_of_surrogate_pairs_become_text() -> None:
    base_image(b'{"x\\ud800":"\\udc00","config":{"Env":["A=\\ud800"]}}')


def test_configs_nested_deeply_are_refused() -> None:
    depth = 900
    with pytest.raises(UserError, match="nested too deeply"):
        base_image(b'{"a":' + b"[" * depth + b"]" * depth + b"}")
    base_image(json.dumps({"a": [[[[]]]]}).encode())


def test_an_escaped_blank_alone_is_an_unknown_instruction() -> None:
    with pytest.raises(UserError, match=r"unknown instruction: \\$"):
        parse_dockerfile(b"\\ \\ \n\n")


def test_a_list_with_a_separator_behind_it_is_no_list() -> None:
    """The four ASCII separators are white space to Python, but neither to JSON nor to Go [FRM-4]."""
    file = parse_dockerfile(b'FROM scratch\nVOLUME ["/a"]\x1d\nCMD ["a"]\x1c\n')
    volume, command = file.stages[0].body
    assert isinstance(volume, ast.Volume)
    assert volume.paths == ('["/a"]\x1d',)
    assert isinstance(command, ast.Cmd)
    assert command.command.is_shell


def test_separators_are_characters_of_ignore_patterns() -> None:
    (pattern,) = parse_ignore(b"!\x1c\n")
    assert pattern == "!\x1c"
    assert PatternMatcher(["\x1d"]).matches("\x1d")
