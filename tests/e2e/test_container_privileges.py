"""Containers with more rights than docker's default, or fewer, as their own processes see them [CTR-11, CTR-12]."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pybuild.executor.zygote import procstatus
from tests.e2e.test_containers import wait_until
from tests.harness import Pybuild

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]
_STATUS = "grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status | tr -s '\\t\\n' '  '"


def said(machine: Pybuild, script: str, *options: str) -> str:
    return machine("run", "--rm", *options, "base", "sh", "-c", script).out.strip()


def status(machine: Pybuild, *options: str) -> tuple[int, bool, bool]:
    """Return its capabilities, whether it gains none any more, and whether calls are filtered."""
    words = said(machine, _STATUS, "--init=false", *options).split()
    known = dict(zip(words[::2], words[1::2], strict=True))
    return int(known["CapEff:"], 16), known["NoNewPrivs:"] == "1", known["Seccomp:"] == "2"


@pytest.mark.root
def test_capabilities_and_the_filter(pybuild: Pybuild, base: str) -> None:
    assert base
    default = 0xA80425FB
    assert status(pybuild) == (default, False, True)
    assert status(pybuild, "--cap-drop", "ALL") == (0, False, True)
    added = status(pybuild, "--cap-add", "NET_ADMIN", "--cap-drop", "MKNOD")
    assert added == ((default | 1 << 12) & ~(1 << 27), False, True)
    assert status(pybuild, "--security-opt", "no-new-privileges") == (default, True, True)
    unfiltered = status(pybuild, "--security-opt", "seccomp=unconfined")
    assert unfiltered[0] == default and unfiltered[2] is (procstatus.number("Seccomp") == 2)
    assert status(pybuild, "--privileged")[0] == procstatus.number("CapBnd")
    mounts = "mkdir -p /m && mount -t tmpfs x /m 2>&1 && echo mounted"
    assert said(pybuild, mounts, "--cap-add", "SYS_ADMIN") == "mounted"
    assert said(pybuild, f"({mounts}) >/dev/null || echo no", "--cap-add", "NET_ADMIN") == "no"


def test_devices_groups_and_settings(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    assert base
    options = ("--device", "/dev/null:/dev/mine", "--group-add", "1234", "--oom-score-adj", "500")
    script = "echo x > /dev/mine && test -c /dev/mine && id -G && cat /proc/self/oom_score_adj"
    assert said(pybuild, script, *options).split() == ["0", "1234", "500"]
    set_so = said(pybuild, "cat /proc/sys/kernel/msgmax", "--sysctl", "kernel.msgmax=4321")
    assert set_so == "4321"
    error = pybuild("run", "--rm", "--sysctl", "kernel.msgmax=-x", "base", "true", code=125).err
    assert "cannot set sysctl kernel.msgmax=-x" in error
    error = pybuild("run", "--rm", "--device", "/etc/hosts.d:/d", "base", "true", code=125).err
    assert 'adding custom device "/etc/hosts.d"' in error
    bare = tmp_path / "bare"
    bare.mkdir()
    error = pybuild("run", "--rm", "--device", f"{bare}:/d", "base", "true", code=125).err
    assert "not a device node" in error
    assert pybuild("ps", "-aq").out == ""
    assert os.stat("/dev/null").st_rdev == os.makedev(1, 3)


def test_what_every_container_has_of_its_own(pybuild: Pybuild, base: str) -> None:
    """CTR-10, CTR-11, CTR-16: an empty HOME is the user's, its host's name may be rewritten, ids are in range."""
    assert base
    assert said(pybuild, "echo $HOME", "-e", "HOME=", "-u", "0") == "/root"
    script = "echo more >> /etc/hostname && cat /etc/hostname"
    assert said(pybuild, script, "--hostname", "h").split() == ["h", "more"]
    error = pybuild("run", "--rm", "-u", "-1", "base", "true", code=125).err
    assert "uids and gids must be in range" in error


def test_images_are_pulled_when_that_is_meant(pybuild: Pybuild, base: str) -> None:
    assert base
    assert said(pybuild, "echo here", "--pull", "never", "-q") == "here"
    for more in ((), ("--name", "one")):
        error = pybuild("run", "--pull", "never", *more, "nothing-here", code=None).err
        assert "No such image: nothing-here" in error


@pytest.mark.root
def test_namespaces_are_shared_with_the_machine_and_among_containers(
    pybuild: Pybuild, base: str
) -> None:
    """[CTR-15]"""
    assert base
    begun = "echo here > /dev/shm/mark; exec sleep 600"
    run = ("run", "-d", "--name")
    pybuild(*run, "donor", "--ipc", "shareable", base, "sh", "-c", begun)
    joined = said(
        pybuild,
        "while ! test -s /dev/shm/mark; do sleep 0.05; done; cat /dev/shm/mark /proc/1/comm",
        *("--ipc", "container:donor", "--pid", "container:donor"),
    )
    assert joined.split() == ["here", "sleep"]
    hosts = ("--pid", "host", "--ipc", "host", "--uts", "host", "--cgroupns", "host")
    script = f"cat /proc/{os.getpid()}/comm; cat /proc/sys/kernel/hostname; sleep 600 & echo $!"
    comm, hostname, stray = said(pybuild, script, *hosts, "--userns", "host").split()
    assert (comm, hostname) == (Path("/proc/self/comm").read_text().strip(), os.uname().nodename)
    # No kernel ends what it left with its first process: we do.
    wait_until(lambda: not Path(f"/proc/{stray}").exists())
    more = ("--pid", "host", "--domainname", "lan", "--annotation", "a=b")
    pybuild(*run, "seer", *more, base, "sleep", "600")
    assert pybuild("exec", "seer", "cat", f"/proc/{os.getpid()}/comm").out.strip() == comm
    form = "{{.HostConfig.PidMode}} {{.Config.Domainname}} {{.HostConfig.Annotations.a}}"
    assert pybuild("inspect", "-f", form, "seer").out == "host lan b\n"
    error = pybuild("run", "--rm", "--ipc", "container:seer", base, "true", code=125).err
    assert "non-shareable IPC" in error
    pybuild("rm", "-f", "donor", "seer")
