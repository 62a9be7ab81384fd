"""Traces of our code in errors, as BuildKit's clients print them with --debug [remote-api 1.1]."""

from __future__ import annotations

import json
import os

from pybuild.buildkit.pb.errors import encode, parse_status
from pybuild.buildkit.pb.stacks import stacks_of
from pybuild.daemon.control.failures import rpc_error
from pybuild.model.errors import UserError


def deep(levels: int) -> None:
    if levels:
        deep(levels - 1)
    raise FileNotFoundError("nothing")


def failing(levels: int = 1) -> UserError:
    try:
        deep(levels)
    except FileNotFoundError as cause:
        try:
            raise UserError("no context") from cause
        except UserError as error:
            return error
    raise AssertionError


def test_each_error_of_the_chain_has_a_trace_the_cause_first_and_innermost_frames_first() -> None:
    cause, effect = stacks_of(failing())
    here = "tests.buildkit.test_pb_stacks."
    assert [frame.name for frame in cause.frames] == [
        f"{here}deep",
        f"{here}deep",
        f"{here}failing",
    ]
    assert [frame.name for frame in effect.frames] == [f"{here}failing"]
    assert {frame.file for frame in cause.frames} == {"tests/buildkit/test_pb_stacks.py"}


def test_a_trace_is_json_with_the_names_that_go_clients_look_for() -> None:
    (stack, _) = stacks_of(failing())
    detail = encode(stack)
    assert detail.type_url == "github.com/moby/buildkit/stack.Stack+json"
    value = json.loads(detail.value)
    assert sorted(value["frames"][0]) == ["File", "Line", "Name"]
    assert value["pid"] == os.getpid() and value["cmdline"] == ["pybuild", "daemon"]


def test_long_chains_and_deep_stacks_are_cut() -> None:
    assert [len(stack.frames) for stack in stacks_of(failing(levels=200))] == [32, 1]
    error: Exception = failing()
    for _ in range(50):
        outer = UserError("again")
        outer.__cause__, error = error, outer.with_traceback(error.__traceback__)
    assert len(stacks_of(error)) == 4


def test_an_error_that_causes_itself_ends() -> None:
    error = failing()
    assert error.__cause__ is not None
    error.__cause__.__cause__ = error
    assert len(stacks_of(error)) == 2


def test_who_takes_little_gets_the_error_without_traces() -> None:
    told = rpc_error(failing())
    whole, brief = parse_status(told.details), parse_status(told.brief)
    assert whole is not None and brief is not None
    names = [detail.type_url.rpartition("/")[2] for detail in whole.details]
    assert names.count("stack.Stack+json") == 2
    assert list(whole.details)[: len(brief.details)] == list(brief.details)
    assert len(whole.details) == len(brief.details) + 2
