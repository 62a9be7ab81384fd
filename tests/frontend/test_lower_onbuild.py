"""Triggers that ONBUILD leaves in images and stages [OB]."""

from __future__ import annotations

import pytest

from pybuild.model.errors import UserError
from tests.frontend.lowering import (
    build,
    execs,
    image,
    named,
    texts,
)


def test_onbuild_of_an_image_runs_in_the_child_only() -> None:  # E105
    text = "FROM base AS child\nRUN own\nFROM child\nRUN grandchild\n"
    lowered = build(text, images={"base": image(OnBuild=["COPY . /s", "RUN built"])})
    assert [op.args[-1] for op in execs(lowered)] == ["built", "own", "grandchild"]
    assert "[child 2/4] ONBUILD COPY . /s" in named(lowered)
    assert "[child 4/4] RUN own" in named(lowered)
    assert "OnBuild" not in lowered.config["config"]
    assert lowered.contexts == {"context"}


def test_onbuild_of_a_stage_runs_in_its_child() -> None:
    lowered = build("FROM a AS one\nONBUILD RUN later\nRUN first\nFROM one\nRUN last\n")
    assert [op.args[-1] for op in execs(lowered)] == ["first", "later", "last"]
    assert texts(build("FROM a\nONBUILD RUN later\n")) == []
    assert build("FROM a\nONBUILD RUN later\n").config["config"]["OnBuild"] == ["RUN later"]


def test_onbuild_may_ask_for_more_images() -> None:  # OB-3
    asked: list[str] = []
    build(
        "FROM base\n",
        images={"base": image(OnBuild=["COPY --from=tools /t /t"])},
        asked=asked,
    )
    assert asked == ["base linux/amd64", "tools linux/amd64"]


@pytest.mark.parametrize(
    ("trigger", "message"),
    [
        ("FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("MAINTAINER x", "MAINTAINER isn't allowed as an ONBUILD trigger"),
        ("NONSENSE x", "unknown instruction: NONSENSE"),
        ("COPY --from=me /x /", "circular dependency detected on stage: me"),
    ],
)
def test_bad_inherited_trigger_names_the_from_line(trigger: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        build("\nFROM base AS me\n", images={"base": image(OnBuild=[trigger])})
    assert [span.first_line for span in caught.value.spans] == [2]
