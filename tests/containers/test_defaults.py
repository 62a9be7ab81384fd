"""The parts of a container's config that its image and what was given make together [CTR-1…7, CTR-33, CTR-75]."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from pybuild.containers.defaults import (
    check_limits,
    command_of,
    health_check,
    log_config,
    read_restart,
    restart_policy,
    swappiness,
    with_cpus,
    workdir_with,
)
from pybuild.containers.environment import environment, environment_with, labels_with
from pybuild.containers.givenwords import (
    followed_streams,
    shown_alone,
    whole_seconds,
    with_rotation,
)
from pybuild.containers.order import HealthCheck, LogConfig, RestartPolicy
from pybuild.executor.steps.spec import StepLimits
from pybuild.model.errors import UsageError

IMAGE = {"Entrypoint": ["e"], "Cmd": ["c", "d"]}
MIB = 1 << 20


@pytest.mark.parametrize(
    ("entrypoint", "command", "image", "result"),
    [
        (None, [], IMAGE, (("e",), ("c", "d"))),
        (None, ["x"], IMAGE, (("e",), ("x",))),
        (["f"], [], IMAGE, (("f",), None)),
        (["f"], ["x"], IMAGE, (("f",), ("x",))),
        ([""], ["x"], IMAGE, (None, ("x",))),
        (None, [], {"Cmd": ["c"]}, (None, ("c",))),
    ],
)
def test_a_command_is_given_or_the_images(
    entrypoint: Sequence[str] | None, command: Sequence[str], image: Mapping[str, Any], result: Any
) -> None:
    assert command_of(entrypoint, command, image) == result


def test_there_has_to_be_something_to_run() -> None:
    for entrypoint, image in ((None, {}), ([""], IMAGE)):
        with pytest.raises(UsageError, match="neither ENTRYPOINT nor CMD"):
            command_of(entrypoint, [], image)


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("", RestartPolicy("no")),
        ("always", RestartPolicy("always")),
        ("unless-stopped", RestartPolicy("unless-stopped")),
        ("on-failure", RestartPolicy("on-failure")),
        ("on-failure:0", RestartPolicy("on-failure", 0)),
        ("on-failure:5", RestartPolicy("on-failure", 5)),
    ],
)
def test_a_restart_policy_is_read(text: str, policy: RestartPolicy) -> None:
    assert read_restart(text) == policy


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("on-failure:x", 'invalid restart policy "on-failure:x": "x" is no number'),
        ("always:3", "maximum retry count can only be used with 'on-failure'"),
        ("often", "unknown policy 'often'"),
    ],
)
def test_a_restart_policy_that_is_none_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_restart(text)


def test_a_number_of_restarts_is_not_below_nothing() -> None:
    assert restart_policy("on-failure", 0) == RestartPolicy("on-failure", 0)
    with pytest.raises(UsageError, match="cannot be negative"):
        restart_policy("on-failure", -1)


def test_a_log_has_the_options_of_its_driver() -> None:
    assert log_config("", {}) == LogConfig("json-file", {})
    options = {"max-size": "10m", "max-file": "1000"}
    assert log_config("local", options) == LogConfig("local", options)
    assert log_config("json-file", {"labels": "a", "max-file": "1"}).options["labels"] == "a"
    assert log_config("none", {}) == LogConfig("none", {})


@pytest.mark.parametrize(
    ("driver", "options", "message"),
    [
        ("syslog", {}, 'no log driver named "syslog": one of json-file, local, none'),
        ("local", {"labels": "a"}, "unknown log opt 'labels' for local log driver"),
        ("none", {"max-size": "1"}, "unknown log opt 'max-size' for none log driver"),
        ("", {"max-size": "much"}, "max-size"),
        ("", {"max-file": "0"}, 'invalid max-file "0": a number of files, at least 1'),
        ("", {"max-file": "x"}, 'invalid max-file "x": a number of files, at least 1'),
        ("", {"max-file": "1001"}, 'invalid max-file "1001": at most 1000 files'),
        ("", {"max-file": "00001"}, 'invalid max-file "00001": at most 1000 files'),
    ],
)
def test_a_log_that_there_cannot_be_is_refused(
    driver: str, options: Mapping[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        log_config(driver, options)


def test_a_log_of_several_files_has_a_size() -> None:
    for options in ({}, {"max-file": "1"}, {"max-file": "2", "max-size": "1k"}):
        config = LogConfig("json-file", options)
        assert with_rotation(config) is config
    local = LogConfig("local", {"max-file": "2"})
    assert with_rotation(local) is local
    with pytest.raises(UsageError, match="max-file needs max-size"):
        with_rotation(LogConfig("json-file", {"max-file": "2"}))


def test_a_health_check_is_the_images_with_what_was_given() -> None:
    image = {"Healthcheck": {"Test": ["CMD", "a"], "Interval": 2_000_000, "Retries": 7}}
    assert health_check({}, image) == HealthCheck(("CMD", "a"), interval=2_000_000, retries=7)
    given = {"Test": ["NONE"], "Timeout": 1_000_000, "StartPeriod": 3_000_000, "Retries": 1}
    assert health_check(given, image) == HealthCheck(
        ("NONE",), interval=2_000_000, timeout=1_000_000, start_period=3_000_000, retries=1
    )
    assert health_check({"Interval": 10**9}, {}) is None
    for known in ({"Timeout": 999_999}, {"StartInterval": 1}, {"Interval": -1}):
        with pytest.raises(UsageError, match="in Healthcheck cannot be less than 1ms"):
            health_check(known, image)
    with pytest.raises(UsageError, match="Retries in Healthcheck cannot be negative"):
        health_check({"Retries": -1}, image)


def test_a_working_directory_is_absolute() -> None:
    assert workdir_with("", {}) == "/"
    assert workdir_with("", {"WorkingDir": "/a"}) == "/a"
    assert workdir_with("/b/../c/", {"WorkingDir": "/a"}) == "/c"
    with pytest.raises(UsageError, match="the working directory 'b' is invalid"):
        workdir_with("b", {"WorkingDir": "/a"})


def test_swappiness_is_a_share_of_a_hundred() -> None:
    assert [swappiness(text) for text in ("", "-1", "0", "007", "100")] == ["", "", "0", "7", "100"]
    for text in ("101", "-2", "x", "0001"):
        with pytest.raises(UsageError, match=f"invalid value: {text}. Valid memory swappiness"):
            swappiness(text)


THERE = os.cpu_count() or 1


@pytest.mark.parametrize(
    "limits",
    [
        StepLimits(),
        StepLimits(memory_bytes=6 * MIB, reserved_bytes=6 * MIB),
        StepLimits(memory_bytes=-1, reserved_bytes=-1),
        StepLimits(reserved_bytes=7 * MIB),
        StepLimits(cpu_period_us=1000, cpu_quota_us=1000),
        StepLimits(cpu_period_us=1_000_000, cpu_quota_us=-1),
        StepLimits(cpuset_cpus=f"0,{THERE - 1}"),
    ],
)
def test_limits_that_can_be_lived_with(limits: StepLimits) -> None:
    check_limits(limits)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (StepLimits(memory_bytes=6 * MIB - 1), "Minimum memory limit allowed is 6MB"),
        (StepLimits(memory_bytes=1), "Minimum memory limit allowed is 6MB"),
        (StepLimits(reserved_bytes=1), "Minimum memory reservation allowed is 6MB"),
        (StepLimits(memory_bytes=6 * MIB, reserved_bytes=7 * MIB), "less than memory reservation"),
        (StepLimits(cpu_period_us=999), "CPU cfs period can not be less than 1ms"),
        (StepLimits(cpu_period_us=1_000_001), "or larger than 1s"),
        (StepLimits(cpu_quota_us=999), "CPU cfs quota can not be less than 1ms"),
        (StepLimits(cpu_quota_us=1), "CPU cfs quota can not be less than 1ms"),
        (StepLimits(cpuset_cpus=f"0-{THERE}"), f"requested CPUs .* available: 0-{THERE - 1}"),
        (StepLimits(cpuset_cpus="9" * 5000), "requested CPUs are not available"),
    ],
)
def test_limits_that_no_process_can_live_with(limits: StepLimits, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_limits(limits)


def test_nodes_of_memory_have_to_be_there() -> None:
    for text in ("", "0", "0-0", "0,0"):
        check_limits(StepLimits(cpuset_mems=text))
    for text in ("99999", "0-99999", "0,99999"):
        with pytest.raises(UsageError, match=f"memory nodes .* requested {text}$"):
            check_limits(StepLimits(cpuset_mems=text))


def test_a_number_of_processors_is_a_quota() -> None:
    assert with_cpus(StepLimits(pids=3), 0.5) == StepLimits(
        cpu_period_us=100_000, cpu_quota_us=50_000, pids=3
    )
    assert with_cpus(StepLimits(), THERE).cpu_quota_us == THERE * 100_000
    assert with_cpus(StepLimits(), 0.01).cpu_quota_us == 1000
    for count in (0.0, 0.009, THERE + 0.1):
        with pytest.raises(UsageError, match=rf"range of CPUs is from 0.01 to {THERE}\.00"):
            with_cpus(StepLimits(), count)
    for limits in (StepLimits(cpu_period_us=1000), StepLimits(cpu_quota_us=1000)):
        with pytest.raises(UsageError, match="cannot both be set"):
            with_cpus(limits, 1)


def test_variables_are_the_images_but_for_those_that_were_given() -> None:
    image = {"Env": ["A=1", "B=2"]}
    assert environment_with({"B": "3"}, {"B", "C"}, image) == ("B=3", "A=1")
    assert environment_with({}, {"A"}, image) == ("B=2",)
    assert labels_with({"b": "3"}, {"Labels": {"a": "1", "b": "2"}}) == {"a": "1", "b": "3"}
    plain = environment("here", ("A=1",), tty=False)
    assert "HOSTNAME=here" in plain and "A=1" in plain
    assert not any(one.startswith("TERM=") for one in plain)
    assert "TERM=xterm" in environment("here", (), tty=True)
    assert "TERM=dumb" in environment("here", ("TERM=dumb",), tty=True)
    assert [one for one in environment("x", ("PATH=/p",), tty=False) if "PATH" in one] == [
        "PATH=/p"
    ]


def test_what_is_shown_alone_is_shown_as_it_was_given() -> None:
    assert shown_alone({"a": "b"}, "local", trusts=True) == {
        "HostConfig": {"Annotations": {"a": "b"}, "VolumeDriver": "local"}
    }
    assert shown_alone({}, "", trusts=True) == {"HostConfig": {}}
    with pytest.raises(UsageError, match="nothing here checks signatures"):
        shown_alone({}, "", trusts=False)
    with pytest.raises(UsageError, match='plugin "nfs" not found'):
        shown_alone({}, "nfs", trusts=True)


def test_a_stop_has_whole_seconds() -> None:
    assert [whole_seconds(text) for text in ("0", "5", "-1")] == [0.0, 5.0, -1.0]
    with pytest.raises(UsageError, match='invalid --stop-timeout "1.5": expected seconds'):
        whole_seconds("1.5")


def test_streams_are_followed_by_name() -> None:
    assert followed_streams((), detached=True) == {"stdin", "stdout", "stderr"}
    assert followed_streams(("STDOUT",), detached=False) == {"stdout"}
    refused: Sequence[tuple[Callable[[], object], str]] = (
        (lambda: followed_streams(("stdin",), detached=True), "both --attach and --detach"),
        (lambda: followed_streams(("out",), detached=False), 'invalid argument "out"'),
    )
    for work, message in refused:
        with pytest.raises(UsageError, match=message):
            work()
