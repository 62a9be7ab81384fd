"""Base images: which are asked for, and what their answers may be."""

from __future__ import annotations

from typing import Any

import pytest

from pybuild.frontend.lowering.interface import LowerOptions, NeedImages
from pybuild.frontend.lowering.lower import lower
from pybuild.frontend.syntax.parse import parse_dockerfile
from pybuild.model.errors import UserError
from pybuild.model.ops import (
    ScratchSource,
)
from pybuild.model.platform import LINUX_AMD64
from tests.frontend.lowering import (
    ARM,
    PATH,
    build,
    execs,
    image,
    named,
    resolve,
)


def test_an_image_named_like_a_stage_is_perhaps_that_stage() -> None:  # IN-6
    dockerfile = parse_dockerfile(b"FROM scratch AS build\nFROM bulid\nCOPY --from=golang a b\n")
    options = LowerOptions(target_platform=LINUX_AMD64, build_platform=LINUX_AMD64)
    need = lower(dockerfile, options, {})
    assert isinstance(need, NeedImages)
    hints = {r.reference.familiar: need.hints(r) for r in need.requests}
    assert hints == {
        "bulid:latest": ("did you mean the stage build?",),
        "golang:latest": (),
    }


def test_from_scratch_is_empty_and_never_asked_for() -> None:  # E107, E108
    asked: list[str] = []
    lowered = build("FROM scratch AS e\nCOPY f /\n", asked=asked)
    assert asked == []
    assert isinstance(lowered.result.inputs[0].op, ScratchSource)
    assert lowered.config["config"] == {"Env": [PATH], "WorkingDir": "/"}
    assert (lowered.config["os"], lowered.config["architecture"]) == ("linux", "amd64")
    assert lowered.base_layer_count == 0
    assert named(lowered)[-1] == "[1/1] COPY f /"


def test_all_images_are_asked_for_at_once() -> None:  # FROM-15: and each only once
    dockerfile = parse_dockerfile(
        b"FROM a AS one\nFROM one AS two\nRUN --mount=from=c,target=/c x\n"
        b"FROM b\nCOPY --from=two / /\nCOPY --from=d / /\nCOPY --from=a / /\n"
    )
    options = LowerOptions(target_platform=LINUX_AMD64, build_platform=LINUX_AMD64)
    answer = lower(dockerfile, options, {})
    assert isinstance(answer, NeedImages)
    names = sorted(request.reference.familiar for request in answer.requests)
    assert names == ["a:latest", "b:latest", "c:latest", "d:latest"]


def test_image_without_layers_is_a_config_on_scratch() -> None:  # FROM-16
    lowered = build("FROM a\n", images={"a": image(0, Cmd=["x"])})
    assert isinstance(lowered.result.op, ScratchSource)
    assert lowered.config["config"]["Cmd"] == ["x"]


def test_image_of_another_platform_is_adopted_with_a_warning() -> None:  # FROM-9
    text, images = "FROM a\nRUN x\n", {"a": image(platform=ARM)}
    lowered = build(text, images=images)
    assert execs(lowered)[0].platform == ARM
    assert lowered.platform == ARM
    assert [w.rule for w in lowered.warnings] == ["InvalidBaseImagePlatform"]
    assert lowered.warnings[0].message == (
        'Base image a was pulled with platform "linux/arm64", expected "linux/amd64" for current'
        " build"
    )
    forced = build(text, images=images, platform_explicit=True)
    assert forced.config["architecture"] == "amd64"


def test_config_of_hostile_image_is_refused() -> None:
    configs: tuple[dict[str, Any], ...] = (
        {"config": []},
        {"config": {"Env": "x"}},
        {"config": {"Env": [1]}},
        {"config": {"Labels": []}},
        {"history": {}},
        {"history": [1]},
        {"os": 1},
    )
    for config in configs:
        bad = {**image(), **config}
        with pytest.raises(UserError, match="failed to parse image config of a:latest"):
            build("FROM a\n", images={"a": bad})


def test_answers_of_another_request_are_not_taken() -> None:
    dockerfile = parse_dockerfile(b"FROM a\n")
    options = LowerOptions(target_platform=LINUX_AMD64, build_platform=LINUX_AMD64)
    first = lower(dockerfile, options, {})
    assert isinstance(first, NeedImages)
    known = {first.requests[0]: resolve(first.requests[0], image())}
    other = LowerOptions(target_platform=ARM, build_platform=LINUX_AMD64)
    assert isinstance(lower(dockerfile, other, known), NeedImages)
