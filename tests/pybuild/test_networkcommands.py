"""``pybuild network`` in docker's words, on a store without anything of the kernel's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pybuild.cache.store import Store
from pybuild.cli import main
from pybuild.containers.config import ContainerConfig
from pybuild.containers.containers import Containers
from pybuild.engine.host import SystemClock
from pybuild.networks.order import EndpointOrder
from pybuild.networks.records import Network, NetworkFiles

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str, status: int = 0) -> str:
        assert main(["--root", str(tmp_path / "store"), "network", *words]) == status
        return capsys.readouterr().out

    return run


def test_what_is_removed_is_called_as_it_was_asked_for(run: Run) -> None:
    id = run("create", "front").strip()
    assert run("rm", id[:12]) == f"{id[:12]}\n"
    run("create", "front")
    assert run("rm", "front", "", status=1) == "front\n"


def test_what_is_there_is_shown_also_where_another_one_is_not(run: Run) -> None:
    run("create", "front")
    shown = json.loads(run("inspect", "gone", "front", status=1))
    assert [one["Name"] for one in shown] == ["front"]


def add_container(root: Path, digit: str, *networks: str, exposed: tuple[str, ...] = ()) -> None:
    config = ContainerConfig(
        id=digit * 64,
        name=f"web{digit}",
        image="app",
        manifest="",
        image_id="",
        deltas=(),
        networks=tuple(map(EndpointOrder, networks)),
        exposed=exposed,
    )
    with Store.open(root / "store", SystemClock()) as store:
        Containers(store).create(config)


def test_a_network_that_a_container_refers_to_is_not_pruned(run: Run, tmp_path: Path) -> None:
    """It could not be started again."""
    ids = [run("create", name).strip() for name in ("front", "back", "free")]
    add_container(tmp_path, "a", "front", ids[1][:12])
    assert run("prune", "--force") == "Deleted Networks:\nfree\n"
    assert run("ls", "--format", "{{.Name}}").split() == ["back", "bridge", "front", "host", "none"]


def test_a_list_of_containers_reads_the_networks_once(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many containers there are, and not at all where none has a port to show."""
    run("create", "front")
    add_container(tmp_path, "d", "front")
    looks: list[NetworkFiles] = []
    read = NetworkFiles.networks

    def counted(files: NetworkFiles) -> list[Network]:
        looks.append(files)
        return read(files)

    monkeypatch.setattr(NetworkFiles, "networks", counted)
    assert main(["--root", str(tmp_path / "store"), "ps", "-a", "-q"]) == 0
    assert looks == []
    for digit in "abc":
        add_container(tmp_path, digit, "front", exposed=("80/tcp",))
    assert main(["--root", str(tmp_path / "store"), "ps", "-a", "-q"]) == 0
    assert len(looks) == 1
