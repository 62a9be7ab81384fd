"""Namespaces that a container has together with others, read and made into an order [CTR-15]."""

from __future__ import annotations

import os

import pytest

from pybuild.containers.namespaces import (
    check_namespaces,
    hostname_for,
    step_sharing,
)
from pybuild.containers.order import ContainerNamespaces
from pybuild.executor.steps.spec import StepSharing
from pybuild.executor.zygote import syscalls
from pybuild.model.errors import UsageError


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (ContainerNamespaces(ipc="mine"), "invalid IPC mode: mine"),
        (ContainerNamespaces(ipc="container:"), "invalid IPC mode: container:"),
        (ContainerNamespaces(pid="shareable"), "invalid PID mode: shareable"),
        (ContainerNamespaces(uts="container:x"), "invalid UTS mode: container:x"),
        (ContainerNamespaces(cgroup="none"), "invalid cgroup namespace mode: none"),
        (ContainerNamespaces(user="mine"), "invalid user namespace mode: mine"),
    ],
)
def test_modes_that_there_are_not(given: ContainerNamespaces, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_namespaces(given)
    assert caught.value.message == message


def test_what_is_shared_is_not_made() -> None:
    assert step_sharing(ContainerNamespaces(ipc="shareable", cgroup="private")) == StepSharing()
    assert step_sharing(ContainerNamespaces(ipc="none")) == StepSharing(ipc="none")
    joined = check_namespaces(ContainerNamespaces(ipc="container:a", pid="container:b"))
    assert step_sharing(joined) == StepSharing(
        syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWPID, ipc="joined"
    )
    hosts = check_namespaces(ContainerNamespaces("host", "host", "host", "host", "host"))
    flags = syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWPID | syscalls.CLONE_NEWUTS
    assert step_sharing(hosts) == StepSharing(flags | syscalls.CLONE_NEWCGROUP, ipc="host")


def test_the_machines_host_name_is_not_ours_to_give() -> None:
    hosts = ContainerNamespaces(uts="host")
    assert hostname_for(hosts, "", "abc") == os.uname().nodename
    assert hostname_for(ContainerNamespaces(), "", "abc") == "abc"
    with pytest.raises(UsageError, match="conflicting options: hostname and the UTS mode"):
        hostname_for(hosts, "mine", "abc")
