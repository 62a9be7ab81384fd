"""Settings of steps pass once: from flags to attributes and back, by one table [BLD-16, 23, 24]."""

from __future__ import annotations

from dataclasses import fields

import pytest

from pybuild.commandline.building import BUILD
from pybuild.commandline.parser import parse
from pybuild.model.digest import Digest
from pybuild.model.errors import UsageError
from pybuild.model.ops import NetworkMode, StepSettings
from pybuild.model.options import LIMITS, STEP_OPTIONS
from pybuild.model.resources import Resources
from pybuild.model.stepoptions import (
    FORMS,
    attributes_of_settings,
    settings_of_attributes,
    settings_of_flags,
)
from pybuild.solver.keys import definition_part
from tests.frontend.lowering import build, execs

FLAGS = (
    *("--network=none", "--hostname=box", "--add-host=db:10.0.0.1", "--add-host", "six=[::1]"),
    *("--ulimit=nofile=64:128", "--ulimit=core=0", "--shm-size=1m", "--memory=64m"),
    *("--memory-swap=-1", "--cpu-shares=512", "--cpu-period=10000", "--cpu-quota=5000"),
    *("--cpuset-cpus=0-2,4", "--cpuset-mems=0", "--cgroup-parent=p", "--resource=pids=100"),
    *(
        "--dns=192.0.2.1",
        "--dns",
        "[2001:db8::1]",
        "--dns-search=a.example",
        "--dns-option=ndots:1",
    ),
)
ALL = StepSettings(
    network=NetworkMode.NONE,
    hostname="box",
    add_hosts=(("db", "10.0.0.1"), ("six", "::1")),
    ulimits=(("core", 0, 0), ("nofile", 64, 128)),
    shm_size_bytes=1 << 20,
    nameservers=("192.0.2.1", "2001:db8::1"),
    search_domains=("a.example",),
    dns_options=("ndots:1",),
    resources=Resources(
        memory_bytes=64 << 20,
        memory_swap_bytes=-1,
        cpu_shares=512,
        cpu_period_us=10_000,
        cpu_quota_us=5_000,
        cpuset_cpus="0-2,4",
        cpuset_mems="0",
        pids=100,
        parent="p",
    ),
)


def of_flags(*words: str) -> StepSettings:
    return settings_of_flags(parse(words, BUILD.options).many)


def test_the_table_names_every_field_once() -> None:
    of_resources = [o.field for o in STEP_OPTIONS if o.form not in FORMS]
    of_settings = [o.field for o in STEP_OPTIONS if o.form in FORMS]
    assert sorted(of_resources) == sorted(field.name for field in fields(Resources))
    assert sorted([*of_settings, "resources"]) == sorted(f.name for f in fields(StepSettings))
    assert len({o.attribute for o in STEP_OPTIONS}) == len(STEP_OPTIONS)
    network = next(o for o in STEP_OPTIONS if o.name == "network")
    assert set(network.values) == set(NetworkMode)


def test_every_flag_arrives_on_the_other_side_of_the_wire() -> None:
    settings = of_flags(*FLAGS)
    assert settings == ALL
    attributes = attributes_of_settings(settings)
    assert attributes.keys() == {option.attribute for option in STEP_OPTIONS}
    assert settings_of_attributes(attributes) == ALL


def test_what_is_not_given_or_empty_is_the_default() -> None:
    assert of_flags() == StepSettings()
    assert attributes_of_settings(StepSettings()) == {}
    assert settings_of_attributes(dict.fromkeys((o.attribute for o in STEP_OPTIONS), "")) == (
        StepSettings()
    )


@pytest.mark.parametrize("name", LIMITS)
def test_every_limit_is_a_resource_by_name(name: str) -> None:
    text = "64m" if LIMITS[name].form == "bytes" else "1"
    settings = of_flags(f"--resource=memory=64m,{name}={text}")
    assert getattr(settings.resources, LIMITS[name].field)


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--network=bridge", 'invalid network mode: "bridge": one of default, none, host'),
        ("--network=", 'invalid network mode: ""'),
        ("--add-host=db", 'invalid host "db": expected name:ip'),
        ("--add-host=db:here", 'invalid host "db:here": expected name:ip'),
        ("--add-host=:1.2.3.4", 'invalid host ":1.2.3.4"'),
        ("--ulimit=nofile", 'invalid ulimit "nofile": expected name=soft'),
        ("--ulimit==5", 'invalid ulimit "=5"'),
        ("--shm-size=much", 'invalid shm-size "much": expected a size such as 64m'),
        ("--memory=much", 'invalid memory "much": expected a size such as 64m'),
        ("--memory=-1", "invalid memory value: -1: must be > 0"),
    ],
)
def test_flags_that_cannot_be(flag: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        of_flags(flag)
    assert str(caught.value).startswith(words)


def test_a_host_gateway_is_this_machine() -> None:
    assert of_flags("--add-host=h:host-gateway").add_hosts == (("h", "host-gateway"),)


DOCKERFILE = (
    "FROM a\nRUN one\nRUN --network=host two\nCOPY x /y\nRUN --mount=type=cache,target=/c three\n"
)


def _digests(steps: StepSettings) -> list[str]:
    lowered = build(DOCKERFILE, steps=steps)
    parts = [Digest.of_json(definition_part(op)) for op in execs(lowered)]
    return [str(digest)[7:19] for digest in (lowered.result.digest, *parts)]


def test_keys_are_what_they_were_when_each_setting_was_a_field_of_the_op() -> None:
    """[KEY-1] The digests were taken before `StepSettings` was made."""
    full = StepSettings(
        network=NetworkMode.NONE,
        hostname="box",
        add_hosts=(("db", "10.0.0.1"), ("six", "::1")),
        ulimits=(("core", 0, 0), ("nofile", 64, 128)),
        shm_size_bytes=1 << 20,
        resources=Resources(memory_bytes=64 << 20, parent="p"),
    )
    plain = ["f8a1f2300b1b", "bb72042036a6", "8866572e1739", "7e9406e75371"]
    assert _digests(StepSettings()) == plain
    assert _digests(full) == ["6c49bd768e9b", "f702f1e03d85", "430257096602", "85a0d4f2b74c"]
    uncounted = StepSettings(shm_size_bytes=5, resources=Resources(cpu_shares=5))
    assert _digests(uncounted) == plain
