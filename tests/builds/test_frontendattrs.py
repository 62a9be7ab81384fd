"""A build request in the words of the Dockerfile frontend, read back by a server's own reader [7.2]."""

from __future__ import annotations

import pytest

from pybuild.arguments.build import request_from
from pybuild.builds.frontendattrs import frontend_attrs
from pybuild.builds.request import BuildRequest
from pybuild.commandline.building import BUILD
from pybuild.commandline.parser import parse
from pybuild.daemon.frontend.attrs import read_attrs
from pybuild.exporter.attest.options import from_flags
from pybuild.model.ops import NetworkMode, StepSettings
from pybuild.model.options import STEP_OPTIONS
from pybuild.model.platform import Platform
from pybuild.model.resources import Resources
from pybuild.model.text import join_csv, split_csv


def test_a_server_reads_what_was_asked() -> None:
    request = BuildRequest(
        context=".",
        target="t",
        build_args={"A": "1", "B": ""},
        labels={"k": "v,w"},
        platforms=(Platform.parse("linux/amd64"), Platform.parse("linux/arm64")),
        no_cache_filter=frozenset(("one", "two")),
        max_ages={"": 604800.0, "one": 0.001},
        steps=StepSettings(
            network=NetworkMode.NONE,
            add_hosts=(("h", "10.0.0.1"), ("six", "::1")),
            ulimits=(("core", 0, 0), ("nofile", 64, 128)),
            shm_size_bytes=1 << 20,
            resources=Resources(
                memory_bytes=64 << 20,
                memory_swap_bytes=-1,
                cpu_shares=512,
                cpu_period_us=10_000,
                cpu_quota_us=5_000,
                cpuset_cpus="0",
                cpuset_mems="0",
                pids=5,
                parent="p",
            ),
            hostname="box",
        ),
    )
    read = read_attrs(frontend_attrs(request))
    assert (read.target, read.build_args, read.labels) == ("t", {"A": "1", "B": ""}, {"k": "v,w"})
    assert (read.platforms, read.multi_platform) == (request.platforms, True)
    assert (read.no_cache, read.no_cache_filter) == (False, frozenset(("one", "two")))
    assert read.steps == request.steps
    assert read.max_ages == request.max_ages
    assert not read.attestations


def test_nothing_is_said_that_was_not_asked() -> None:
    assert frontend_attrs(BuildRequest(context=".")) == {}


def test_what_is_pulled_never_or_when_it_is_missing_is_not_told() -> None:
    assert frontend_attrs(BuildRequest(context=".", pull="newer"))["image-resolve-mode"] == "pull"
    assert "image-resolve-mode" not in frontend_attrs(BuildRequest(context=".", pull="never"))


def test_no_cache_and_pull_hold_for_everything() -> None:
    read = read_attrs(frontend_attrs(BuildRequest(context=".", no_cache=True, pull=True)))
    assert read.no_cache and read.pull


@pytest.mark.parametrize(
    "flags",
    [
        ("mode=min", ""),
        ("mode=max,version=v0.2,builder-id=https://b,reproducible=true", ""),
        ("inline-only=true,filename=p.json,complete-materials=true", "generator=x/scan,a=1"),
        ("", "generator=x/scan:1"),
    ],
)
def test_attestations_are_asked_for_as_they_were_wanted(flags: tuple[str, str]) -> None:
    """[ATT-1, ATT-3]"""
    wanted = from_flags((), *flags)
    attrs = frontend_attrs(BuildRequest(context=".", attestations=wanted))
    assert read_attrs(attrs).attestations == wanted


@pytest.mark.parametrize("fields", [["a"], ["a", "b=c"], ['say "x"', "a,b"], [""]])
def test_csv_is_read_as_it_was_written(fields: list[str]) -> None:
    assert split_csv(join_csv(fields)) == fields


def test_the_table_of_options_names_the_attributes_that_are_sent() -> None:
    """`docs/cli.md` lists them by it, for clients that are not ours."""
    words = [
        *("--attest=type=sbom", "--build-arg=K=1", "--fail-on-miss", "--label=K=v", "--no-cache"),
        *("--platform=linux/amd64", "--provenance=mode=max", "--pull", "--target=t", "."),
        *("--network=none", "--hostname=box", "--add-host=h:10.0.0.1", "--ulimit=nofile=64"),
        *("--shm-size=1m", "--memory=64m", "--memory-swap=-1", "--cpu-shares=512"),
        *("--cpu-period=10000", "--cpu-quota=5000", "--cpuset-cpus=0", "--cpuset-mems=0"),
        *("--cgroup-parent=p", "--resource=pids=9"),
        *("--dns=192.0.2.1", "--dns-search=a", "--dns-option=b"),
    ]
    sent = frontend_attrs(request_from(parse(words, BUILD.options)))
    named = {option.attribute for option in (*BUILD.options, *STEP_OPTIONS) if option.attribute}
    # Where the contexts are is said by who sends them; the kind of attestation is in the name.
    assert named - {"context:NAME", "filename", "attest:TYPE"} == sent.keys()
