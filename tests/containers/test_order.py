"""Orders to a container's monitor: kept, read again, and what of them is worked out [CTR-3, CTR-37, MON-2]."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest

from pybuild.containers.lines import LocalLine
from pybuild.containers.order import (
    ORDER,
    ContainerNamespaces,
    ContainerOrder,
    HealthCheck,
    LogConfig,
    RestartPolicy,
    joined_name,
    of_other_version,
    read_order,
    reconnected,
    write_order,
)
from pybuild.executor.steps.spec import StepLimits, StepSpec
from pybuild.executor.zygote.faults import ENVIRONMENT
from pybuild.networks.order import EndpointOrder, NetworkOrder

NETWORKS = NetworkOrder("/n", "id", "web", "web", (EndpointOrder("bridge"),))
ORDER_1 = ContainerOrder(
    "0" * 64,
    StepSpec(("a",), "/up", "/work", ("true",), limits=StepLimits(pids=3)),
    networks=NETWORKS,
    restart=RestartPolicy("on-failure", 3),
    log=LogConfig("local", {"max-size": "1m"}),
    health=HealthCheck(("CMD", "true")),
)
SECOND = 1_000_000_000


@pytest.fixture
def home(tmp_path: Path) -> Generator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    yield fd
    os.close(fd)


def test_an_order_is_read_as_it_was_written(home: int) -> None:
    write_order(home, ORDER_1)
    assert read_order(home) == ORDER_1


@pytest.mark.parametrize("data", [b"", b"[", b"?"])
def test_one_of_another_version_is_refused(home: int, tmp_path: Path, data: bytes) -> None:
    (tmp_path / ORDER).write_bytes(data)
    with pytest.raises(ValueError):
        read_order(home)


def test_no_link_is_followed_to_an_order(home: int, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"")
    (tmp_path / ORDER).symlink_to("other")
    with pytest.raises(OSError):
        read_order(home)


def test_it_starts_again_on_the_networks_of_now(home: int, tmp_path: Path) -> None:
    assert reconnected(ORDER_1, home) == ORDER_1
    (tmp_path / ORDER).write_bytes(b"?")
    assert reconnected(ORDER_1, home) == ORDER_1
    now = NETWORKS._replace(endpoints=(EndpointOrder("other"),))
    write_order(home, ORDER_1._replace(networks=now, stop_signal=9))
    assert reconnected(ORDER_1, home) == ORDER_1._replace(networks=now)


@pytest.mark.parametrize(
    ("given", "shell", "resolved"),
    [
        (HealthCheck(("NONE",)), (), None),
        (
            HealthCheck(("CMD", "a", "b")),
            ("sh",),
            HealthCheck(("CMD", "a", "b"), 30 * SECOND, 30 * SECOND, 0, 5 * SECOND, 3),
        ),
        (
            HealthCheck(("CMD-SHELL", "a b"), 1, 2, 3, 4, 5),
            (),
            HealthCheck(("CMD", "/bin/sh", "-c", "a b"), 1, 2, 3, 4, 5),
        ),
        (
            HealthCheck(("CMD-SHELL", "a b"), 1, 2, 3, 4, 5),
            ("bash", "-lc"),
            HealthCheck(("CMD", "bash", "-lc", "a b"), 1, 2, 3, 4, 5),
        ),
    ],
)
def test_a_health_check_gets_dockers_numbers_and_a_shell(
    given: HealthCheck, shell: tuple[str, ...], resolved: HealthCheck | None
) -> None:
    assert given.resolved(shell) == resolved


@pytest.mark.parametrize(
    ("mode", "name"), [("container:web", "web"), ("host", ""), ("", ""), ("container", "")]
)
def test_the_name_of_a_container_that_is_joined(mode: str, name: str) -> None:
    assert joined_name(mode) == name


@pytest.mark.parametrize(
    ("ipc", "own"),
    [
        ("", True), ("private", True), ("shareable", True), ("none", True),
        ("host", False), ("container:a", False),
    ],
)  # fmt: skip
def test_shared_memory_is_its_own_unless_it_is_somebodys(ipc: str, own: bool) -> None:
    assert ContainerNamespaces(ipc=ipc).has_own_ipc is own


def test_a_message_brings_its_descriptors() -> None:
    ours, theirs = LocalLine.pair()
    with ours, theirs:
        read_end, write_end = os.pipe()
        ours.say(b"one", [write_end, read_end])
        data, rights, _, _ = theirs.recvmsg(100, 100)
        [(_, _, numbers)] = rights
        assert (data, len(numbers)) == (b"one", 8)
        copies = [int.from_bytes(numbers[at : at + 4], "little") for at in (0, 4)]
        os.write(copies[0], b"x")
        assert os.read(read_end, 9) == b"x"
        for fd in (*copies, read_end, write_end):
            os.close(fd)
        ours.say(b"two")
        assert theirs.recvmsg(100, 100)[:2] == (b"two", [])
    assert ours.fileno() == theirs.fileno() == -1


def test_nobody_listens_where_nothing_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        LocalLine.to(str(tmp_path / "missing"))


def test_values_of_another_version_are_a_fault_with_a_way_out() -> None:
    fault = of_other_version()
    assert fault.kind == ENVIRONMENT
    assert str(fault) == "containers of this store run under another version of pybuild"
    assert fault.hints == ("stop those that run, or use the version that started them",)
