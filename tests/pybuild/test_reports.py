"""Texts of errors that are not in `test_render`: bugs of ours, and what systems say."""

from __future__ import annotations

from io import StringIO

import pytest

from pybuild.model.digest import Digest
from pybuild.model.errors import BlobMissing, InternalError, StepError, UserError
from pybuild.model.span import Span
from pybuild.progress.render import report, text


def shown(error: BaseException) -> tuple[str, int]:
    out = StringIO()
    code = report(error, out)
    return out.getvalue(), int(code)


def breaking() -> None:
    raise KeyError("x")


def test_a_bug_says_where_it_is() -> None:
    with pytest.raises(KeyError) as caught:
        breaking()
    line = breaking.__code__.co_firstlineno + 1
    hint = "hint: this is a bug in pybuild; run again with --debug and report it\n"
    assert shown(caught.value) == (
        f"error: internal: KeyError: 'x'\n  at test_reports.py:{line} in breaking\n{hint}", 4,
    )  # fmt: skip
    assert shown(ValueError("y")) == (f"error: internal: ValueError: y\n{hint}", 4)


def test_an_invariant_that_does_not_hold_is_internal() -> None:
    assert text(InternalError("edge completed twice", hints=["report it"])) == (
        "error: internal: edge completed twice\nhint: report it\n"
    )


def test_what_the_system_says_names_its_file() -> None:
    assert shown(OSError(28, "No space left on device", "/s")) == (
        "error: /s: no space left on device\n", 3,
    )  # fmt: skip
    assert shown(OSError(28, "No space left on device")) == ("error: no space left on device\n", 3)
    assert shown(OSError("odd"))[0].startswith("error: internal: OSError: odd\n")


def test_a_blob_that_is_gone_is_the_stores_fault() -> None:
    said, code = shown(BlobMissing(Digest.of(b"x")))
    assert code == 3
    assert said.endswith("hint: build or pull again what it is part of: that mends the store\n")


def test_a_step_without_output_has_no_frame() -> None:
    assert text(StepError("no", status=1)) == "error: no\n"


def test_all_places_and_hints_are_shown_in_order() -> None:
    error = UserError(
        "wrong",
        spans=[Span("D", 1, 1), Span("D", 2, 2)],
        hints=["one", "two"],
        sources={"D": ["A", "B"]},
    )
    said = text(error)
    assert said.startswith("error: wrong\nhint: one\nhint: two\nD:1\n")
    assert said.index("D:1\n") < said.index("D:2\n")
