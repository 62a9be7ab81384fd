"""How much of the machine a container takes, from files of cgroups and of processes [CTR-80]."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pybuild.cache.store import Store
from pybuild.containers import consumption as module
from pybuild.containers.config import ContainerConfig
from pybuild.containers.consumption import (
    Consumption,
    consumption,
    consumption_row,
    measured,
    online,
    stats_document,
)
from pybuild.containers.container import Container
from pybuild.containers.containers import Containers
from pybuild.containers.state import ContainerState
from tests.clocks import FakeClock

CONFIG = ContainerConfig(id="ab" * 32, name="web", image="app", manifest="", deltas=())
DEVICES = {
    "eth0": {
        "rx_bytes": 1000, "rx_packets": 2, "rx_errors": 3, "rx_dropped": 4,
        "tx_bytes": 500, "tx_packets": 6, "tx_errors": 7, "tx_dropped": 8,
    },
    "eth1": {"rx_bytes": 24, "tx_bytes": 12},
}  # fmt: skip
LOOK = Consumption(
    at=1_000_000_001,
    cpu=300,
    user=100,
    kernel=200,
    machine=1000,
    memory=3 << 20,
    memory_stat={"inactive_file": 1 << 20},
    memory_limit=12 << 20,
    pids=7,
    pids_limit=9,
    read=1500,
    written=42,
    devices=DEVICES,
)


@pytest.mark.parametrize(
    ("stat", "used"),
    [
        ({}, 100),
        ({"inactive_file": 30}, 70),
        ({"inactive_file": 30, "total_inactive_file": 40}, 60),
        ({"inactive_file": 99}, 1),
        ({"inactive_file": 100}, 100),  # it cannot be: as docker has it
        ({"inactive_file": 130}, 100),
    ],
)
def test_memory_counts_without_the_cache_that_can_be_taken_back(
    stat: dict[str, int], used: int
) -> None:
    assert Consumption(memory=100, memory_stat=stat).used_memory == used


@pytest.mark.parametrize(
    ("cpu", "machine", "share"),
    [(50, 100, 0.5), (100, 100, 1.0), (0, 100, 0.0), (-1, 100, 0.0), (50, 0, 0.0), (50, -1, 0.0)],
)
def test_processors_are_counted_since_the_look_before(cpu: int, machine: int, share: float) -> None:
    before = Consumption(cpu=7, machine=9)
    now = Consumption(cpu=7 + cpu, machine=9 + machine)
    assert now.cpu_percent(before) == share * online() * 100


def test_a_row_has_dockers_words() -> None:
    before = Consumption(cpu=200, machine=600)
    assert consumption_row(Container("/x", CONFIG), LOOK, before, whole=False) == {
        "BlockIO": "1.5kB / 42B",
        "CPUPerc": f"{25.0 * online():.2f}%",
        "Container": "abababababab",
        "ID": "abababababab",
        "MemPerc": "16.67%",
        "MemUsage": "2MiB / 12MiB",
        "Name": "web",
        "NetIO": "1.02kB / 512B",
        "PIDs": "7",
    }
    none = consumption_row(Container("/x", CONFIG), Consumption(), None, whole=True)
    assert none["ID"] == none["Container"] == CONFIG.id
    assert (none["CPUPerc"], none["MemPerc"], none["MemUsage"]) == ("0.00%", "0.00%", "0B / 0B")


def test_clients_of_docker_get_its_document() -> None:
    before = Consumption(at=500_000_000, cpu=1, user=2, kernel=3, machine=4)
    throttling = {"periods": 0, "throttled_periods": 0, "throttled_time": 0}
    assert stats_document(CONFIG, LOOK, before) == {
        "id": CONFIG.id,
        "name": "/web",
        "os_type": "linux",
        "read": "1970-01-01T00:00:01.000000001Z",
        "preread": "1970-01-01T00:00:00.500000000Z",
        "pids_stats": {"current": 7, "limit": 9},
        "num_procs": 0,
        "storage_stats": {},
        "blkio_stats": {
            "io_service_bytes_recursive": [
                {"major": 0, "minor": 0, "op": "read", "value": 1500},
                {"major": 0, "minor": 0, "op": "write", "value": 42},
            ]
        },
        "cpu_stats": {
            "cpu_usage": {
                "total_usage": 300, "usage_in_kernelmode": 200, "usage_in_usermode": 100,
            },
            "throttling_data": throttling,
            "system_cpu_usage": 1000,
            "online_cpus": online(),
        },
        "precpu_stats": {
            "cpu_usage": {"total_usage": 1, "usage_in_kernelmode": 3, "usage_in_usermode": 2},
            "throttling_data": throttling,
            "system_cpu_usage": 4,
            "online_cpus": online(),
        },
        "memory_stats": {
            "usage": 3 << 20, "stats": {"inactive_file": 1 << 20}, "limit": 12 << 20,
        },
        "networks": DEVICES,
    }  # fmt: skip


def test_one_that_does_not_run_has_a_document_of_nothing() -> None:
    document = stats_document(CONFIG, Consumption(), Consumption())
    never = "0001-01-01T00:00:00Z"
    assert (document["read"], document["preread"]) == (never, never)
    assert document["pids_stats"] == document["memory_stats"] == {}
    assert document["blkio_stats"] == {"io_service_bytes_recursive": None}
    assert "networks" not in document
    assert "online_cpus" not in document["cpu_stats"]


def state(*leaf: Path, pid: int | None = None) -> ContainerState:
    places = tuple((2, str(path)) for path in leaf)
    return ContainerState("running", os.getpid() if pid is None else pid, leaf=places)


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".", 1)).write_text(text)
    return folder


def test_one_without_a_process_takes_nothing() -> None:
    assert consumption(ContainerState("exited"), CONFIG) == Consumption()


def test_cgroups_of_the_second_version_are_read(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "v2",
        cgroup__procs=f"{os.getpid()}\n",
        cpu__stat="usage_usec 12\nuser_usec 5\nodd\nword x\n",
        cpu__max="max 100000\n",
        memory__current="4096\n",
        memory__stat="anon 1\ninactive_file 96\n",
        memory__max="8192\n",
        pids__current="5\n",
        pids__max="6\n",
    )
    look = consumption(state(folder), CONFIG)
    assert look.at > 0
    assert look.cpu == 12_000
    assert (look.memory, look.memory_limit, look.counts) == (4096, 8192, True)
    assert look.memory_stat == {"anon": 1, "inactive_file": 96}
    assert (look.pids, look.pids_limit) == (5, 6)
    assert look.devices == {}  # of the host's network
    assert look.machine > look.user > 0


def test_cgroups_of_the_first_version_are_read_side_by_side(tmp_path: Path) -> None:
    write(tmp_path / "pids", cgroup__procs="", pids__max="max\n")
    write(tmp_path / "cpu", cpuacct__usage="77\n", cpu__stat="usage_usec 12\n")
    write(tmp_path / "memory", memory__usage_in_bytes="10\n", memory__limit_in_bytes=f"{1 << 63}\n")
    look = consumption(state(*(tmp_path / name for name in ("pids", "cpu", "memory"))), CONFIG)
    assert (look.cpu, look.user, look.kernel) == (77, 0, 0)
    assert (look.memory, look.counts) == (10, True)
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert look.memory_limit == whole
    assert (look.pids, look.pids_limit) == (0, 0)


@pytest.mark.parametrize(("limit", "is_whole"), [(4096, False), (1 << 62, True), (1 << 61, True)])
def test_no_limit_is_larger_than_the_machine(tmp_path: Path, limit: int, is_whole: bool) -> None:
    folder = write(tmp_path / "a", cgroup__procs="", memory__max=f"{limit}\n")
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    look = consumption(state(folder), CONFIG)
    assert look.memory_limit == (whole if is_whole else limit)
    assert (look.memory, look.counts) == (0, False)


def test_without_cgroups_its_processes_are_added_up() -> None:
    """Of a namespace of processes: here it is the test's own."""
    config = CONFIG._replace(network="none")
    look = consumption(state(), config)
    times = os.times()
    assert look.pids >= 1
    assert not look.counts
    assert look.memory > 1 << 20
    assert look.cpu == look.user + look.kernel
    assert look.user >= times.user * 900_000_000  # others of the namespace are in it
    assert look.written >= 0
    assert "lo" not in look.devices


def test_processes_that_ended_meanwhile_count_for_nothing(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", cgroup__procs="4194305\n4194306\n")  # no number is so high
    look = consumption(state(folder, pid=4194305), CONFIG._replace(network="none"))
    assert look.pids == 2
    assert (look.cpu, look.memory, look.read, look.written) == (0, 0, 0, 0)
    assert look.devices == {}


def test_measured_are_those_that_run_or_were_named(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store", FakeClock()) as store:
        containers = Containers(store)
        containers.create(CONFIG)
        assert measured(containers, [], all=False) == []
        for looks in (measured(containers, [], all=True), measured(containers, ["web"], all=False)):
            [(one, look)] = looks
            assert one.config == CONFIG
            assert look == Consumption()


def test_received_and_sent_are_of_all_devices() -> None:
    assert (LOOK.received(), LOOK.sent()) == (1024, 512)
    assert (Consumption().received(), Consumption().sent()) == (0, 0)
    known: Any = module.online()
    assert known == os.cpu_count()
