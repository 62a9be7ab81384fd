"""Limits of steps as a person asks for them and hears of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import pybuild as library
from pybuild.executor.zygote import hierarchies
from pybuild.model.errors import StepError
from tests.harness import Pybuild, write
from tests.needs import need

pytestmark = [pytest.mark.root, pytest.mark.sandbox, pytest.mark.slow]


@pytest.fixture(autouse=True)
def needs_cgroups() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    has = {name for h in hierarchies.hierarchies() if not h.problem for name in h.controllers}
    if not {"memory", "pids"} <= has:
        pytest.skip("no cgroups for memory and pids")


def test_memory_is_limited_and_the_error_says_so(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    # A shell that doubles a variable until there is no room for it.
    step = "RUN x=0123456789abcdef; while :; do x=$x$x; done"
    context = write(tmp_path / "c", Dockerfile=f"FROM {base}\n{step}\n")
    for limits in (
        ["-m", "32m", "--memory-swap=32m"],
        ["--resource", "memory=32m,memory-swap=32m"],
    ):
        done = pybuild("build", *limits, context, code=None)
        assert done.code == 1
        assert "exit code: 137 (out of memory)" in done.err
        assert "at the limit of 32 MiB (--memory)" in done.err


def test_memory_that_runs_out_inside_a_pipe_is_told(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    """The status of a pipe is that of its last command: the step was DONE, without a word."""
    step = "RUN (x=0123456789abcdef; while :; do x=$x$x; done) | cat"
    context = write(tmp_path / "c", Dockerfile=f"FROM {base}\n{step}\n")
    done = pybuild("build", "-m", "32m", "--memory-swap=32m", context)
    assert (
        "a process of this step was killed for want of memory, yet the step succeeded" in done.err
    )
    assert "at the limit of 32 MiB (--memory)" in done.err


def test_processes_are_limited_and_the_error_says_so(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    step = "RUN for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done"
    context = write(tmp_path / "c", Dockerfile=f"FROM {base}\n{step}\n")
    done = pybuild("build", "--resource", "pids=5", context, code=1)
    assert "(out of processes)" in done.err
    assert "hint: it wanted more processes at once than pids=5 allows" in done.err
    with pytest.raises(StepError, match="out of processes"):
        steps = library.StepSettings(resources=library.Resources(pids=5))
        library.build(context, steps=steps, root=pybuild.store)
    pybuild("build", "--resource", "pids=50", context)
    assert "CACHED" in pybuild("build", "--progress=plain", context).err
    too_many = pybuild("build", "--no-cache", "--resource", "pids=99999999", context, code=1)
    assert "invalid pids: 99999999: invalid argument" in too_many.err


def test_limits_are_not_in_the_key(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    """[KEY-1]"""
    context = write(tmp_path / "c", Dockerfile=f"FROM {base}\nRUN echo x > /f\n")
    pybuild("build", "--progress=plain", context)
    done = pybuild("build", "--progress=plain", "-c", "512", "--memory=64m", context)
    assert "CACHED" in done.err


def test_a_ulimit_that_cannot_be_had_is_a_warning_of_its_step(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    """[BLD-23]"""
    context = write(tmp_path / "c", Dockerfile=f"FROM {base}\nRUN test -n x\n")
    done = pybuild("build", "--progress=plain", f"--ulimit=nofile={1 << 40}", context)
    assert "warning: ulimit nofile=" in done.err


def test_wrong_limits_are_named(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    context = write(tmp_path / "c", Dockerfile=f"FROM {base}\nRUN true\n")
    for words, text in (
        (["--memory=1"], "invalid memory: 1: at least 4 MiB"),
        (["--memory=lots"], 'invalid memory "lots"'),
        (["--cpu-shares=x"], "invalid cpu-shares value: x"),
        (["--resource=gpu=1"], 'unknown resource "gpu"'),
        (["--resource=pids=0"], "invalid pids value: 0: must be > 0"),
        (["--pids=5"], "unknown flag: --pids"),
        (["--cpuset-cpus=4096"], "invalid cpuset-cpus: 4096"),
        (["--cgroup-parent=/a/../b"], "invalid cgroup-parent"),
        (["--memory=inf"], 'invalid memory "inf"'),
        (["--shm-size=-1"], 'invalid shm-size "-1"'),
        (["--shm-size=9e99"], 'invalid shm-size "9e99"'),
        (["--ulimit=files=1"], '"files" is not one of'),
        (["--ulimit=nofile=9:3"], "soft limit is above the hard limit"),
        ([f"--ulimit=nofile={1 << 64}"], "a limit is a number up to"),
        (["--ulimit=nofile=-5"], "a limit is a number up to"),
    ):
        done = pybuild("build", *words, context, code=None)
        assert done.code in (1, 2)
        assert text in done.err


def test_steps_may_have_a_network_of_their_own(base: str, pybuild: Pybuild, tmp_path: Path) -> None:
    """[SBX-19] By the configuration; --network=host is still the host's."""
    need("slirp4netns")
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("needs /dev/net/tun")
    config = tmp_path / "pybuild.toml"
    config.write_text('[network]\nmode = "isolated"\n')
    context = write(
        tmp_path / "c",
        Dockerfile=f"FROM {base}\nRUN busybox readlink /proc/self/ns/net; cat /etc/resolv.conf\n",
    )
    ours = os.readlink("/proc/self/ns/net")
    words = ("--config", config, "build", "--progress=plain", "--no-cache", context)
    done = pybuild(*words)
    assert ours not in done.err
    done = pybuild(*words, "--network=host", "--allow=network.host")
    assert ours in done.err
    config.write_text('[network]\nmode = "bridge"\n')
    done = pybuild(*words, code=2)
    assert '"network.mode" must be one of auto, host, isolated' in done.err
