"""docs/run.md has a row for each flag of ``docker run``, and says of each what is so."""

from __future__ import annotations

import re

import pytest

from pybuild.commandline import find
from pybuild.commandline.parser import BadOption, parse
from tests.harness import ROOT

PAGE = (ROOT / "docs/run.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `--([a-z0-9-]+)` \| (yes|no) \| (.+) \|$", PAGE, flags=re.MULTILINE)
FLAGS = """
add-host annotation attach blkio-weight blkio-weight-device cap-add cap-drop cgroup-parent
cgroupns cidfile cpu-count cpu-percent cpu-period cpu-quota cpu-rt-period cpu-rt-runtime
cpu-shares cpus cpuset-cpus cpuset-mems detach detach-keys device device-cgroup-rule
device-read-bps device-read-iops device-write-bps device-write-iops disable-content-trust dns
dns-option dns-search domainname entrypoint env env-file expose gpus group-add health-cmd
health-interval health-retries health-start-interval health-start-period health-timeout help
hostname init interactive io-maxbandwidth io-maxiops ip ip6 ipc isolation kernel-memory label
label-file link link-local-ip log-driver log-opt mac-address memory memory-reservation
memory-swap memory-swappiness mount name network network-alias no-healthcheck oom-kill-disable
oom-score-adj pid pids-limit platform privileged publish publish-all pull quiet read-only
restart rm runtime security-opt shm-size sig-proxy stop-signal stop-timeout storage-opt sysctl
tmpfs tty ulimit use-api-socket user userns uts volume volume-driver volumes-from workdir
"""
"""Those of docker 28.2."""


def test_each_flag_has_a_row() -> None:
    assert [flag for flag, _, _ in ROWS] == FLAGS.split()


def test_what_is_said_to_be_done_is_an_option_and_its_test_is_there() -> None:
    run = find("run")
    assert run is not None
    done = {flag for flag, answer, _ in ROWS if answer == "yes"}
    assert done - {option.name for option in run.options} == set()
    named = {path for _, _, text in ROWS for path in re.findall(r"`(tests/[\w/]+\.py)`", text)}
    assert [path for path in sorted(named) if not (ROOT / path).is_file()] == []


@pytest.mark.parametrize(
    ("flag", "hint"), [(f, text) for f, answer, text in ROWS if answer == "no"]
)
def test_what_is_not_done_is_refused_with_this_hint(flag: str, hint: str) -> None:
    run = find("run")
    assert run is not None
    if any(option.name == flag for option in run.options):
        return  # it is done by now, and the page is behind
    with pytest.raises(BadOption, match=f"--{flag} is not done by pybuild") as caught:
        parse([f"--{flag}", "x"], run.options)
    assert caught.value.hint == hint
