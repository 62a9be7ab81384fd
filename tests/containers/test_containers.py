"""The records of containers: changed by several at once, damaged, removed [MON-1, CTR-39]."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from pybuild.cache.store import Store
from pybuild.containers.config import ContainerConfig
from pybuild.containers.container import Container
from pybuild.containers.containers import Containers
from pybuild.containers.names import new_id
from pybuild.containers.pruning import prune_containers
from pybuild.containers.state import ContainerState, read_state, write_state
from pybuild.containers.volumepruning import prune_volumes, volume_choice
from pybuild.model.errors import EnvironmentFault, UserError
from pybuild.volumes.mountpoint import MountKind, MountPoint
from pybuild.volumes.volumes import Volumes
from tests.clocks import FakeClock


@pytest.fixture
def containers(tmp_path: Path) -> Generator[Containers]:
    with Store.open(str(tmp_path), FakeClock()) as store:
        yield Containers(store)


def make(containers: Containers, name: str) -> Container:
    return containers.create(
        ContainerConfig(id=new_id(), name=name, image="base", manifest="", deltas=())
    )


def test_a_state_is_written_by_two_at_once(
    containers: Containers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command, and a monitor: each is whole, and the last one stays."""
    sync = os.fsync
    with make(containers, "one").home() as home:

        def meanwhile(fd: int) -> None:
            monkeypatch.setattr(os, "fsync", sync)
            write_state(home, ContainerState(exit_code=1))

        monkeypatch.setattr(os, "fsync", meanwhile)
        write_state(home, ContainerState(exit_code=2))
        assert read_state(home).exit_code == 2
        assert sorted(os.listdir(home)) == ["config.json", "fs", "state.json"]


def test_one_with_a_damaged_state_can_be_removed_by_force(containers: Containers) -> None:
    """As the hint of the error says."""
    container = make(containers, "one")
    Path(container.path, "state.json").write_text("{")
    with pytest.raises(EnvironmentFault, match="cannot be read"):
        containers.remove(container)
    containers.remove(container, force=True)
    assert containers.list() == []
    assert containers.names() == frozenset()


def test_whoever_comes_second_changes_what_the_first_has_left(containers: Containers) -> None:
    """Both had found it before; while one changes it, the other waits, and begins from what is there then."""
    container = make(containers, "one")
    with container.home() as home:
        fcntl.flock(home, fcntl.LOCK_EX)
        second = threading.Thread(target=containers.rename, args=(container, "three"))
        second.start()
        renamed = ContainerConfig.of_json(
            Path(container.path, "config.json")
            .read_bytes()
            .replace(b'"image": "base"', b'"image": "b"')
        )
        containers.write(container, renamed)
    second.join()
    (now,) = containers.list()
    assert (now.config.name, now.config.image) == ("three", "b")
    assert containers.names() == {"three"}
    containers.remove(now)
    with pytest.raises(UserError, match="no such container"):
        containers.remove(container, force=True)


@pytest.mark.parametrize("call", ["os.mkdir", "os.rename"])
def test_a_create_that_was_killed_keeps_neither_name_nor_layers(
    containers: Containers, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    leases = Path(containers.root, "leases")
    make(containers, "other")
    before = sorted(leases.iterdir())

    def be_killed(*_: object, **__: object) -> None:
        os._exit(9)

    pid = os.fork()
    if not pid:
        try:
            monkeypatch.setattr(call, be_killed)
            make(containers, "one")
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    assert containers.names() == {"one", "other"} and sorted(leases.iterdir()) != before
    containers.reservations.give_up_unfinished()
    assert containers.names() == {"other"} and sorted(leases.iterdir()) == before


def test_a_name_that_a_killed_rename_left_is_free(containers: Containers) -> None:
    container = make(containers, "one")
    containers.rename(container, "two")
    Path(containers.root, "containers/names/one").write_text(container.config.id)
    assert make(containers, "one").config.id == containers.find("one").config.id
    Path(containers.root, "containers/names/three").write_text(container.config.id)
    containers.reservations.give_up_unfinished()
    assert containers.names() == {"one", "two"}


def test_a_create_that_goes_on_keeps_its_name(containers: Containers) -> None:
    make(containers, "one")
    path = Path(containers.root, "containers/names/two")
    path.write_text("0" * 64)
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        containers.reservations.give_up_unfinished()
    assert containers.names() == {"one", "two"}


def test_one_that_a_restart_of_the_machine_has_ended_is_over_since_that_was_found_out(
    containers: Containers,
) -> None:
    """Also beside a state that was half written then [MON-7]."""
    container = make(containers, "lived")
    with container.home() as home:
        write_state(home, ContainerState("running", pid=1, boot="another", started=10**18, born=1))
    Path(container.path, "state.json.0123abcd").write_text('{"st')
    before = time.time_ns()
    state = container.state()
    assert (state.status, state.pid, state.exit_code) == ("exited", 0, 255)
    assert before <= state.finished <= time.time_ns()
    assert container.state() == state


def test_a_list_reads_only_configs_that_were_changed(
    containers: Containers, monkeypatch: pytest.MonkeyPatch
) -> None:  # issue 17, Show 6: a list of 200 in 20 ms
    monkeypatch.setattr("pybuild.containers.containers.SETTLED_NS", 0)
    one, two = make(containers, "one"), make(containers, "two")
    first = {each.config.id: each.config for each in containers.list()}
    with Store.open(containers.root, FakeClock()) as store:
        other = Containers(store)  # as another process has them
        other.rename(one, "uno")
        again = {each.config.id: each.config for each in containers.list()}
        assert again[two.config.id] is first[two.config.id]
        assert again[one.config.id].name == "uno" == containers.find("uno").config.name
        other.remove(two)
    assert [each.config.name for each in containers.list()] == ["uno"]


def test_a_config_that_was_written_just_now_is_read_again(containers: Containers) -> None:
    """It could be replaced within the same tick of the disk's clock."""
    make(containers, "one")
    first, again = containers.list(), containers.list()
    assert first == again and first[0].config is not again[0].config


def test_a_name_whose_file_was_replaced_meanwhile_is_taken_anew(containers: Containers) -> None:
    make(containers, "other")
    path = Path(containers.root, "containers/names/one")
    with path.open("w") as before:
        fcntl.flock(before, fcntl.LOCK_EX)
        second = threading.Thread(target=make, args=(containers, "one"))
        second.start()
        while not _waits_for(path):
            time.sleep(0.001)
        path.unlink()
    second.join()
    assert containers.find("one").config.id == path.read_text()


def _waits_for(path: Path) -> bool:
    """Return whether somebody waits for the lock of a file."""
    inode = f":{path.stat().st_ino} "
    lines = Path("/proc/locks").read_text().splitlines()
    return any("->" in line and inode in line for line in lines)


def test_volumes_that_containers_have_stay_and_others_go(containers: Containers) -> None:
    with Store.open(containers.root, FakeClock()) as store:
        _prune(store, containers)


def _prune(store: Store, containers: Containers) -> None:
    volumes = Volumes(store)
    for name in ("aa", "bb", "cc"):
        volumes.create(name)
    config = ContainerConfig(
        id=new_id(), name="one", image="base", manifest="", deltas=(),
        mounts=(MountPoint(MountKind.VOLUME, "/v", source="aa"),),
    )  # fmt: skip
    containers.create(config)
    dangling = volume_choice(["dangling=true"], containers)
    assert [one.name for one in volumes.list() if dangling(one)] == ["bb", "cc"]
    used = volume_choice(["dangling=false"], containers)
    assert [one.name for one in volumes.list() if used(one)] == ["aa"]
    assert prune_volumes(store, all=False, filters=()) == ([], 0)
    assert prune_volumes(store, all=True, filters=())[0] == ["bb", "cc"]
    assert [one.name for one in volumes.list()] == ["aa"]


def test_a_name_that_it_has_is_no_new_one(containers: Containers) -> None:
    one = make(containers, "one")
    for name in ("one", "/one"):
        with pytest.raises(UserError, match="^Renaming a container with the same name as its"):
            containers.rename(one, name)
    assert containers.names() == {"one"}


def test_a_prune_gives_back_what_killed_commands_held(containers: Containers) -> None:
    one = make(containers, "one")
    Path(containers.root, "containers/names/two").write_text("0" * 64)
    with Store.open(containers.root, FakeClock()) as store:
        assert prune_containers(store, ["label=none"]) == ([], 0)
        assert containers.names() == {"one"}
        assert prune_containers(store, [])[0] == [one.config.id]
