"""The scopes of ARG: which value a stage, a step and a config get [E90..95, E102..104, EV]."""

from __future__ import annotations

import pytest

from pybuild.model.errors import UserError
from tests.frontend.lowering import (
    ARM,
    PATH,
    build,
    env_of,
    execs,
    texts,
)


def test_global_arg_is_seen_by_from_and_not_by_the_stage() -> None:
    asked: list[str] = []
    lowered = build("ARG V=3\nFROM a:$V\nRUN echo $V\n", asked=asked)  # E90
    assert asked == ["a:3 linux/amd64"]
    assert "V" not in env_of(execs(lowered)[0])


def test_bare_arg_takes_the_global_value() -> None:
    lowered = build("ARG V=3\nFROM a:$V\nARG V\nRUN echo $V\n")  # E91
    assert env_of(execs(lowered)[0])["V"] == "3"


def test_default_in_the_stage_beats_the_global_one_and_a_build_arg_both() -> None:  # E92
    text = "ARG V=3\nFROM a:$V\nARG V=4\nRUN echo $V\n"
    asked: list[str] = []
    assert env_of(execs(build(text, asked=asked))[0])["V"] == "4"
    assert env_of(execs(build(text, asked=asked, build_args={"V": "5"}))[0])["V"] == "5"
    assert asked == ["a:3 linux/amd64", "a:5 linux/amd64"]


def test_env_after_arg_overrides_the_build_arg() -> None:  # E93
    lowered = build("FROM a\nARG V\nENV V=x\nRUN id\n", build_args={"V": "y"})
    assert env_of(execs(lowered)[0])["V"] == "x"


def test_arg_after_env_wins_for_steps_but_not_in_the_config() -> None:  # E94
    lowered = build("FROM a\nENV V=x\nARG V=y\nRUN id\n")
    assert env_of(execs(lowered)[0])["V"] == "y"
    assert lowered.config["config"]["Env"] == [PATH, "V=x"]


@pytest.mark.parametrize(("args", "value"), [({}, "d"), ({"V": "b"}, "b")])
def test_env_can_keep_an_arg(args: dict[str, str], value: str) -> None:  # E95
    lowered = build("FROM a\nARG V\nENV V=${V:-d}\n", build_args=args)
    assert lowered.config["config"]["Env"] == [PATH, f"V={value}"]


def test_args_are_inherited_by_stages_based_on_theirs() -> None:  # E96
    lowered = build("FROM a AS one\nARG V=1\nFROM one AS two\nRUN x\n")
    assert env_of(execs(lowered)[0])["V"] == "1"
    assert texts(lowered)[-1] == "+ RUN |1 V=1 /bin/sh -c x # buildkit"


def test_proxy_args_do_not_count() -> None:  # E102
    text = "FROM a\nRUN x\n"
    one = build(text, build_args={"HTTP_PROXY": "p"})
    two = build(text, build_args={"http_proxy": "q"})
    assert one.result.digest == two.result.digest == build(text).result.digest
    assert execs(one)[0].proxy_env == ("HTTP_PROXY=p", "http_proxy=p")
    assert "p" not in env_of(execs(one)[0]).values()
    assert texts(one) == ["+ RUN /bin/sh -c x # buildkit"]
    assert not one.warnings


def test_declared_proxy_arg_counts() -> None:  # E103
    text = "FROM a\nARG HTTP_PROXY\nRUN x\n"
    one = build(text, build_args={"HTTP_PROXY": "p"})
    two = build(text, build_args={"HTTP_PROXY": "q"})
    assert one.result.digest != two.result.digest
    assert texts(one)[-1] == "+ RUN |1 HTTP_PROXY=p /bin/sh -c x # buildkit"


def test_automatic_args_can_be_overridden() -> None:  # E104
    asked: list[str] = []
    text = "FROM a:$TARGETARCH\nARG TARGETARCH\nRUN x\n"
    lowered = build(text, asked=asked, build_args={"TARGETARCH": "foo"})
    assert asked == ["a:foo linux/amd64"]
    assert env_of(execs(lowered)[0])["TARGETARCH"] == "foo"
    assert not lowered.warnings


def test_automatic_args_need_a_declaration_in_the_stage() -> None:
    text = "FROM a\nRUN x\nARG TARGETPLATFORM\nARG BUILDARCH TARGETSTAGE\nRUN y\n"
    first, second = execs(build(text, target_platform=ARM))
    assert set(env_of(first)) == {"PATH"}
    assert env_of(second)["TARGETPLATFORM"] == "linux/arm64"
    assert env_of(second)["BUILDARCH"] == "amd64"
    assert env_of(second)["TARGETSTAGE"] == "default"


def test_arg_without_a_value_is_unset() -> None:  # E109
    lowered = build("FROM a\nARG X\nRUN echo ${X-unset}\nENV Y=${X-unset}\n")
    assert "X" not in env_of(execs(lowered)[0])
    assert "Y=unset" in lowered.config["config"]["Env"]
    assert texts(lowered)[:2] == ["  ARG X", "+ RUN |1 X= /bin/sh -c echo ${X-unset} # buildkit"]


def test_default_that_is_not_used_is_not_expanded() -> None:  # E110
    text = "FROM a\nARG X=${Y:?no}\nRUN x\n"
    assert env_of(execs(build(text, build_args={"X": "1"}))[0])["X"] == "1"
    with pytest.raises(UserError, match="Y: no") as caught:
        build(text)
    assert caught.value.spans[0].first_line == 2


def test_an_unused_build_arg_is_compared_with_those_that_there_are() -> None:
    lowered = build("FROM a\nARG VERSION\n", build_args={"VERSON": "1", "OTHER": "2"})
    assert [w.message for w in lowered.warnings] == [
        "One or more build-args [OTHER VERSON] were not consumed (did you mean VERSION?)"
    ]


def test_build_arg_is_taken_verbatim() -> None:  # EV-13
    lowered = build("FROM a\nARG X\nRUN x\n", build_args={"X": "$PATH\\n"})
    assert env_of(execs(lowered)[0])["X"] == "$PATH\\n"


def test_unused_build_args_are_warned_about() -> None:  # EV-8
    lowered = build("FROM a\nARG X\n", build_args={"X": "1", "B": "2", "A": "3", "NO_PROXY": "x"})
    assert [w.message for w in lowered.warnings] == [
        "One or more build-args [A B] were not consumed"
    ]
