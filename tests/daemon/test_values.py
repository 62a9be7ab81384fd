"""Parts of the server that are functions of values: flags, units, mounts of requests, lines of progress."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from pybuild.daemon.rest.fields import read_object
from pybuild.daemon.rest.mounts import mount_of
from pybuild.daemon.rest.progresslines import ProgressLines
from pybuild.daemon.rest.refusal import ApiRefusal
from pybuild.daemon.rest.registryqueries import search_filters
from pybuild.daemon.rest.transfers import reference_of, tag_of
from pybuild.daemon.units import units, write_units
from pybuild.daemon.workerflags import without_workers
from pybuild.model.errors import UsageError
from pybuild.volumes.mountpoint import MountPoint


@pytest.mark.parametrize(
    ("words", "rest", "labels", "binary"),
    [
        ("--debug --root /x", "--debug --root /x", {}, ""),
        ("--oci-worker=true --debug", "--debug", {}, ""),
        ("--oci-worker --debug", "--debug", {}, ""),
        ("--containerd-worker=false --oci-worker-gc --root r", "--root r", {}, ""),
        ("--oci-worker-snapshotter native --debug", "--debug", {}, ""),
        ("--oci-worker-snapshotter=native --debug", "--debug", {}, ""),
        ("--oci-cni-config-path /c --oci-cni-pool-size=3 a", "a", {}, ""),
        ("--oci-worker-labels a=b=c --oci-worker-labels=d --x", "--x", {"a": "b=c", "d": ""}, ""),
        ("--oci-worker-binary crun", "", {}, "crun"),
        ("--oci-worker-binary=/bin/runc x", "x", {}, "/bin/runc"),
        ("--oci-worker-binary=a --oci-worker-binary b", "", {}, "b"),
        ("--oci-worker-binary", "", {}, ""),
        ("x --oci-worker-net", "x", {}, ""),
    ],
)
def test_flags_of_workers_are_taken_out(
    words: str, rest: str, labels: dict[str, str], binary: str
) -> None:
    assert without_workers(words.split()) == (rest.split(), labels, binary)


# --- units of systemd -------------------------------------------------------------------------------


def entries(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if "=" in line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_units_of_the_machine_and_of_a_user() -> None:
    machine = units("/opt/pybuild", is_user=False)
    assert list(machine) == ["pybuild.socket", "pybuild-docker.socket", "pybuild.service"]
    docker = entries(machine["pybuild-docker.socket"])
    assert docker["ListenStream"] == "/run/docker.sock"
    assert (docker["SocketMode"], docker["FileDescriptorName"]) == ("0660", "docker")
    assert "# SocketGroup=docker lets" in machine["pybuild-docker.socket"]
    builds = entries(machine["pybuild.socket"])
    assert builds["ListenStream"] == "%t/pybuild/pybuild.sock"
    assert (builds["SocketMode"], builds["FileDescriptorName"]) == ("0600", "builds")
    assert "SocketGroup" not in machine["pybuild.socket"]
    service = entries(machine["pybuild.service"])
    assert service["ExecStart"] == "/opt/pybuild daemon --addr fd:// --docker-address fd://"
    assert service["WantedBy"] == "multi-user.target"
    assert service["After"] == "network-online.target local-fs.target"
    own = units("/opt/pybuild", is_user=True)
    docker = entries(own["pybuild-docker.socket"])
    assert (docker["ListenStream"], docker["SocketMode"]) == ("%t/docker.sock", "0600")
    service = entries(own["pybuild.service"])
    assert service["WantedBy"] == "default.target"
    assert not {"After", "Wants"} & set(service)
    placed = units("/opt/pybuild", is_user=True, docker_socket="/x")
    assert entries(placed["pybuild-docker.socket"])["ListenStream"] == "/x"


def test_units_are_written_or_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "pybuild"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr("sys.argv", ["pybuild"])
    monkeypatch.setenv("PATH", str(tmp_path))
    made = units(str(program), is_user=True, docker_socket="/d")
    shown = write_units("", is_user=True, docker_socket="/d")
    assert shown == "".join(f"# {name}\n{text}\n" for name, text in made.items())
    folder = tmp_path / "units"
    folder.mkdir()
    assert write_units(str(folder), is_user=True, docker_socket="/d") == ""
    assert {path.name: path.read_text() for path in folder.iterdir()} == made
    with pytest.raises(UsageError) as caught:
        write_units(str(tmp_path / "none"), is_user=False)
    assert caught.value.message == f"{tmp_path}/none: no such file or directory"


# --- mounts of a request [CTR-103] ------------------------------------------------------------------


def mount(**members: Any) -> MountPoint:
    return mount_of(read_object(json.dumps(members).encode()))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"Type": "npipe"}, 'invalid mount config: mount type "npipe" is not done by pybuild'),
        (
            {"Type": "x" * 60},
            f'invalid mount config: mount type "{"x" * 50}" is not done by pybuild',
        ),
        (
            {"Type": "volume", "BindOptions": {"Propagation": "x"}},
            'invalid mount config for type "volume": field BindOptions must not be specified',
        ),
        (
            {"Type": "bind", "TmpfsOptions": {"Mode": 1}},
            'invalid mount config for type "bind": field TmpfsOptions must not be specified',
        ),
        (
            {"Type": "tmpfs", "Source": "x"},
            'invalid mount config for type "tmpfs": field Target must not be empty',
        ),
    ],
)
def test_mounts_that_there_are_not(members: dict[str, Any], message: str) -> None:
    with pytest.raises(ApiRefusal) as caught:
        mount(**members)
    assert (caught.value.status, caught.value.message) == (400, message)


def test_mounts_of_each_kind() -> None:
    bind = mount(
        Type="bind",
        Source="/",
        Target="/t",
        ReadOnly=True,
        BindOptions={"Propagation": "rprivate", "NonRecursive": False, "CreateMountpoint": True},
    )
    assert (bind.kind, bind.source, bind.target, bind.readonly) == ("bind", "/", "/t", True)
    assert bind.propagation == "rprivate"
    assert not mount(Type="bind", Source="/", Target="/t").readonly
    with pytest.raises(UsageError, match="^binds that are not recursive are not done by pybuild$"):
        mount(Type="bind", Source="/", Target="/t", BindOptions={"NonRecursive": True})
    tmpfs = mount(Type="tmpfs", Target="/t", TmpfsOptions={"SizeBytes": 4096, "Mode": 0o1750})
    assert (tmpfs.kind, tmpfs.target) == ("tmpfs", "/t")
    assert (tmpfs.size_bytes, tmpfs.permissions) == (4096, 0o1750)
    volume = mount(
        Type="volume",
        Source="vol",
        Target="/t",
        VolumeOptions={
            "Labels": {"a": "b"},
            "NoCopy": True,
            "Subpath": "in/it",
        },
    )
    assert (volume.kind, volume.source, volume.target) == ("volume", "vol", "/t")
    assert (volume.subpath, volume.nocopy, volume.labels) == ("in/it", True, {"a": "b"})
    plain = mount(Type="volume", Source="vol", Target="/t", VolumeOptions={})
    assert (plain.subpath, plain.nocopy, plain.labels) == ("", False, {})
    assert mount(Type="tmpfs", Target="/t").permissions is None


# --- searches and references ------------------------------------------------------------------------


def test_filters_of_a_search() -> None:
    assert search_filters([]) == (0, None)
    assert search_filters(["stars=3", "stars=2", "is-official=TRUE"]) == (3, True)
    assert search_filters(["is-official=0", "is-automated=true"]) == (0, False)
    assert search_filters(["stars=999999999"]) == (999_999_999, None)
    for wrong in ("stars=x", "stars=1000000000", "is-official=maybe", "name=a", "stars"):
        with pytest.raises(ApiRefusal) as caught:
            search_filters([wrong])
        name, _, value = wrong.partition("=")
        assert caught.value.message == f"invalid filter '{name}={value}'"
        assert caught.value.status == 400


def test_references_of_a_name_and_a_tag() -> None:
    digest = "sha256:" + "1" * 64
    assert reference_of("alpine", "").familiar == "alpine:latest"
    assert reference_of("alpine", "3.2").familiar == "alpine:3.2"
    assert str(reference_of("alpine", digest)) == f"docker.io/library/alpine@{digest}"
    for name, tag in (("Alpine", ""), ("alpine", "-x"), ("", "")):
        with pytest.raises(ApiRefusal, match="^invalid reference format$") as caught:
            reference_of(name, tag)
        assert caught.value.status == 400
    with pytest.raises(ApiRefusal, match="^refusing to create a tag with a digest reference$"):
        tag_of("alpine", digest)
    with pytest.raises(ApiRefusal, match="^refusing to create an ambiguous tag using digest"):
        tag_of("sha256", "1")
    assert tag_of("sha256/x", "1").familiar == "sha256/x:1"


# --- lines of progress [ENG-22, ENG-38] -------------------------------------------------------------


def said(lines: ProgressLines) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.rest().splitlines()]


def test_a_transfer_is_told_at_its_ends_and_for_each_mebibyte() -> None:
    lines = ProgressLines()
    id, short = "sha256:" + "abcdef" * 10, "abcdefabcdef"
    total = 3 << 20
    for current in (0, 5, (1 << 20) - 1, 1 << 20, (2 << 20) - 1, total, total):
        lines.transfer(id, current, total)
    loading = [
        {
            "status": "Downloading",
            "progressDetail": {"current": current, "total": total},
            "id": short,
        }
        for current in (0, 1 << 20)
    ]
    assert said(lines) == [
        {"status": "Pulling fs layer", "progressDetail": {}, "id": short},
        *loading,
        {"status": "Download complete", "progressDetail": {}, "id": short},
        {"status": "Pull complete", "progressDetail": {}, "id": short},
    ]


def test_a_transfer_of_unknown_size_is_never_complete() -> None:
    lines = ProgressLines()
    lines.transfer("b", 7, 0)
    assert [line["status"] for line in said(lines)] == ["Pulling fs layer", "Downloading"]
    lines.transfer("c", 4, 4)
    assert [line["status"] for line in said(lines)] == [
        "Pulling fs layer",
        "Download complete",
        "Pull complete",
    ]


def test_a_log_that_nobody_reads_is_left_out_once() -> None:
    lines = ProgressLines()
    much = "x" * (8 << 20)
    lines.log(much)  # with its frame that is more than may wait
    lines.log("lost")
    lines.log("lost, too")
    assert [line["stream"] for line in said(lines)] == [
        much,
        "[output left out: it is not read as fast as it comes]\n",
    ]
    lines.log("heard")
    assert said(lines) == [{"stream": "heard"}]


def test_room_is_there_when_most_was_read() -> None:
    async def body() -> None:
        lines = ProgressLines()
        await lines.room()
        lines.log("x" * (1 << 20))
        lines.log("y")
        waiting = asyncio.ensure_future(lines.room())
        await asyncio.sleep(0)
        assert not waiting.done()
        assert json.loads(await lines.next())["stream"][0] == "x"
        await waiting
        assert json.loads(await lines.next()) == {"stream": "y"}
        lines.log("x" * (2 << 20))
        waiting = asyncio.ensure_future(lines.room())
        await asyncio.sleep(0)
        assert len(lines.rest()) > 2 << 20
        await waiting
        assert lines.rest() == b""

    asyncio.run(body())
