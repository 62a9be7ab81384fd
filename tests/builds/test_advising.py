"""Advice is shown once, and not where its name is skipped."""

from __future__ import annotations

import pytest

from pybuild.builds.advising import AdviceFilter
from pybuild.frontend.syntax.parse import parse_dockerfile
from pybuild.model.advice import ADVICE, UNKNOWN_OWNER
from pybuild.model.events import BuildWarning
from pybuild.model.span import Span

_FILE = b"FROM base\nCOPY --chown=node a /\n"
_ADVICE = UNKNOWN_OWNER.warning("user", "node", spans=(Span("Dockerfile", 2, 2),))


def test_each_piece_is_shown_once() -> None:
    advice = AdviceFilter(parse_dockerfile(_FILE), {})
    assert [advice.hides(_ADVICE) for _ in range(2)] == [False, True]
    check = BuildWarning(message="x", rule="StageNameCasing")
    assert [advice.hides(check) for _ in range(2)] == [False, False]


@pytest.mark.parametrize(
    ("text", "args"),
    [
        (b"# check=skip=UnknownOwner\n" + _FILE, {}),
        (_FILE, {"BUILDKIT_DOCKERFILE_CHECK": "skip=all"}),
    ],
)
def test_a_skipped_name_is_not_shown(text: bytes, args: dict[str, str]) -> None:
    assert AdviceFilter(parse_dockerfile(text), args).hides(_ADVICE)


def test_a_comment_above_the_instruction_skips_it() -> None:
    text = b"FROM base\n# check=skip=UnknownOwner root it is\nCOPY --chown=node a /\n"
    advice = AdviceFilter(parse_dockerfile(text), {})
    at = UNKNOWN_OWNER.warning("user", "node", spans=(Span("Dockerfile", 3, 3),))
    assert advice.hides(at)
    elsewhere = UNKNOWN_OWNER.warning("user", "node", spans=(Span("Dockerfile", 1, 1),))
    assert not advice.hides(elsewhere)


def test_names_of_advice_are_no_build_checks() -> None:
    from pybuild.frontend.lint.catalogue import RULES

    assert not set(ADVICE) & set(RULES)
