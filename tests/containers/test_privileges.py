"""The rights of a container as they are given, read and handed to the sandbox [CTR-11, CTR-12, CTR-17]."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from pybuild.arguments.privileges import privileges_of
from pybuild.commandline import find
from pybuild.commandline.parser import parse
from pybuild.containers.config import ContainerConfig
from pybuild.containers.defaults import check_limits, exposed_ports, with_cpus
from pybuild.containers.order import ContainerPrivileges
from pybuild.containers.privileges import (
    capabilities,
    device,
    device_edits,
    gpus,
    has_own_namespace,
    security_opts,
    step_privileges,
    sysctls,
)
from pybuild.executor.steps.spec import ALL_CAPABILITIES, StepLimits, StepMount, StepMountType
from pybuild.model.errors import UsageError, UserError

EVERY = (1 << len(ALL_CAPABILITIES)) - 1
NET_ADMIN, CHOWN = 1 << 12, 1


def given(*words: str, own_network: bool = True, own_ipc: bool = True) -> ContainerPrivileges:
    run = find("run")
    assert run is not None
    parsed = parse([*words, "image"], run.options)
    return privileges_of(parsed, own_network=own_network, own_ipc=own_ipc)


def test_all_of_them_are_read_and_kept() -> None:
    known = given(
        *(
            "--cap-add",
            "net_admin",
            "--cap-drop",
            "CAP_CHOWN",
            "--security-opt",
            "no-new-privileges",
        ),
        *("--device", "/dev/fuse", "--device", "vendor.com/net=card0", "--gpus", "device=0,1"),
        *("--group-add", "video", "--oom-score-adj", "500", "--sysctl", "net.core.somaxconn=99"),
    )
    assert known == ContainerPrivileges(
        cap_add=("CAP_NET_ADMIN",),
        cap_drop=("CAP_CHOWN",),
        security_opts=("no-new-privileges",),
        devices=(("/dev/fuse", "/dev/fuse", "rwm"),),
        cdi=("vendor.com/net=card0", "nvidia.com/gpu=0", "nvidia.com/gpu=1"),
        groups=("video",),
        oom_score_adj=500,
        sysctls=(("net.core.somaxconn", "99"),),
    )
    config = ContainerConfig(
        id="a" * 64, name="x", image="i", manifest="", deltas=(), privileges=known
    )
    assert ContainerConfig.of_json(config.to_json().encode()) == config
    assert given() == ContainerPrivileges()


@pytest.mark.parametrize(
    ("add", "drop", "result"),
    [
        ([], [], (0, 0)),
        (["NET_ADMIN"], ["CHOWN"], (NET_ADMIN, CHOWN)),
        (["CHOWN"], ["CHOWN"], (CHOWN, 0)),  # as docker has it: what is added counts
        (["ALL"], [], (EVERY, 0)),
        (["ALL"], ["CHOWN"], (EVERY & ~CHOWN, CHOWN)),
        (["NET_ADMIN"], ["ALL"], (NET_ADMIN, EVERY)),
    ],
)
def test_capabilities(add: list[str], drop: list[str], result: tuple[int, int]) -> None:
    known = ContainerPrivileges(cap_add=capabilities(add, "x"), cap_drop=capabilities(drop, "x"))
    made = step_privileges(known)
    assert (made.add, made.drop) == result
    privileged = step_privileges(known._replace(privileged=True))
    assert (privileged.add, privileged.drop) == (0, 0)


@pytest.mark.parametrize(
    ("opts", "filtered", "no_new"),
    [
        ((), True, False),
        (("no-new-privileges",), True, True),
        (("no-new-privileges:true",), True, True),
        (("no-new-privileges=false",), True, False),
        (("seccomp=unconfined",), False, False),
        (("seccomp:unconfined",), False, False),
        (("seccomp=builtin", "apparmor=unconfined", "label=disable"), True, False),
    ],
)
def test_security_options(opts: tuple[str, ...], filtered: bool, no_new: bool) -> None:
    made = step_privileges(ContainerPrivileges(security_opts=security_opts(opts)))
    assert (made.filtered, made.no_new) == (filtered, no_new)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("/dev/a", ("/dev/a", "/dev/a", "rwm")),
        ("/dev/a:/dev/b", ("/dev/a", "/dev/b", "rwm")),
        ("/dev/a:rw", ("/dev/a", "/dev/a", "rw")),
        ("/dev/a:/dev/b:rw", ("/dev/a", "/dev/b", "rw")),
    ],
)
def test_devices(text: str, result: tuple[str, str, str]) -> None:
    assert device(text) == result


def test_gpus() -> None:
    assert gpus("all") == ("nvidia.com/gpu=all",)
    assert gpus("2") == ("nvidia.com/gpu=0", "nvidia.com/gpu=1")
    assert gpus("999")[-1] == "nvidia.com/gpu=998"
    assert gpus('"device=0,GPU-1"') == ("nvidia.com/gpu=0", "nvidia.com/gpu=GPU-1")


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda: given("--cap-add", "FLY"), 'invalid CapAdd: unknown capability: "FLY"'),
        (lambda: given("--security-opt", "seccomp=a.json"), "profiles of your own are not read"),
        (lambda: given("--security-opt", "apparmor=mine"), "no profile of that kind"),
        (lambda: given("--security-opt", "nothing"), 'invalid --security-opt 1: "nothing"'),
        (lambda: given("--security-opt", "no-new-privileges=maybe"), "true or false"),
        (lambda: given("--device", "dev/a"), "bad format for --device: dev/a"),
        (
            lambda: given("--device", "/dev/a:/dev/b:rwx"),
            "bad format for --device: /dev/a:/dev/b:rwx",
        ),
        (lambda: given("--device", "/dev/a:/dev/b:rw:m"), "bad format for --device"),
        (lambda: given("--device", "/dev/a:r"), "for reading and writing alone"),
        (lambda: given("--gpus", "some"), "invalid --gpus some"),
        (lambda: given("--gpus", "1000"), "invalid --gpus 1000"),
        (lambda: given("--oom-score-adj", "2000"), "invalid --oom-score-adj 2000"),
        (lambda: given("--sysctl", "vm.swappiness=1"), "sysctl 'vm.swappiness=1' is not allowed"),
        (lambda: given("--sysctl", "net/../vm=1"), "is not allowed"),
        (lambda: sysctls(["net.a=1"], own_network=False), "has the host's network"),
    ],
)
def test_what_cannot_be_is_refused(read: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read()


def test_a_device_is_looked_for_when_it_is_needed() -> None:
    known = ContainerPrivileges(devices=(("/dev/null", "/dev/mine", "rwm"),))
    assert device_edits(known).mounts == (
        StepMount(StepMountType.DEVICE, "/dev/mine", "/dev/null"),
    )
    with pytest.raises(UserError, match='custom device "/dev/no-such"'):
        device_edits(ContainerPrivileges(devices=(("/dev/no-such", "/dev/x", "rwm"),)))
    with pytest.raises(UserError, match='required device "example.org/x=1" is not registered'):
        device_edits(ContainerPrivileges(cdi=("example.org/x=1",)))


@pytest.mark.root
def test_of_a_directory_there_are_the_devices_alone(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("/dev/null")
    (tmp_path / "below").mkdir()
    os.mknod(tmp_path / "below/null", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    known = ContainerPrivileges(devices=((str(tmp_path), "/dev/mine", "rwm"),))
    assert device_edits(known).mounts == (
        StepMount(StepMountType.DEVICE, "/dev/mine/below/null", f"{tmp_path}/below/null"),
    )


@pytest.mark.parametrize(
    ("texts", "ports"),
    [
        (["80"], ("443/tcp", "80/tcp")),
        (["8000-8002/udp"], ("443/tcp", "8000/udp", "8001/udp", "8002/udp")),
        (["1", "65535/sctp"], ("1/tcp", "443/tcp", "65535/sctp")),
    ],
)
def test_exposed_ports(texts: list[str], ports: tuple[str, ...]) -> None:
    assert exposed_ports(texts, {"ExposedPorts": {"443/tcp": {}}}) == ports


@pytest.mark.parametrize("text", ["0", "65536", "9-8", "80/icmp", "a", "-", "80-"])
def test_what_is_no_port_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=f"invalid range format for --expose: {text}"):
        exposed_ports([text], {})


def test_limits_of_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    check_limits(StepLimits(cpuset_cpus="0-3", cpu_quota_us=1000))
    with pytest.raises(UsageError, match=r"requested 4, available: 0-3$"):
        check_limits(StepLimits(cpuset_cpus="4"))
    with pytest.raises(UsageError, match="quota can not be less than 1ms"):
        check_limits(StepLimits(cpu_quota_us=999))
    assert with_cpus(StepLimits(), 4).cpu_quota_us == 400_000
    with pytest.raises(UsageError, match=r"from 0\.01 to 4\.00"):
        with_cpus(StepLimits(), 4.1)


def test_whose_network_it_is() -> None:
    modes = ("none", "bridge", "mine", "host", "default", "container:x")
    assert [has_own_namespace(mode) for mode in modes] == [True] * 3 + [False] * 3


def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(UserError) as caught:
        device_edits(ContainerPrivileges(devices=(("/dev/none", "/dev/x", "rwm"),)))
    assert caught.value.message == (
        'error gathering device information while adding custom device "/dev/none": '
        "no such file or directory"
    )
