"""Docker's API as its clients use it: raw HTTP everywhere, the stock command line where it is there [ENG, EP]."""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import shutil
import socket
import struct
import subprocess
import tarfile
from collections.abc import Generator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.buildsites import Daemon, daemon, pybuild_with_base
from tests.e2e.test_containers import wait_until
from tests.harness import Pybuild, leftovers

pytestmark = [pytest.mark.root, pytest.mark.sandbox, pytest.mark.slow]
_UPGRADE = "Connection: Upgrade\r\nUpgrade: tcp\r\n"
_WAITS = "trap 'exit 7' TERM; while :; do sleep 0.05; done"


class Api:
    """A client of the server's socket, one connection a request."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def connect(self) -> socket.socket:
        own = socket.socket(socket.AF_UNIX)
        own.settimeout(60)
        own.connect(str(self.path))
        return own

    def __call__(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Return the status and the JSON, or the text, of an answer."""
        connection = http.client.HTTPConnection("docker")
        connection.sock = self.connect()
        with closing(connection):
            data = None if body is None else json.dumps(body)
            headers = {} if body is None else {"Content-Type": "application/json"}
            connection.request(method, f"/v1.44{path}", data, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        is_json = answer.headers.get("Content-Type", "").startswith("application/json")
        return answer.status, json.loads(text) if is_json and text else text

    def raw(
        self, method: str, path: str, data: bytes = b""
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Return the status, headers and bytes of an answer."""
        connection = http.client.HTTPConnection("docker")
        connection.sock = self.connect()
        with closing(connection):
            connection.request(method, f"/v1.44{path}", data, {"Content-Type": "application/x-tar"})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    def hijack(self, path: str, body: Any = None) -> tuple[socket.socket, str]:
        """Return a connection that was upgraded, and its head."""
        own = self.connect()
        data = b"" if body is None else json.dumps(body).encode()
        kind = "" if body is None else "Content-Type: application/json\r\n"
        head = f"POST /v1.44{path} HTTP/1.1\r\nHost: d\r\n{_UPGRADE}{kind}"
        own.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            piece = own.recv(1)
            assert piece, answer
            answer += piece
        return own, answer.decode()

    def create(self, name: str, *cmd: str, **config: Any) -> str:
        host = {"NetworkMode": "none", **config.pop("HostConfig", {})}
        body = {"Image": "base:1", "Cmd": cmd, "HostConfig": host, **config}
        status, made = self("POST", f"/containers/create?name={name}", body)
        assert status == 201 and made["Warnings"] == [], made
        return str(made["Id"])


def frames(own: socket.socket) -> list[tuple[int, bytes]]:
    """Return all frames to the end; neighbours of one stream are one piece."""
    data = b""
    while piece := own.recv(1 << 16):
        data += piece
    found: list[tuple[int, bytes]] = []
    while data:
        number, size = struct.unpack(">BxxxL", data[:8])
        piece, data = data[8 : 8 + size], data[8 + size :]
        if found and found[-1][0] == number:
            piece = found.pop()[1] + piece
        found.append((number, piece))
    return found


@pytest.fixture(scope="module")
def pybuild(tmp_path_factory: pytest.TempPathFactory) -> Pybuild:
    return pybuild_with_base(tmp_path_factory.mktemp("api"))


@pytest.fixture(scope="module")
def server(pybuild: Pybuild, tmp_path_factory: pytest.TempPathFactory) -> Generator[Daemon]:
    folder = tmp_path_factory.mktemp("s")
    with daemon(pybuild, folder, "--docker-socket", str(folder / "docker.sock")) as found:
        yield found


@pytest.fixture
def api(pybuild: Pybuild, server: Daemon) -> Generator[Api]:
    """A client of a server without containers, in which nothing runs afterwards."""
    yield Api(server.socket.parent / "docker.sock")
    ids = pybuild("ps", "-aq", code=None).out.split()
    if ids:
        pybuild("rm", "-f", *ids)
    wait_until(lambda: not leftovers(pybuild.store))


def test_the_server_says_what_it_is(api: Api) -> None:
    """Every answer is signed; HEAD has no body; unknown is 404 in JSON [ENG-12…14]."""
    with api.connect() as own:
        own.sendall(b"HEAD /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n")
        head = b"".join(iter(lambda: own.recv(4096), b"")).decode()
    assert head.startswith("HTTP/1.1 200") and head.endswith("\r\n\r\n")
    assert "Api-Version: 1.51\r\n" in head and "Content-Length: 0\r\n" in head
    assert api("GET", "/_ping") == (200, "OK")
    status, version = api("GET", "/version")
    assert status == 200 and version["Components"][0]["Name"] == "Engine"
    assert api("GET", "/info")[1]["Swarm"]["LocalNodeState"] == "inactive"
    assert api("GET", "/nowhere") == (404, {"message": "page not found"})
    assert api("GET", "/nodes")[0] == 503
    assert api("GET", "/containers/nope/json") == (404, {"message": "No such container: nope"})
    assert api("POST", "/containers/create", {"Image": "nope"}) == (
        *(404,),
        {"message": "No such image: nope:latest"},
    )
    assert api("GET", "/images/nope/json") == (404, {"message": "No such image: nope:latest"})
    assert api("GET", "/images/json")[1][0]["RepoTags"] == ["base:1"]
    assert api("GET", "/images/base:1/json")[1]["Config"]["Cmd"] == ["sh"]


def test_a_container_from_its_first_byte_to_its_removal(api: Api) -> None:
    """Attach and wait come before start, as `docker run` has it; the head of wait comes at once [CMP-22]."""
    id = api.create("one", "sh", "-c", "cat; echo err >&2; exit 3", OpenStdin=True, StdinOnce=True)
    own, head = api.hijack(f"/containers/{id}/attach?stream=1&stdin=1&stdout=1&stderr=1")
    assert head.startswith("HTTP/1.1 101 UPGRADED\r\n")
    assert "application/vnd.docker.multiplexed-stream" in head
    with own, api.connect() as waiter:
        waiter.sendall(
            f"POST /v1.44/containers/{id}/wait?condition=next-exit HTTP/1.1\r\nHost: d\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        head = waiter.recv(4096).decode()
        assert head.startswith("HTTP/1.1 200 OK") and "StatusCode" not in head
        assert api("POST", f"/containers/{id}/start") == (204, "")
        own.sendall(b"in\n")
        own.shutdown(socket.SHUT_WR)
        assert sorted(frames(own)) == [(1, b"in\n"), (2, b"err\n")]
        assert b'{"StatusCode":3}' in b"".join(iter(lambda: waiter.recv(4096), b""))
    assert api("POST", f"/containers/{id}/wait") == (200, {"StatusCode": 3})
    status, shown = api("GET", "/containers/one/json")
    assert status == 200 and shown["State"]["ExitCode"] == 3 and shown["Name"] == "/one"
    (entry,) = api("GET", "/containers/json?all=1")[1]
    assert entry["Names"] == ["/one"] and entry["State"] == "exited"
    assert api("GET", "/containers/json")[1] == []
    with api.connect() as log:
        log.sendall(
            f"GET /v1.44/containers/{id}/logs?stdout=1&stderr=1 HTTP/1.0\r\nHost: d\r\n\r\n".encode()
        )
        head_of_log, _, rest = b"".join(iter(lambda: log.recv(4096), b"")).partition(b"\r\n\r\n")
    assert b"200 OK" in head_of_log and b"in\n" in rest and b"err\n" in rest
    assert api("DELETE", f"/containers/{id[:12]}") == (204, "")


def test_ends_of_a_container(api: Api) -> None:
    """Stop is 304 for one that has stopped; what runs is not removed without force [ENG-20, ENG-21]."""
    id = api.create("two", "sh", "-c", _WAITS)
    assert api("POST", "/containers/two/start") == (204, "")
    assert api("POST", "/containers/two/start")[0] == 304
    status, refusal = api("DELETE", "/containers/two")
    assert status == 409 and "container is running: stop the container" in refusal["message"]
    status, refusal = api("POST", "/containers/create?name=two", {"Image": "base:1"})
    assert status == 409 and refusal["message"].startswith("Conflict. The container name")
    assert api("POST", "/containers/two/stop?t=60") == (204, "")
    assert api("POST", "/containers/two/stop")[0] == 304
    assert api("GET", f"/containers/{id}/json")[1]["State"]["ExitCode"] == 7
    assert api("POST", "/containers/two/kill")[0] == 409
    assert api("POST", "/containers/two/rename?name=three") == (204, "")
    assert api("DELETE", "/containers/three?force=1&v=1") == (204, "")
    assert api("DELETE", "/containers/three")[0] == 404


def test_one_that_goes_with_its_end_tells_its_exit_code(api: Api) -> None:
    """A wait for the removal ends with the code, however fast the container ended [CTR-36, PIT-8]."""
    id = api.create("brief", "sh", "-c", "exit 5", HostConfig={"AutoRemove": True})
    with api.connect() as waiter:
        waiter.sendall(
            f"POST /v1.44/containers/{id}/wait?condition=removed HTTP/1.1\r\nHost: d\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        assert waiter.recv(4096).startswith(b"HTTP/1.1 200 OK")
        assert api("POST", f"/containers/{id}/start") == (204, "")
        assert b'{"StatusCode":5}' in b"".join(iter(lambda: waiter.recv(4096), b""))
    assert api("GET", f"/containers/{id}/json")[0] == 404


def test_more_processes(api: Api) -> None:
    """Their streams, half-close and exit code are there when the stream closes [CTR-50…52, ENG-34]."""
    api.create("host", "sh", "-c", _WAITS)
    status, refusal = api("POST", "/containers/host/exec", {"Cmd": ["true"]})
    assert status == 409 and "is not running" in refusal["message"]
    assert api("POST", "/containers/host/start") == (204, "")
    streams = {"AttachStdin": True, "AttachStdout": True, "AttachStderr": True}
    command = ["sh", "-c", "cat; echo $A; exit 9"]
    status, made = api("POST", "/containers/host/exec", {"Cmd": command, "Env": ["A=1"], **streams})
    assert status == 201
    own, head = api.hijack(f"/exec/{made['Id']}/start", {"Detach": False, "Tty": False})
    assert head.startswith("HTTP/1.1 101")
    with own:
        own.sendall(b"typed\n")
        own.shutdown(socket.SHUT_WR)
        assert frames(own) == [(1, b"typed\n1\n")]
    status, shown = api("GET", f"/exec/{made['Id']}/json")
    assert (status, shown["ExitCode"], shown["Running"]) == (200, 9, False)
    status, refusal = api("POST", f"/exec/{made['Id']}/start", {"Detach": True})
    assert status == 409 and refusal["message"].endswith("has already run")
    assert api("GET", "/exec/nope/json") == (404, {"message": "No such exec instance: nope"})
    assert api("POST", "/containers/host/exec", {"Cmd": []})[0] == 400


def test_events_of_a_process_have_the_id_that_its_client_knows(api: Api) -> None:
    """ENG-46: who waits for its end looks for that id."""
    since = api("GET", "/info")[1]["SystemTime"]
    api.create("host", "sh", "-c", _WAITS)
    assert api("POST", "/containers/host/start") == (204, "")
    made = api("POST", "/containers/host/exec", {"Cmd": ["true"], "AttachStdout": True})[1]
    own, _ = api.hijack(f"/exec/{made['Id']}/start", {"Detach": False, "Tty": False})
    with own:
        assert frames(own) == []
    until = api("GET", "/info")[1]["SystemTime"]
    data = api.raw("GET", f"/events?since={since}&until={until}")[2]
    told = [one for one in map(json.loads, data.splitlines()) if "exec" in one["Action"]]
    assert [one["Action"] for one in told] == ["exec_create: true", "exec_start: true", "exec_die"]
    assert {one["Actor"]["Attributes"]["execID"] for one in told} == {made["Id"]}
    assert api("POST", "/exec/nope/resize?h=x&w=80")[0] == 400


def test_a_container_on_anothers_network_has_its_name(api: Api) -> None:
    """CTR-6: and none joins itself."""
    api.create("first", "sh", "-c", _WAITS, Hostname="named")
    assert api("POST", "/containers/first/start") == (204, "")
    script = ("sh", "-c", "hostname; echo $HOSTNAME")
    api.create("second", *script, HostConfig={"NetworkMode": "container:first"})
    assert api("POST", "/containers/second/start") == (204, "")
    assert api("POST", "/containers/second/wait")[1]["StatusCode"] == 0
    assert api.raw("GET", "/containers/second/logs?stdout=1")[2].count(b"named\n") == 2
    api.create("self", "true", HostConfig={"NetworkMode": "container:self"})
    assert api("POST", "/containers/self/start")[1]["message"] == "cannot join own network"


def test_a_server_that_is_killed_leaves_containers_alone(pybuild: Pybuild, tmp_path: Path) -> None:
    """The next one serves them [MON-1]."""
    path = tmp_path / "docker.sock"
    with daemon(pybuild, tmp_path, "--docker-socket", str(path)) as first:
        id = Api(path).create("lasting", "sh", "-c", _WAITS)
        assert Api(path)("POST", f"/containers/{id}/start") == (204, "")
        first.kill()
    try:
        with daemon(pybuild, tmp_path, "--docker-socket", str(path)):
            assert Api(path)("GET", f"/containers/{id}/json")[1]["State"]["Status"] == "running"
            assert Api(path)("POST", f"/containers/{id}/stop?t=60") == (204, "")
            assert Api(path)("GET", f"/containers/{id}/json")[1]["State"]["ExitCode"] == 7
    finally:
        pybuild("rm", "-f", id, code=None)


@pytest.mark.skipif(shutil.which("docker") is None, reason="docker's command line is not here")
def test_the_stock_command_line(api: Api, tmp_path: Path) -> None:
    """Run, ps, logs, exec, inspect, stop and rm as docker's own users type them [YRD-5]."""

    def docker(*words: str, code: int = 0, stdin: bytes = b"") -> str:
        done = subprocess.run(
            ["docker", *words],
            input=stdin,
            capture_output=True,
            timeout=120,
            check=False,
            env={
                **os.environ,
                "DOCKER_HOST": f"unix://{api.path}",
                "DOCKER_CONFIG": str(tmp_path),
            },
        )
        assert done.returncode == code, done
        return done.stdout.decode()

    none = ("--network", "none")
    assert docker("run", "--rm", *none, "base:1", "echo", "hi") == "hi\n"
    assert docker("run", "--rm", "-i", *none, "base:1", "cat", stdin=b"typed") == "typed"
    docker("run", "--name", "it", *none, "base:1", "sh", "-c", "echo said; exit 4", code=4)
    assert docker("logs", "it") == "said\n"
    assert docker("ps", "-a", "--format", "{{.Names}} {{.State}}") == "it exited\n"
    assert docker("inspect", "-f", "{{.State.ExitCode}}", "it") == "4\n"
    assert docker("run", "-d", "--name", "on", *none, "base:1", "sh", "-c", _WAITS)
    assert docker("exec", "-i", "on", "cat", stdin=b"in it") == "in it"
    docker("exec", "on", "nothing-such", code=127)
    docker("run", "--rm", *none, "base:1", "nothing-such", code=127)
    docker("stop", "on")
    docker("rm", "on", "it")
    with suppress(FileNotFoundError):
        (tmp_path / "config.json").unlink()


def test_networks_volumes_and_events(api: Api) -> None:
    """Made, described, in use, removed; what was done is told from a moment on [EP-40…44, ENG-45]."""
    since = api("GET", "/info")[1]["SystemTime"]
    status, network = api("POST", "/networks/create", {"Name": "front", "Driver": "", "IPAM": None})
    assert status == 201 and network["Warning"] == ""
    assert api("POST", "/networks/create", {"Name": "front"})[0] == 409
    assert api("GET", "/networks/front")[1]["Id"] == network["Id"]
    assert api("GET", "/networks/nope") == (404, {"message": "network nope not found"})
    assert api("POST", "/volumes/create", {"Name": "data", "Labels": {"a": "b"}})[0] == 201
    api.create("user", "sh", "-c", _WAITS, HostConfig={"Binds": ["data:/data"]})
    status, refusal = api("DELETE", "/volumes/data")
    assert status == 409 and refusal["message"].startswith("remove data: volume is in use - [")
    filters = "%7B%22label%22%3A%5B%22a%3Db%22%5D%7D"
    assert [one["Name"] for one in api("GET", f"/volumes?filters={filters}")[1]["Volumes"]] == [
        "data"
    ]
    assert api("DELETE", "/containers/user")[0] == 204
    assert api("DELETE", "/volumes/data")[0] == 204
    assert api("DELETE", "/volumes/data?force=1")[0] == 204
    assert api("DELETE", "/networks/front")[0] == 204
    assert api("DELETE", "/networks/bridge")[0] == 403
    until = api("GET", "/info")[1]["SystemTime"]
    status, _, data = api.raw("GET", f"/events?since={since}&until={until}")
    kinds = [(one["Type"], one["Action"]) for one in map(json.loads, data.splitlines())]
    assert ("network", "create") in kinds and ("volume", "destroy") in kinds
    assert kinds.index(("container", "create")) < kinds.index(("container", "destroy"))


def test_what_is_put_may_become_the_containers_users(api: Api) -> None:
    """CTR-86: copyUIDGID, as of `docker cp -a` the other way round; the user may be a number with none."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name in ("of-tar", "of-user"):
            archive.addfile(tarfile.TarInfo(name))
    api.create("files", "sh", "-c", _WAITS, User="7777:33")
    for name, query in (("a", ""), ("b", "&copyUIDGID=true")):
        path = f"/containers/files/archive?path=/tmp/{query}"
        assert api.raw("PUT", path, data.getvalue())[0] == 200
        got = api.raw("GET", "/containers/files/archive?path=/tmp/of-user")[2]
        member = tarfile.open(fileobj=io.BytesIO(got)).getmembers()[0]  # noqa: SIM115 (memory)
        assert (member.uid, member.gid) == ((0, 0) if name == "a" else (7777, 33))


def test_files_of_a_container(api: Api) -> None:
    """Into one that was only created and has a file mounted, by a link on the way, and out again [CTR-85, CTR-86]."""
    bind = {"Binds": [f"{Path(__file__).resolve()}:/etc/mounted:ro"]}
    id = api.create("files", "sh", "-c", _WAITS, HostConfig=bind)
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w:gz") as archive:
        link = tarfile.TarInfo("run")
        link.type, link.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(link)
        other = tarfile.TarInfo("var/run")
        other.type, other.linkname = tarfile.SYMTYPE, "/run"
        archive.addfile(other)
        file = tarfile.TarInfo("var/run/note")
        file.size, file.mode = 3, 0o640
        archive.addfile(file, io.BytesIO(b"abc"))
    assert api.raw("PUT", f"/containers/{id}/archive?path=/", tar.getvalue())[0] == 200
    status, headers, _ = api.raw("HEAD", f"/containers/{id}/archive?path=/run/note")
    described = json.loads(base64.b64decode(headers["X-Docker-Container-Path-Stat"]))
    assert (status, described["name"], described["size"], described["mode"]) == (
        200,
        "note",
        3,
        0o640,
    )
    status, _, data = api.raw("GET", f"/containers/{id}/archive?path=/var/run/note")
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.getnames() == ["note"]
    status, refusal = api("GET", f"/containers/{id}/archive?path=/nope")
    assert status == 404 and refusal["message"].startswith("Could not find the file /nope in")
    assert api.raw("PUT", f"/containers/{id}/archive?path=/run/note", tar.getvalue())[0] == 400
    assert {"Path": "/run/note", "Kind": 1} in api("GET", f"/containers/{id}/changes")[1]


def test_images_and_builds(api: Api) -> None:
    """Named, built of a tar, saved, removed, loaded; BuildKit's services are on the same socket [EP-5, EP-6, EP-13]."""
    assert api("POST", "/images/base:1/tag?repo=other&tag=2") == (201, "")
    assert api("POST", "/images/base:1/tag?repo=UPPER&tag=2") == (
        *(400,),
        {"message": "invalid reference format"},
    )
    assert api("GET", "/images/other:2/history")[1][0]["Tags"] == ["base:1", "other:2"]
    tar = io.BytesIO()
    text = b"FROM base:1\nARG X\nRUN echo $X > /x\n"
    with tarfile.open(fileobj=tar, mode="w:gz") as archive:
        file = tarfile.TarInfo("./Dockerfile")
        file.size = len(text)
        archive.addfile(file, io.BytesIO(text))
    path = "/build?t=made:1&buildargs=%7B%22X%22%3A%22yes%22%2C%22Y%22%3Anull%7D"
    status, _, data = api.raw("POST", path, tar.getvalue())
    lines = [json.loads(line) for line in data.splitlines()]
    assert status == 200 and lines[-1] == {"stream": "Successfully tagged made:1\n"}, lines
    (image,) = [line["aux"]["ID"] for line in lines if "aux" in line]
    assert api("GET", "/images/made:1/json")[1]["Id"] == image
    status, _, saved = api.raw("GET", "/images/get?names=made:1")
    assert status == 200
    assert api("DELETE", "/images/made:1")[1][-1] == {"Deleted": image}
    assert api("GET", "/images/made:1/json")[0] == 404
    status, _, data = api.raw("POST", "/images/load", saved)
    assert status == 200 and b"Loaded image: made:1" in data
    status, _, data = api.raw("POST", "/build", b"no tar")
    assert "error" in json.loads(data.splitlines()[-1])
    assert api("DELETE", "/images/other:2")[1] == [{"Untagged": "other:2"}]
    with api.connect() as own:
        own.sendall(
            b"POST /grpc HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
        )
        assert own.recv(4096).startswith(b"HTTP/1.1 101 ")
        own.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
        assert own.recv(9)[3:4] == b"\x04"  # its settings


def test_processes_and_numbers_of_a_container(api: Api) -> None:
    """Top, stats and the store's disk, while it runs [EP-3, EP-27]."""
    id = api.create("busy", "sh", "-c", _WAITS)
    assert api("POST", f"/containers/{id}/start") == (204, "")
    shown = api("GET", f"/containers/{id}/top")[1]
    assert "PID" in shown["Titles"] and len(shown["Processes"]) >= 1
    stats = api("GET", f"/containers/{id}/stats?stream=0&one-shot=1")[1]
    assert stats["id"] == id and stats["cpu_stats"]["system_cpu_usage"] > 0
    disk = api("GET", "/system/df")[1]
    assert [one["Id"] for one in disk["Containers"]] == [id] and disk["Images"]
    assert api("POST", "/containers/prune")[1] == {"ContainersDeleted": None, "SpaceReclaimed": 0}
    assert api("POST", "/commit?container=busy&repo=kept&tag=1")[0] == 201
    assert api("GET", "/images/kept:1/json")[0] == 200
    status, refusal = api("DELETE", "/images/base:1?force=0")
    assert status == 409 and "conflict: unable to" in refusal["message"]


def test_a_server_starts_what_runs_since_the_machine_came_up(
    api: Api, pybuild: Pybuild, tmp_path: Path
) -> None:
    """Once a boot, and what somebody has stopped stays so [CTR-34, MON-7]."""
    policy = {"RestartPolicy": {"Name": "unless-stopped"}}
    kept, ended = (
        api.create(name, "sh", "-c", _WAITS, HostConfig=policy) for name in ("kept", "ended")
    )
    for id in (kept, ended):
        assert api("POST", f"/containers/{id}/start")[0] == 204
        assert api("POST", f"/containers/{id}/stop")[0] == 204
        state = pybuild.store / "containers" / id / "state.json"
        known = json.loads(state.read_text())
        state.write_text(json.dumps({**known, "boot": "before", "stopped": id == ended}))
    with daemon(pybuild, tmp_path, "--docker-socket", str(tmp_path / "docker.sock")):
        wait_until(lambda: api("GET", f"/containers/{kept}/json")[1]["State"]["Running"])
    assert not api("GET", f"/containers/{ended}/json")[1]["State"]["Running"]


def test_the_cache_of_builds_is_listed_and_pruned(api: Api) -> None:
    """``docker system df`` and ``docker builder prune``; what images need stays [EP-3, EP-5]."""
    tar = io.BytesIO()
    text = b"FROM base:1\nRUN head -c 100000 /dev/zero > /zeros\n"
    with tarfile.open(fileobj=tar, mode="w") as archive:
        file = tarfile.TarInfo("Dockerfile")
        file.size = len(text)
        archive.addfile(file, io.BytesIO(text))
    assert api.raw("POST", "/build?t=zeros:1", tar.getvalue())[0] == 200
    assert api("DELETE", "/images/zeros:1")[0] == 200

    def spare_of(known: dict[str, Any]) -> list[dict[str, Any]]:
        return [one for one in known["BuildCache"] if not one["InUse"]]

    def listed() -> dict[str, Any]:
        known: dict[str, Any] = api("GET", "/system/df?type=build-cache")[1]
        return known

    # A server lets go of what a build used a moment after its answer.
    wait_until(lambda: sum(one["Size"] for one in spare_of(listed())) >= 100000)
    known = listed()
    spare = spare_of(known)
    assert spare and known["BuilderSize"] >= sum(one["Size"] for one in spare) >= 100000
    assert api("POST", "/build/prune?all=1&filters=no")[0] == 400
    status, pruned = api("POST", "/build/prune?all=1")
    assert status == 200 and pruned["SpaceReclaimed"] >= 100000
    assert {one["ID"] for one in spare} <= set(pruned["CachesDeleted"])
    left = api("GET", "/system/df?type=build-cache")[1]["BuildCache"]
    assert not [one for one in left if not one["InUse"]]
    assert api("GET", "/images/base:1/json")[0] == 200
