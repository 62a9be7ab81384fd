"""A small file that means something huge is refused with its line, before it fills the memory."""

from __future__ import annotations

import pytest

from pybuild.model.errors import PybuildError
from tests.bake.scopes import definition

_TENFOLD = "".join(
    f'variable "v{n}" {{ default = concat({", ".join([f"v{n - 1}"] * 10)}) }}\n'
    for n in range(1, 12)
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "problem", "line"),
    [
        (
            'function "a" {\n  params = [x]\n  result = "' + "${x}" * 10 + '"\n}\n'
            'target "t" { tags = [' + "a(" * 10 + '"lol"' + ")" * 10 + "] }\n",
            "the text has more than 16777216 characters",
            3,
        ),
        (
            f'variable "v0" {{ default = ["a"] }}\n{_TENFOLD}target "t" {{ tags = v11 }}\n',
            "the list has more than 1000000 elements",
            8,
        ),
        (
            (
                'target "t" {\n  name = "t-${a}-${b}-${c}"\n'
                "  matrix = { a = range(999), b = range(999), c = range(999) }\n}\n"
            ),
            "the matrix makes more than 10000 targets",
            3,
        ),
    ],
)
def test_what_grows_without_end_is_refused_with_its_line(
    text: str, problem: str, line: int
) -> None:
    with pytest.raises(PybuildError, match=problem) as caught:
        definition(text)
    assert {span.first_line for span in caught.value.spans} == {line}


def test_a_matrix_of_as_many_targets_as_may_be_makes_all_of_them() -> None:
    text = 'target "t" {\n  name = "t-${a}-${b}"\n  matrix = { a = range(9), b = range(9) }\n}\n'
    assert len(definition(text).targets) == 81


@pytest.mark.parametrize(
    "text",
    [
        "%1000000000d",
        "%01000001d",
        "%." + "9" * 5000 + "f",
        "%-" + "9" * 5000 + "s",
        "%[" + "9" * 5000 + "]d",
        "%.1000001f",
    ],
)
def test_a_format_of_a_huge_width_is_refused(text: str) -> None:
    """Go has no width above a million; the text was made at its full length before."""
    with pytest.raises(PybuildError, match="in a format: at most 1000000"):
        definition(
            f'variable "v" {{ default = format("{text}", 7) }}\ntarget "t" {{ tags = [v] }}\n'
        )


@pytest.mark.slow
def test_a_format_of_many_wide_verbs_is_refused() -> None:
    verbs = "%999999[1]d" * 20
    with pytest.raises(PybuildError, match="the text has more than 16777216 characters"):
        definition(
            f'variable "v" {{ default = format("{verbs}", 7) }}\ntarget "t" {{ tags = [v] }}\n'
        )
