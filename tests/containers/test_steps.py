"""The order to the sandbox for a container's first process, from its config [CTR-18, NET-30]."""

from __future__ import annotations

import shutil

import pytest

from pybuild.containers.config import ContainerConfig
from pybuild.containers.order import ContainerNamespaces, ContainerPrivileges
from pybuild.containers.steps import find_init, hosts_of, mode_of, networks_of, step_of
from pybuild.executor.steps.spec import StepLimits, StepMount, StepMountType
from pybuild.executor.zygote import syscalls
from pybuild.networks.order import EndpointOrder, NetworkOrder, PortOrder
from pybuild.volumes.mountpoint import MountPoint

CONFIG = ContainerConfig(
    id="ab" * 32,
    name="web",
    image="app",
    manifest="",
    deltas=(),
    entrypoint=("/run", "-x"),
    cmd=("one", "two"),
    env=("A=b",),
    cwd="/work",
    user="1:2",
    hostname="here",
    domainname="example",
    resolv_conf="nameserver 10.0.0.1\n",
    readonly=True,
    limits=StepLimits(pids=3),
    ulimits=(("nofile", 1, 2),),
    shm_bytes=7,
)
MOUNT = StepMount(StepMountType.BIND_PATH, "/data", "/there")


def test_a_config_is_a_step() -> None:
    step = step_of(CONFIG, "/c/1", ["/a", "/b"], [MOUNT])
    assert step.lowers == ("/a", "/b")
    assert (step.upper, step.work) == ("/c/1/fs", "/c/1/work")
    assert step.args == ("/run", "-x", "one", "two")
    assert "A=b" in step.env
    assert "HOSTNAME=here" in step.env
    assert not any(one.startswith("TERM=") for one in step.env)
    assert (step.cwd, step.user, step.hostname) == ("/work", "1:2", "here")
    assert step.domainname == "example"
    assert step.network == "host"
    assert step.mounts[0] == MOUNT
    assert step.resolv_conf == b"nameserver 10.0.0.1\n"
    assert step.ulimits == (("nofile", 1, 2),)
    assert (step.shm_size_bytes, step.readonly, step.limits) == (7, True, StepLimits(pids=3))
    assert step.terminal is None
    assert step.lasting
    assert step.is_container
    assert step.security == "sandbox"


def test_one_that_may_all_is_no_sandbox() -> None:
    config = CONFIG._replace(privileges=ContainerPrivileges(privileged=True))
    assert step_of(config, "/c", [], []).security == "insecure"
    assert step_of(CONFIG, "/c", [], []).sharing.flags & syscalls.CLONE_NEWPID == 0
    shared = CONFIG._replace(namespaces=ContainerNamespaces(pid="host"))
    assert step_of(shared, "/c", [], []).sharing.flags & syscalls.CLONE_NEWPID


def test_an_init_runs_the_words() -> None:
    step = step_of(CONFIG._replace(init=True), "/c", [], [MOUNT])
    assert step.args == ("/sbin/docker-init", "--", "/run", "-x", "one", "two")
    init = StepMount(StepMountType.BIND_PATH, "/sbin/docker-init", find_init() or "", readonly=True)
    assert step.mounts[:2] == (MOUNT, init)


def test_the_init_is_one_of_this_machine() -> None:
    known = {shutil.which(name) for name in ("docker-init", "tini-static", "catatonit", "tini")}
    assert find_init() in known


@pytest.mark.parametrize(
    ("size", "terminal"),
    [
        (None, (0, 0)),
        ([24, 80], (24, 80)),
        ([0, 65535], (0, 65535)),
        ([24, 65536], (0, 0)),
        ([-1, 80], (0, 0)),
        ([24], (0, 0)),
        ([24, 80, 1], (0, 0)),
        (["24", 80], (0, 0)),
    ],
)
def test_a_terminal_begins_with_the_size_that_was_given(
    size: object, terminal: tuple[int, int]
) -> None:
    shown = {} if size is None else {"HostConfig": {"ConsoleSize": size}}
    config = CONFIG._replace(tty=True, shown=shown)
    assert step_of(config, "/c", [], []).terminal == terminal


@pytest.mark.parametrize(
    ("mode", "of_sandbox"),
    [
        ("host", "host"), ("none", "none"), ("bridge", "none"), ("mine", "none"),
        ("container:web", "host"),
    ],
)  # fmt: skip
def test_networks_of_its_own_are_brought_to_an_empty_namespace(mode: str, of_sandbox: str) -> None:
    assert mode_of(CONFIG._replace(network=mode)) == of_sandbox
    assert step_of(CONFIG._replace(network=mode), "/c", [], []).network == of_sandbox


def test_hosts_of_one_without_a_network_are_its_loopback_and_the_given() -> None:
    text = hosts_of("none", "here", [("a", "10.0.0.9"), ("up", "host-gateway")])
    assert text.endswith("\n")
    assert "10.0.0.9\ta\n" in text
    assert "127.0.0.1\tup\n" in text
    assert "here" not in text
    assert "host-gateway" not in text
    shared = hosts_of("host", "here", [("up", "host-gateway")])
    assert "here" in shared
    assert "host-gateway" not in shared
    assert step_of(CONFIG._replace(network="none"), "/c", [], []).hosts == (
        hosts_of("none", "here.example").encode()
    )


def test_the_order_for_its_networks_has_what_the_config_says() -> None:
    config = CONFIG._replace(
        network="mine",
        networks=(EndpointOrder("mine", aliases=("a",)), EndpointOrder("other")),
        ports=(PortOrder("tcp", 80),),
        dns=("10.0.0.1",),
        dns_search=("example",),
        dns_options=("ndots:1",),
        add_hosts=(("up", "host-gateway"),),
    )
    assert networks_of(config, "/store/networks") == NetworkOrder(
        folder="/store/networks",
        container=CONFIG.id,
        name="web",
        hostname="here.example",
        endpoints=(EndpointOrder("mine", aliases=("a",)), EndpointOrder("other")),
        ports=(PortOrder("tcp", 80),),
        resolv_conf="nameserver 10.0.0.1\n",
        servers=("10.0.0.1",),
        search=("example",),
        options=("ndots:1",),
        hosts=(("up", "host-gateway"),),
        files=("/etc/hosts", "/etc/resolv.conf"),
    )


def test_one_that_is_on_none_comes_back_to_its_first_network() -> None:
    order = networks_of(CONFIG._replace(network="mine"), "/n")
    assert order is not None
    assert order.endpoints == (EndpointOrder("mine"),)


@pytest.mark.parametrize("mode", ["host", "none", "container:web"])
def test_modes_without_networks_have_no_order(mode: str) -> None:
    assert networks_of(CONFIG._replace(network=mode), "/n") is None


@pytest.mark.parametrize(
    ("targets", "files"),
    [
        (("/etc/hosts",), ("/etc/resolv.conf",)),
        (("/etc/resolv.conf",), ("/etc/hosts",)),
        (("/etc",), ()),
        (("/data",), ("/etc/hosts", "/etc/resolv.conf")),
    ],
)
def test_files_that_somebody_mounted_are_not_ours(
    targets: tuple[str, ...], files: tuple[str, ...]
) -> None:
    mounts = tuple(MountPoint(kind="bind", source="/x", target=target) for target in targets)
    order = networks_of(CONFIG._replace(network="mine", mounts=mounts), "/n")
    assert order is not None
    assert order.files == files
