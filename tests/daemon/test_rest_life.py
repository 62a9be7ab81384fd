"""Docker's API over real containers, images and volumes, as one client after the other asks [ENG-10…38]."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from pybuild.client.docker.requests import EngineRefusal, Requests
from tests.containers.busyboxes import BusyboxContainers
from tests.daemon.restengines import rest_engine

pytestmark = [
    pytest.mark.root,
    pytest.mark.sandbox,
    # The spawner, which outlives the commands that started it.
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
]


@pytest.fixture
def engine(tmp_path: Path) -> Generator[tuple[Requests, BusyboxContainers]]:
    with rest_engine(tmp_path) as made:
        yield made


def bytes_of(
    engine: Requests, method: str, path: str, query: Any = None, body: Any = None
) -> bytes:
    with engine.asking(method, path, query, body) as response:
        return bytes(response.read())


def status_of(engine: Requests, method: str, path: str, body: Any = None) -> int:
    """Return the status of an answer that refuses."""
    with pytest.raises(EngineRefusal) as caught:
        engine.ask(method, path, None, body)
    return caught.value.status


def tar_of(**files: str) -> io.BytesIO:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    data.seek(0)
    return data


def test_a_container_from_its_creation_to_its_removal(
    engine: tuple[Requests, BusyboxContainers],
) -> None:
    ask, containers = engine[0].ask, engine[1]
    containers.make("", "seed")
    made = ask("POST", "/commit", {"container": "seed", "repo": "base"}, {"Labels": {"a": "b"}})
    assert ask("DELETE", "/containers/seed") is None
    body = {
        "Image": "base", "Cmd": ["sh", "-c", "read x; echo out $x; echo err >&2; exit 4"], "OpenStdin": True,
        "StdinOnce": True, "AttachStdin": True, "AttachStdout": True, "AttachStderr": True, "Hostname": "h",
        "HostConfig": {"NetworkMode": "none", "Memory": 64 << 20, "Binds": ["vol:/data"], "Ulimits": [
            {"Name": "nofile", "Soft": 64, "Hard": 128}], "RestartPolicy": {"Name": "no"}},
    }  # fmt: skip
    id = ask("POST", "/containers/create", {"name": "one"}, body)["Id"]
    assert status_of(engine[0], "POST", "/containers/create?name=one", body) == 409
    shown = ask("GET", "/containers/one/json", {"size": True})
    assert (shown["Id"], shown["State"]["Status"], shown["Config"]["Hostname"]) == (
        id,
        "created",
        "h",
    )
    assert shown["HostConfig"]["Ulimits"] == body["HostConfig"]["Ulimits"]  # type: ignore[index]
    assert (shown["Image"], shown["Mounts"][0]["Name"]) == (made["Id"], "vol")
    pipe = engine[0].hijacked(
        "/containers/one/attach", {"stream": True, "stdin": True, "stdout": True}
    )
    assert ask("POST", "/containers/one/start") is None
    pipe.sendall(b"in\n")
    pipe.end_input()
    assert b"".join(iter(pipe.receive, b"")) == b"\1\0\0\0\0\0\0\7out in\n"
    pipe.close()
    assert ask("POST", "/containers/one/wait") == {"StatusCode": 4}
    query = {"stdout": True, "stderr": True, "tail": "all"}
    said = bytes_of(engine[0], "GET", "/containers/one/logs", query)
    assert b"out in\n" in said and b"\2\0\0\0\0\0\0\4err\n" in said
    (row,) = ask(
        "GET",
        "/containers/json",
        {"all": True, "size": True, "filters": json.dumps({"name": ["one"]})},
    )
    assert (row["State"], row["Names"], row["Image"]) == ("exited", ["/one"], "base")
    assert ask("GET", "/containers/json") == []
    assert status_of(engine[0], "POST", "/containers/one/kill") == 409
    assert ask("POST", "/containers/one/rename", {"name": "two"}) is None
    assert status_of(engine[0], "POST", "/containers/two/rename?name=/") == 400
    assert ask("DELETE", "/containers/two", {"v": True}) is None
    assert status_of(engine[0], "GET", "/containers/two/json") == 404
    assert [one["Name"] for one in ask("GET", "/volumes")["Volumes"]] == ["vol"]
    assert ask("DELETE", "/volumes/vol") is None


def test_input_that_ends_ends_one_client_and_not_who_outlasts_it(
    engine: tuple[Requests, BusyboxContainers],
) -> None:
    """ENG-34: where StdinOnce was not said, as `docker run -di` makes it."""
    ask, containers = engine[0].ask, engine[1]
    containers.make("while read x; do echo got $x; done", "seed")
    made = ask("POST", "/commit", {"container": "seed", "repo": "base"})
    assert made and ask("DELETE", "/containers/seed") is None
    script = "while read x; do echo got $x; done; exit 9"
    host = {"NetworkMode": "none"}
    body = {"Image": "base", "Cmd": ["sh", "-c", script], "OpenStdin": True, "HostConfig": host}
    assert ask("POST", "/containers/create", {"name": "lasting"}, body)
    assert ask("POST", "/containers/lasting/start") is None
    for word in (b"one", b"two"):
        pipe = engine[0].hijacked(
            "/containers/lasting/attach", {"stream": True, "stdin": True, "stdout": True}
        )
        pipe.sendall(word + b"\n")
        assert pipe.receive() == b"\1\0\0\0\0\0\0\x08got " + word + b"\n"
        pipe.end_input()
        assert pipe.receive() == b""
        pipe.close()
    assert ask("GET", "/containers/lasting/json")["State"]["Status"] == "running"
    process = ask("POST", "/containers/lasting/exec", None, {"Cmd": ["true"]})["Id"]
    assert ask("DELETE", "/containers/lasting", {"force": True}) is None
    assert status_of(engine[0], "GET", f"/exec/{process}/json") == 404


def test_processes_and_files_of_one_that_runs(engine: tuple[Requests, BusyboxContainers]) -> None:
    ask, containers = engine[0].ask, engine[1]
    containers.make("trap 'exit 3' TERM; while :; do sleep 0.01; done", "one")
    assert ask("POST", "/containers/one/start") is None
    made = ask("POST", "/containers/one/exec", None, {
        "Cmd": ["sh", "-c", "echo $V; exit 5"], "Env": ["V=w"], "AttachStdout": True, "WorkingDir": "/etc"})["Id"]  # fmt: skip
    assert ask("GET", f"/exec/{made}/json")["Running"] is False
    pipe = engine[0].hijacked(f"/exec/{made}/start", None, {"Detach": False})
    assert b"".join(iter(pipe.receive, b"")) == b"\1\0\0\0\0\0\0\2w\n"
    pipe.close()
    shown = ask("GET", f"/exec/{made}/json")
    assert (shown["ExitCode"], shown["ProcessConfig"]["entrypoint"]) == (5, "sh")
    assert status_of(engine[0], "POST", "/containers/one/exec", {"Cmd": []}) == 400
    assert ask("PUT", "/containers/one/archive", {"path": "/etc"}, tar_of(f="text")) is None
    with engine[0].asking("HEAD", "/containers/one/archive", {"path": "/etc/f"}) as response:
        assert response.headers["X-Docker-Container-Path-Stat"]
    with tarfile.open(
        fileobj=io.BytesIO(
            bytes_of(engine[0], "GET", "/containers/one/archive", {"path": "/etc/f"})
        )
    ) as tar:
        assert tar.getnames() == ["f"]
    with tarfile.open(
        fileobj=io.BytesIO(bytes_of(engine[0], "GET", "/containers/one/export"))
    ) as tar:
        assert {"etc/f", "bin/sh"} <= {name.removeprefix("./") for name in tar.getnames()}
    assert {"Path": "/etc/f", "Kind": 1} in ask("GET", "/containers/one/changes")
    assert status_of(engine[0], "GET", "/containers/one/archive?path=/nothing") == 404
    top = ask("GET", "/containers/one/top", {"ps_args": "-o pid,args"})
    assert top["Titles"] == ["PID", "COMMAND"] and "trap" in top["Processes"][0][1]
    stats = ask("GET", "/containers/one/stats", {"stream": False, "one-shot": True})
    assert stats["pids_stats"]["current"] >= 1 and stats["name"] == "/one"
    assert ask("POST", "/containers/one/pause") is None
    assert ask("GET", "/containers/one/json")["State"]["Paused"] is True
    assert status_of(engine[0], "POST", "/containers/one/pause") == 409
    assert ask("POST", "/containers/one/unpause") is None
    ask("POST", "/containers/one/update", None, {"RestartPolicy": {"Name": "no"}})
    assert ask("POST", "/containers/one/restart", {"t": "60"}) is None
    assert ask("POST", "/containers/one/stop", {"t": "60"}) is None
    assert ask("POST", "/containers/one/wait") == {"StatusCode": 3}
    assert status_of(engine[0], "POST", "/containers/nobody/start") == 404


def test_images_are_committed_listed_saved_and_loaded(
    engine: tuple[Requests, BusyboxContainers],
) -> None:
    ask, containers = engine[0].ask, engine[1]
    containers.make("", "seed")
    id = ask("POST", "/commit", {"container": "seed", "repo": "a", "tag": "1", "comment": "c"}, {})[
        "Id"
    ]
    assert ask("GET", "/images/a:1/json")["Parent"] == ""
    created = ask("POST", "/containers/create", None, {"Image": "a:1", "Cmd": ["true"]})["Id"]
    query = {"container": created, "changes": 'ENV A="b"'}
    child = ask("POST", "/commit", query, {})["Id"]
    assert ask("GET", f"/images/{child}/json")["Parent"] == id  # as docker has it of commit [EP-16]
    assert {one["Id"]: one["ParentId"] for one in ask("GET", "/images/json")} == {id: "", child: id}
    ask("DELETE", f"/containers/{created}")
    ask("DELETE", f"/images/{child}")
    assert ask("POST", "/images/a:1/tag", {"repo": "b", "tag": "2"}) is None
    (one,) = ask("GET", "/images/json")
    assert (one["Id"], sorted(one["RepoTags"])) == (id, ["a:1", "b:2"])
    assert ask("GET", "/images/a:1/json")["Id"] == id
    assert ask("GET", "/images/a:1/history")[0]["Comment"] == "c"
    saved = bytes_of(engine[0], "GET", "/images/get", {"names": ["a:1"]})
    assert ask("DELETE", "/images/a:1") == [{"Untagged": "a:1"}]
    assert ask("DELETE", "/images/b:2")[0] == {"Untagged": "b:2"}
    assert status_of(engine[0], "GET", "/images/a:1/json") == 404
    said = bytes_of(engine[0], "POST", "/images/load", None, io.BytesIO(saved))
    assert b"Loaded image: a:1" in said
    assert ask("GET", "/images/a:1/json")["Id"] == id
    assert [
        one["RepoTags"]
        for one in ask("GET", "/images/json", {"filters": json.dumps({"reference": ["a"]})})
    ] == [["a:1"]]
    with pytest.raises(EngineRefusal):
        ask("GET", "/images/json", {"filters": json.dumps({"colour": ["a"]})})
    imported = bytes_of(
        engine[0], "POST", "/images/create", {"fromSrc": "-", "repo": "c"}, tar_of(x="y")
    )
    assert b"sha256:" in imported
    assert "SpaceReclaimed" in ask(
        "POST", "/images/prune", {"filters": json.dumps({"dangling": ["false"]})}
    )
    assert ask("GET", "/images/json") == []


def test_the_engine_says_what_it_is_and_has(engine: tuple[Requests, BusyboxContainers]) -> None:
    ask, containers = engine[0].ask, engine[1]
    containers.make("", "one")
    assert bytes_of(engine[0], "GET", "/_ping") == b"OK"
    assert ask("GET", "/version")["ApiVersion"] == "1.51"
    assert (ask("GET", "/info")["Containers"], ask("GET", "/info")["ContainersRunning"]) == (1, 0)
    assert [one["Names"] for one in ask("GET", "/system/df")["Containers"]] == [["/one"]]
    made = ask("POST", "/networks/create", None, {
        "Name": "net", "Labels": {"a": "b"}, "IPAM": {"Config": [{"Subnet": "10.97.0.0/24"}]}})  # fmt: skip
    shown = ask("GET", "/networks/net")
    assert (shown["Id"], shown["Labels"], shown["Containers"]) == (made["Id"], {"a": "b"}, {})
    assert "net" in [one["Name"] for one in ask("GET", "/networks")]
    assert status_of(engine[0], "POST", "/networks/create", {"Name": "net"}) == 409
    assert ask("DELETE", "/networks/net") is None
    volume = ask("POST", "/volumes/create", None, {"Name": "vol", "Labels": {"c": "d"}})
    assert (volume["Name"], volume["Driver"]) == ("vol", "local")
    assert ask("GET", "/volumes/vol")["Labels"] == {"c": "d"}
    assert ask("POST", "/volumes/prune", {"filters": json.dumps({"all": ["1"]})})[
        "VolumesDeleted"
    ] == ["vol"]
    one = containers.find("one").config.id
    assert ask("POST", "/containers/prune")["ContainersDeleted"] == [one]
    assert status_of(engine[0], "GET", "/nothing") == 404
