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


MISSING = re.findall(r"^\| `([a-z ]+)` \| `--([a-z0-9-]+)` \| .+ \|$", PAGE, flags=re.MULTILINE)
OF_OTHERS = """
attach: detach-keys no-stdin sig-proxy
commit: author change message pause
container prune: filter force
cp: archive follow-link quiet
events: filter format since until
exec: detach detach-keys env env-file interactive privileged tty user workdir
export: output
history: format human no-trunc platform quiet
image prune: all filter force
images: all digests filter format no-trunc quiet tree
import: change message platform
info: format
inspect: format size type
kill: signal
load: input platform quiet
login: password password-stdin username
logs: details follow since tail timestamps until
network connect: alias driver-opt gw-priority ip ip6 link link-local-ip
network create: attachable aux-address config-from config-only driver gateway ingress internal
    ip-range ipam-driver ipam-opt ipv4 ipv6 label opt scope subnet
network disconnect: force
network inspect: format verbose
network ls: filter format no-trunc quiet
network prune: filter force
network rm: force
ps: all filter format last latest no-trunc quiet size
pull: all-tags disable-content-trust platform quiet
push: all-tags disable-content-trust platform quiet
restart: signal timeout
rm: force link volumes
rmi: force no-prune platform
save: output platform
search: filter format limit no-trunc
start: attach checkpoint checkpoint-dir detach-keys interactive
stats: all format no-stream no-trunc
stop: signal timeout
system df: format verbose
update: blkio-weight cpu-period cpu-quota cpu-rt-period cpu-rt-runtime cpu-shares cpus
    cpuset-cpus cpuset-mems memory memory-reservation memory-swap pids-limit restart
volume create: availability driver group label limit-bytes opt required-bytes scope secret
    sharing topology-preferred topology-required type
volume inspect: format
volume ls: cluster filter format quiet
volume prune: all filter force
volume rm: force
"""
"""Those of other commands of docker 28.2."""


def test_flags_of_other_commands_are_there_or_named_with_a_reason_and_refused() -> None:
    missing: list[tuple[str, str]] = []
    for line in OF_OTHERS.strip().replace("\n ", " ").splitlines():
        name, _, flags = line.partition(":")
        command = find(name)
        assert command is not None
        for flag in flags.split():
            if flag != "help" and all(option.name != flag for option in command.options):
                missing.append((name, flag))
                with pytest.raises(BadOption, match=f"--{flag}"):
                    parse([f"--{flag}", "x"], command.options)
    assert MISSING == missing


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
