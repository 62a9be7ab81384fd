"""Comments about steps and the option for ages: how old results may be, and probes [KEY-11]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pybuild.model.errors import UserError
from pybuild.model.ops import ExecOp, HttpSource, walk
from pybuild.model.policy import Action, MatchType, Policies, Policy, Rule, Selector
from tests.frontend.lowering import build, image

TEXT = """\
# pybuild: max-age=1h
FROM a AS deps
RUN one
# for whom: pybuild
# pybuild: max-age=2h keep=/r
RUN two
# pybuild: max-age=3h

RUN three
FROM deps AS last
RUN four
COPY --link f /f
COPY <<EOF /d
x
EOF
ADD http://h/u /u
# pybuild: max-age=4h
# pybuild: max-age=5h
COPY --from=deps /x /y
"""


def _ages(text: str, given: Mapping[str, float] | None = None) -> dict[str, float | None]:
    lowered = build(text, max_ages=given or {})
    return {
        vertex.meta.name.partition("] ")[2]: vertex.meta.max_age_s
        for vertex in walk(lowered.result)
        if vertex.meta.name.startswith("[")
    }


HOUR = 3600.0


def test_comments_are_about_the_step_or_the_stage_below_them() -> None:
    ages = _ages(TEXT)
    assert (ages["RUN one"], ages["RUN two"], ages["RUN three"]) == (HOUR, 2 * HOUR, HOUR)
    assert ages["RUN four"] is None
    assert ages["COPY --from=deps /x /y"] == 5 * HOUR


def test_an_option_is_about_stages_of_which_no_comment_speaks() -> None:
    ages = _ages(TEXT, {"": 7.0})
    assert (ages["RUN one"], ages["RUN two"], ages["RUN four"]) == (HOUR, 2 * HOUR, 7.0)
    ages = _ages(TEXT, {"": 7.0, "last": 8.0, "deps": 9.0})
    assert (ages["RUN one"], ages["RUN four"], ages["COPY --link f /f"]) == (HOUR, 8.0, 8.0)


def test_sources_have_no_age() -> None:
    """An image or a file of somewhere else is asked for as always: `--pull` is about these."""
    ages = _ages(TEXT, {"": 7.0})
    sources = {name: age for name, age in ages.items() if name.startswith(("FROM", "ADD"))}
    assert len(sources) >= 2 and ages["ADD http://h/u /u"] == 7.0
    assert [age for name, age in sources.items() if name.startswith("FROM")] == [None]


def test_triggers_of_a_base_have_the_age_of_the_stage() -> None:
    lowered = build(
        "# pybuild: max-age=1h\nFROM a\nRUN x\n",
        images={"a": image(OnBuild=["RUN trigger"])},
    )
    steps = [v.meta for v in walk(lowered.result) if "RUN" in v.meta.name]
    assert [meta.max_age_s for meta in steps] == [HOUR, HOUR]


def test_a_file_that_says_nothing_has_no_ages() -> None:
    assert set(_ages("FROM a\n# max-age=1h\nRUN x\n").values()) == {None}


def test_no_duration_and_no_stage_are_refused_with_their_place() -> None:
    with pytest.raises(UserError, match="max-age=soon: invalid duration") as caught:
        build("FROM a\n# pybuild: max-age=soon\nRUN x\n")
    assert caught.value.spans[0].first_line == 3
    with pytest.raises(UserError, match="max-age=: invalid duration") as caught:
        build("# pybuild: max-age=\nFROM a\nRUN x\n")
    assert caught.value.spans[0].first_line == 2
    with pytest.raises(UserError, match='no stage "b"') as caught:
        build("FROM a AS c\nRUN x\n", max_ages={"b": 1.0})
    assert caught.value.hints == ("stages: c",)
    with pytest.raises(UserError, match='no stage "b"') as caught:
        build("FROM a\nRUN x\n", max_ages={"b": 1.0})
    assert caught.value.hints == ("stages: none has a name",)


def test_a_stage_that_is_not_needed_is_not_judged() -> None:
    text = "FROM a AS other\n# pybuild: max-age=soon\nRUN x\nFROM a\nRUN y\n"
    assert _ages(text)["RUN y"] is None


def _probes(text: str, **options: Any) -> list[tuple[str, str]]:
    return [
        (vertex.op.url, vertex.meta.name)
        for vertex in walk(build(text, **options).result)
        if isinstance(vertex.op, HttpSource)
    ]


def test_a_probe_is_an_input_that_no_mount_shows() -> None:
    text = "FROM a\nARG H=http://h\n# pybuild: probe=$H/InRelease probe=https://i/x\nRUN one\n"
    assert _probes(text) == [
        ("http://h/InRelease", "[internal] PROBE http://h/InRelease"),
        ("https://i/x", "[internal] PROBE https://i/x"),
    ]
    step = build(text).result
    assert isinstance(step.op, ExecOp) and len(step.op.mounts) == 1 and len(step.inputs) == 3
    plain = build(text.replace("probe=", "other=")).result
    assert step.op == plain.op and step.digest != plain.digest


def test_a_policy_has_its_say_about_a_probe() -> None:
    text = "FROM a\n# pybuild: probe=http://h/x\nRUN one\n"
    rule = Rule(Action.DENY, Selector("http://h/x", MatchType.EXACT))
    refused = Policies((Policy((rule,)),))
    with pytest.raises(UserError, match='"http://h/x" denied by policy') as caught:
        build(text, policies=refused)
    assert caught.value.spans[0].first_line == 3


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("FROM a\n# pybuild: probe=/etc/f\nRUN x\n", "probe=/etc/f: no http", 3),
        ("FROM a\n# pybuild: probe=\nRUN x\n", "probe=: no http", 3),
        ("FROM a\n# pybuild: probe=git@h:r.git\nRUN x\n", "no http", 3),
        ("# pybuild: probe=http://h/x\nFROM a\nRUN x\n", "FROM has no probe", 2),
        ("FROM a\n# pybuild: probe=http://h/x\nCOPY f /\n", "COPY has no probe", 3),
        ("FROM a\n# pybuild: probe=http://h/x\nONBUILD RUN y\n", "ONBUILD has no probe", 3),
    ],
)
def test_a_probe_that_cannot_be_is_refused_with_its_line(
    text: str, message: str, line: int
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        build(text)
    assert caught.value.spans[0].first_line == line
