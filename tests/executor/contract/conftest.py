"""Each test of this folder runs on every rung that the machine offers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.executor.contract.rungs import RUNGS, Agent, Rung, RungBox, agent_on

_PROC = "there is no /proc"
_COPY = "what is bound is copied, and writes are lost"
_BIND = "a directory of the host cannot be bound for writing"
# What the chroot rung does not give; docs/rootless.md tells users.
NOT_IN_A_CONTAINER = {
    "test_namespaces_are_its_own": "no namespaces",
    "test_host_mounts_are_not_visible": "no mounts",
    "test_no_descriptor_leaks_in": _PROC,
    "test_kernel_paths_are_masked_and_read_only": _PROC,
    "test_insecure_unmasks": "refused",
    "test_network_none_has_loopback_only": "refused",
    "test_resolv_conf_and_hosts_are_given_and_read_only": _COPY,
    "test_devices_are_the_engines": "no /dev/mqueue and no terminals",
    "test_shm_size_is_as_asked": "not enforced",
    "test_device_nodes_can_be_made_and_not_opened": "the container's device rules hold",
    "test_bind_of_a_directory_and_of_a_file": _BIND,
    "test_bind_of_deltas_with_a_selector": _COPY,
    "test_missing_sources_are_named": _BIND,
    "test_selectors_cannot_leave_their_source": _BIND,
    "test_tmpfs_takes_size_and_is_lost": "not enforced, see test_chroot",
    "test_secret_is_a_read_only_file_in_memory": "it is a file, see test_chroot",
    "test_mount_inside_a_mount": _BIND,
    "test_mount_inside_a_read_only_mount_needs_its_mount_point": _BIND,
    "test_mount_through_a_link_planted_in_a_cache_stays_inside": _BIND,
    "test_output_comes_on_two_streams_and_stdin_is_empty": "no /dev/stdin: there is no /proc",
    "test_capabilities_are_the_default_set": _PROC,
    "test_other_users_have_no_capabilities_and_can_gain_them": _PROC,
    "test_set_user_id_programs_work": _PROC,
    "test_system_calls_are_filtered_as_engines_do": "the container's filter holds",
    "test_scratch_gets_its_mount_points_and_shows_no_trace": "busybox finds itself in /proc",
    "test_too_many_layers_are_refused_by_number": "copies have no limit",
}


class Agents:
    """Those that were started, for all tests of one session."""

    def __init__(self) -> None:
        self.stack = ExitStack()
        self._known: dict[str, Agent | BaseException] = {}

    def on(self, rung: Rung) -> Agent:
        if rung.name not in self._known:
            try:
                self._known[rung.name] = self.stack.enter_context(agent_on(rung))
            except pytest.skip.Exception as reason:
                self._known[rung.name] = reason
        known = self._known[rung.name]
        if isinstance(known, BaseException):
            raise known
        return known


@pytest.fixture(scope="session")
def agents() -> Iterator[Agents]:
    agents = Agents()
    with agents.stack:
        yield agents


@pytest.fixture(params=RUNGS, ids=lambda rung: rung.name)
def box(request: pytest.FixtureRequest, agents: Agents) -> Iterator[RungBox]:
    name = request.function.__name__
    if request.param.is_jailed and name in NOT_IN_A_CONTAINER:
        pytest.skip(NOT_IN_A_CONTAINER[name])
    agent = agents.on(request.param)
    directory = agent.place / "cases" / request.node.name.replace("/", "-")[:80]
    directory.mkdir(parents=True)
    box = RungBox(agent, directory)
    yield box
    shutil.rmtree(directory)


@pytest.fixture
def tmp_path(box: RungBox) -> Path:
    """A directory that the rung's user can read, which pytest's is not."""
    return box.directory
