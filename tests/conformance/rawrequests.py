"""Requests of Docker's API in an order, the answers that dockerd 20.10 gave, and ours: ``engine/requests.tsv``.

    python -m tests.conformance.rawrequests SOCKET theirs|ours

asks an engine that has the image *busybox* and nothing else, writes its column, and prints what has changed there. An answer is its
status, and of a refusal the message without ids, of a result the names of its fields.
"""

# pyright: reportUnknownArgumentType=false
# Bodies are of all shapes, some of them wrong.
from __future__ import annotations

import http.client
import json
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import quote

HERE = Path(__file__).parent / "engine"
FILE = HERE / "requests.tsv"
_VARYING = (
    (re.compile(r"\b[0-9a-f]{64}\b"), "<id>"),
    (re.compile(r"\b(?=[0-9a-f]*[0-9])[0-9a-f]{12}\b"), "<id>"),
)
_MOST_SHOWN = 300


class Row(NamedTuple):
    """A request, and what both engines answer."""

    request: str
    theirs: str
    ours: str


def requests() -> list[str]:
    """Return the requests, in their order: ``METHOD PATH [JSON]``."""
    return [
        *_of_nobody(),
        *_of_filters(),
        *_of_bodies(),
        *_of_a_life(),
        *_of_networks(),
        *_of_volumes(),
        *_of_images(),
        *_of_swarms(),
        *_of_streams(),
    ]


def _bodies(*all: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    return all


def _of_nobody() -> Iterator[str]:
    """Yield requests about what is not there."""
    for word in ("json", "top", "changes", "export", "logs?stdout=1", "stats?stream=0"):
        yield f"GET /containers/nobody/{word}"
    for word in ("start", "stop", "restart", "kill", "pause", "unpause", "rename?name=x1"):
        yield f"POST /containers/nobody/{word}"
    for word in ("wait", "resize?h=1&w=1", "attach?stream=1", "update {}", 'exec {"Cmd":["a"]}'):
        yield f"POST /containers/nobody/{word}"
    yield "DELETE /containers/nobody"
    yield "DELETE /containers/nobody?force=1"
    yield "GET /containers/nobody/archive?path=/"
    for word in ("json", "history"):
        yield f"GET /images/nobody/{word}"
    yield from (
        "DELETE /images/nobody",
        "POST /images/nobody/tag?repo=a",
        "GET /images/nobody:1/json",
    )
    yield from ("GET /networks/nobody", "DELETE /networks/nobody")
    for word in ("connect", "disconnect"):
        yield f'POST /networks/nobody/{word} {{"Container":"nobody"}}'
        yield f'POST /networks/bridge/{word} {{"Container":"nobody"}}'
    yield from ("GET /volumes/nobody", "DELETE /volumes/nobody", "DELETE /volumes/nobody?force=1")
    yield from (
        "GET /exec/nobody/json",
        "POST /exec/nobody/start {}",
        "POST /exec/nobody/resize?h=1&w=1",
    )
    for path in (
        "/nowhere",
        "/containers",
        "/images",
        "/containers/json/x",
        "/v1.41",
        "/volumes/a/b",
    ):
        yield f"GET {path}"
    for method in ("PUT", "DELETE", "POST"):
        yield f"{method} /_ping"
        yield f"{method} /version"
        yield f"{method} /containers/json"
    yield "GET /v1.5/version"
    yield "GET /v1.99/version"
    for name in ("swarm", "nodes", "services", "tasks", "secrets", "configs"):
        yield f"GET /{name}"
    for name in ("_ping", "version", "info", "plugins", "containers/json", "networks", "volumes"):
        yield f"GET /{name}"
        yield f"GET /v1.41/{name}"
    yield "GET /images/json"
    yield "GET /system/df"


def _of_filters() -> Iterator[str]:
    values = (
        *("nonsense", "[]", "1", '{"nonsense":["x"]}', '{"nonsense":{"x":true}}', '{"label":1}'),
        *('{"label":["a"]}', '{"label":{"a=b":true}}', '{"name":["x"]}', "{}", '{"until":["x"]}'),
    )
    for path in ("/containers/json", "/images/json", "/networks", "/volumes"):
        for value in values:
            yield f"GET {path}?filters={quote(value)}"
    for path in ("/containers/prune", "/networks/prune", "/volumes/prune"):
        for value in values[:5]:
            yield f"POST {path}?filters={quote(value)}"
    for value in ("exited=x", "status=x", "health=x", "before=nobody", "since=nobody", "is-task=x"):
        key, _, text = value.partition("=")
        yield f"GET /containers/json?filters={quote(json.dumps({key: [text]}))}"
    for value in ("dangling=x", "before=nobody", "since=nobody", "reference=["):
        key, _, text = value.partition("=")
        yield f"GET /images/json?filters={quote(json.dumps({key: [text]}))}"
    for value in ("x", "-1", "0", "1"):
        yield f"GET /containers/json?limit={value}"


def _of_bodies() -> Iterator[str]:
    def create(**body: Any) -> str:
        made = {"Image": "busybox", "Cmd": ["true"], **body}
        return f"POST /containers/create?name=wrong {json.dumps(made)}"

    for host in _bodies(
        *({"Memory": 1}, {"Memory": 8 << 20, "MemorySwap": 1}, {"MemorySwap": 8 << 20}),
        *({"CpuPeriod": 1}, {"CpuQuota": 1}, {"NanoCpus": 10**15}, {"CpusetCpus": "99"}),
        *({"ShmSize": -1}, {"NetworkMode": "nobody"}, {"NetworkMode": "container:nobody"}),
        *({"IpcMode": "x"}, {"PidMode": "x"}, {"UTSMode": "x"}, {"UsernsMode": "x"}),
        *({"RestartPolicy": {"Name": "x"}}, {"CapAdd": ["NONE_SUCH"]}, {"CapDrop": ["NONE_SUCH"]}),
        *({"RestartPolicy": {"Name": "always", "MaximumRetryCount": 1}}, {"Binds": ["a:b"]}),
        *({"AutoRemove": True, "RestartPolicy": {"Name": "always"}}, {"Binds": [":"]}),
        *({"Binds": ["v:/"]}, {"Binds": ["v:/x:nonsense"]}, {"Binds": ["v:/x", "w:/x"]}),
        *({"Mounts": [{"Type": "x", "Target": "/x"}]}, {"Mounts": [{"Type": "volume"}]}),
        *({"Mounts": [{"Type": "bind", "Source": "/nowhere-at-all", "Target": "/x"}]},),
        *({"LogConfig": {"Type": "nonsense"}}, {"LogConfig": {"Config": {"x": "y"}}}),
        *({"PortBindings": {"x": []}}, {"PortBindings": {"80/tcp": [{"HostPort": "x"}]}}),
        *({"ExtraHosts": ["x"]}, {"SecurityOpt": ["nonsense"]}, {"Ulimits": [{"Name": "x"}]}),
        *({"VolumesFrom": ["nobody"]}, {"Tmpfs": {"x": ""}}, {"Sysctls": {"kernel.nonsense": "1"}}),
        *({"Dns": ["x"]}, {"OomScoreAdj": 2000}, {"Runtime": "nonsense"}, {"Memory": "x"}),
        *({"Binds": 1}, {"Binds": {"a": 1}}, {"PortBindings": []}, {"Privileged": "x"}),
    ):
        yield create(HostConfig=host)
        yield "DELETE /containers/wrong?v=1"
    for body in _bodies(
        *({"Image": ""}, {"Image": "nobody"}, {"Image": "UPPER"}, {"Cmd": 1}, {"Cmd": []}),
        *({"Env": ["="]}, {"Env": 1}, {"Labels": []}, {"WorkingDir": "x"}, {"StopSignal": "x"}),
        *({"Healthcheck": {"Interval": 1}}, {"Healthcheck": {"Retries": -1}}, {"Tty": "x"}),
        *({"ExposedPorts": {"x": {}}}, {"Volumes": {"x": {}}}, {"User": 1}, {"StopTimeout": "x"}),
        *({"NetworkingConfig": 1}, {"MacAddress": "x"}, {"Hostname": "-" * 80}),
    ):
        yield create(**body)
        yield "DELETE /containers/wrong?v=1"
    for text in ("", "{", "[]", "x", "{} x", "null", '{"Image":1}'):
        yield f"POST /containers/create {text}".rstrip()
    for name in ("a", "-a", "a b", "é", "a/b"):
        yield f'POST /containers/create?name={quote(name)} {{"Image":"busybox"}}'
    for path in ("/networks/create", "/volumes/create", "/auth"):
        for text in ("{", "[]", "x", "{} x"):
            yield f"POST {path} {text}"


def _of_a_life() -> Iterator[str]:
    """Yield requests about a container, from its making to its removal."""
    made = {
        "Image": "busybox",
        "Cmd": ["sleep", "1000"],
        "StopSignal": "SIGKILL",
        "HostConfig": {"NetworkMode": "none"},
    }
    yield f"POST /containers/create?name=life {json.dumps(made)}"
    yield f"POST /containers/create?name=life {json.dumps(made)}"
    path = "/containers/life"
    for word in ("json", "json?size=1", "changes", "logs", "logs?stdout=1", "top"):
        yield f"GET {path}/{word}"
    for word in (
        "pause",
        "unpause",
        "kill",
        "stop",
        "resize?h=1&w=1",
        'exec {"Cmd":["a"]}',
        "start",
    ):
        yield f"POST {path}/{word}"
    for word in ("start", "unpause", "pause", "pause", "start", 'exec {"Cmd":["a"]}', "unpause"):
        yield f"POST {path}/{word}"
    for word in ("exec {}", 'exec {"Cmd":[]}', 'exec {"Cmd":["true"]}', "exec {", "exec []"):
        yield f"POST {path}/{word}"
    for word in (
        "kill?signal=NONSENSE",
        "kill?signal=99",
        "kill?signal=0",
        "rename",
        "rename?name=life",
    ):
        yield f"POST {path}/{word}"
    for word in ("rename?name=a%20b", "resize", "resize?h=x&w=1"):
        yield f"POST {path}/{word}"
    for body in _bodies(
        *(
            {},
            {"Memory": 1},
            {"CpuShares": 512},
            {"RestartPolicy": {"Name": "no"}},
            {"NanoCpus": 10**15},
        ),
        *({"RestartPolicy": {"Name": "x"}}, {"CpusetCpus": "99"}, {"Memory": "x"}),
    ):
        yield f"POST {path}/update {json.dumps(body)}"
    for word in ("/etc/passwd", "/nowhere", "", "/etc/passwd/", "/bin/sh"):
        yield f"HEAD {path}/archive?path={word}"
    for word in ("/nowhere", ""):
        yield f"GET {path}/archive?path={word}"
        yield f"PUT {path}/archive?path={word}"
    for word in ("top", "top?ps_args=-o%20nonsense", "changes", "json"):
        yield f"GET {path}/{word}"
    yield from (f"DELETE {path}", "GET /containers/json", "GET /containers/json?all=1&size=1")
    for word in (
        "stop?t=0",
        "stop",
        "kill",
        "pause",
        "wait",
        'exec {"Cmd":["a"]}',
        "rename?name=death",
    ):
        yield f"POST {path}/{word}"
    yield from (
        "GET /containers/death/json",
        "DELETE /containers/death",
        "DELETE /containers/death",
    )


def _of_networks() -> Iterator[str]:
    for name in ("bridge", "host", "none"):
        yield f"GET /networks/{name}"
        yield f"DELETE /networks/{name}"
    for body in _bodies(
        *(
            {},
            {"Name": ""},
            {"Name": "bridge"},
            {"Name": "host"},
            {"Name": "n", "Driver": "nonsense"},
        ),
        *({"Name": "n", "IPAM": {"Config": [{"Subnet": "x"}]}}, {"Name": "n", "Labels": 1}),
        *({"Name": "n", "IPAM": {"Config": [{"Subnet": "10.66.0.0/24", "Gateway": "10.67.0.1"}]}},),
        *({"Name": "n", "IPAM": {"Config": [{"Subnet": "10.66.0.0/24"}]}}, {"Name": "n"}),
        *({"Name": "m", "IPAM": {"Config": [{"Subnet": "10.66.0.0/16"}]}},),
        *({"Name": "m", "IPAM": {"Driver": "nonsense"}}, {"Name": "m", "Scope": "nonsense"}),
    ):
        yield f"POST /networks/create {json.dumps(body)}"
    yield from ("GET /networks/n", "GET /networks", "GET /networks/n?scope=swarm")
    made = {"Image": "busybox", "HostConfig": {"NetworkMode": "n"}}
    yield f"POST /containers/create?name=guest {json.dumps(made)}"
    for word in ("connect", "disconnect", "disconnect"):
        yield f'POST /networks/n/{word} {{"Container":"guest"}}'
    for body in ({}, {"Container": ""}, {"Container": 1}):
        yield f"POST /networks/n/connect {json.dumps(body)}"
    address = {"IPAMConfig": {"IPv4Address": "10.68.0.1"}}
    yield f"POST /networks/n/connect {json.dumps({'Container': 'guest', 'EndpointConfig': address})}"
    yield 'POST /networks/host/connect {"Container":"guest"}'
    yield from ("DELETE /containers/guest", "DELETE /networks/n", "DELETE /networks/n")


def _of_volumes() -> Iterator[str]:
    for body in _bodies(
        *({"Name": "a b"}, {"Name": "a"}, {"Name": "vol", "Driver": "local"}, {"Name": "vol"}),
        *(
            {"Name": "wol", "DriverOpts": {"x": "y"}},
            {"Name": "wol", "DriverOpts": {"type": "tmpfs"}},
        ),
        *(
            {"Name": "wol", "DriverOpts": {"size": "1m"}},
            {"Name": 1},
            {"Name": "wol", "Labels": []},
        ),
    ):
        yield f"POST /volumes/create {json.dumps(body)}"
    yield from ("GET /volumes/vol", "GET /volumes", "PUT /volumes/vol {}")
    made = {"Image": "busybox", "HostConfig": {"Binds": ["vol:/v"], "NetworkMode": "none"}}
    yield f"POST /containers/create?name=user {json.dumps(made)}"
    yield from ("DELETE /volumes/vol", "DELETE /volumes/vol?force=1", "GET /containers/user/json")
    yield from ("DELETE /containers/user?v=1", "DELETE /volumes/vol", "DELETE /volumes/vol")


def _of_images() -> Iterator[str]:
    yield from ("GET /images/busybox/json", "GET /images/busybox/history", "GET /images/UPPER/json")
    for repo in ("t1", "UPPER", "", "t1@sha256:" + "0" * 64, "a//b", "t1:x:y"):
        yield f"POST /images/busybox/tag?repo={quote(repo)}"
    for tag in ("x", "é", "-x", "x" * 129):
        yield f"POST /images/busybox/tag?repo=t1&tag={quote(tag)}"
    yield from ("GET /images/t1:x/json", "GET /images/t1:y/json", "DELETE /images/t1:x")
    made = {"Image": "t1", "HostConfig": {"NetworkMode": "none"}}
    yield f"POST /containers/create?name=keeps {json.dumps(made)}"
    yield from ("DELETE /images/t1", "DELETE /containers/keeps", "DELETE /images/t1")
    yield from ("POST /images/create?fromImage=UPPER", "POST /images/create", "POST /commit")
    yield from ("POST /commit?container=nobody", "GET /images/get", "POST /build/cancel?id=x")
    yield from (
        "GET /images/get?names=nobody",
        "GET /images/search",
        "GET /distribution/UPPER/json",
    )


def _of_swarms() -> Iterator[str]:
    """Yield requests that want a swarm or checkpoints; none begins one."""
    for noun in ("nodes", "services", "tasks", "secrets", "configs"):
        yield f"GET /{noun}/nobody"
        if noun not in ("nodes", "tasks"):
            yield f"POST /{noun}/create {{}}"
            yield f"DELETE /{noun}/nobody"
    yield from ("POST /swarm/leave", "POST /swarm/update?version=1 {}", "POST /swarm/join {}")
    yield from ("GET /containers/nobody/checkpoints", "POST /containers/nobody/checkpoints {}")


def _of_streams() -> Iterator[str]:
    """Yield requests whose answers are streams, or bodies archives; all of these end at once."""
    yield from (
        "HEAD /_ping",
        "GET /networks/",
        "GET /events?until=0",
        "GET /events?since=0&until=1",
    )
    yield from ("GET /events?until=x", "GET /events?since=2&until=1", "GET /events?filters=x")
    yield from ("GET /containers/nobody/attach/ws", "POST /session", "POST /grpc")
    for name in ("nobody", "UPPER", "busybox:nope"):
        yield f"POST /images/{name}/push"
        yield f"GET /images/{name}/get"
    yield from ("POST /images/load", "POST /images/load x", "POST /images/create?fromSrc=-")
    for query in (
        "",
        "?t=UPPER",
        "?t=a:b:c",
        "?remote=x",
        "?buildargs=x",
        "?labels=x",
        "?platform=x",
    ):
        yield f"POST /build{query}"
    for query in (
        "?dockerfile=../x",
        "?networkmode=nope",
        "?ulimits=x",
        "?cachefrom=x",
        "?memory=x",
    ):
        yield f"POST /build{query}"
    for filters in ('{"dangling":["x"]}', '{"nonsense":["x"]}', '{"until":["x"]}', "x"):
        yield f"POST /images/prune?filters={quote(filters)}"
    for filters in ('{"nonsense":["x"]}', '{"until":["x"]}', "x"):
        yield f"POST /build/prune?filters={quote(filters)}"
    yield from ("POST /build/prune?keep-storage=x", "POST /build/prune", "POST /images/prune")


def ask(path: str, request: str) -> str:
    """Return an engine's answer, shown without what differs from run to run."""
    method, where, body = (*request.split(" ", 2), "")[:3]
    connection = http.client.HTTPConnection("docker")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(20)
    connection.sock.connect(path)
    with closing(connection):
        headers = {"Content-Type": "application/json"} if body else {}
        connection.request(method, where, body.encode() or None, headers)
        answer = connection.getresponse()
        is_json = answer.headers.get("Content-Type", "").startswith("application/json")
        try:
            data = answer.read() if is_json else b""
        except TimeoutError:
            return f"{answer.status} and no end"
    return f"{answer.status} {_shown(data)}".rstrip()


def _shown(data: bytes) -> str:
    try:
        value = json.loads(data)
    except ValueError:
        return ""
    if isinstance(value, list) and value:
        value = cast("list[object]", value)[0]
    if not isinstance(value, dict):
        return ""
    known = cast("dict[str, object]", value)
    if set(known) != {"message"}:
        return " ".join(sorted(known))
    text = " ".join(str(known["message"]).split())
    for pattern, name in _VARYING:
        text = pattern.sub(name, text)
    return text[:_MOST_SHOWN]


REASONS = (
    (r"DELETE /containers/wrong", "it follows from the request before"),
    (r"POST /containers/create", "refused when it is made, not when it starts"),
    (r".*filters=", "newer than the dockerd that was asked, or nothing that we have"),
    (
        r"(GET|DELETE|POST) /networks/(n\b|create)",
        "networks have names of their own, and addresses are looked at before",
    ),
    (
        r"POST /(volumes/create|auth) \{\} x",
        "what comes after the JSON is refused, as by newer engines",
    ),
    (r"PUT /volumes/", "newer than the dockerd that was asked"),
    (r"POST /swarm/join", "nobody here is a manager of swarms, whatever is asked"),
    (
        r"POST /images/.*/push",
        "a push needs no login, as with newer engines: the image is looked for",
    ),
    (r"POST /(commit|build/cancel)", "what is not named is not found"),
    (r"GET /images/(get|UPPER)", "what is not named is refused, and what is no name is not found"),
)
"""Why answers have another status, where that of dockerd is no fault of the server's, which newer ones mended."""


def rows() -> list[Row]:
    """Return the recorded answers."""
    lines = FILE.read_text(encoding="utf-8").splitlines()
    return [Row(*line.split("\t")) for line in lines if not line.startswith("#")]


def main(words: list[str]) -> None:
    path, column = words
    asked = requests()
    known = rows() if FILE.exists() else []
    if [row.request for row in known] != asked:
        new = [Row(request, "", "") for request in asked[len(known) :]]
        known = [*known, *new]  # the order is part of each answer: what is new comes last
    text = "# request, dockerd's answer, ours\n"
    for row in known:
        asked_now = row._replace(**{column: ask(path, row.request)})
        if asked_now != row:
            print(*row, *asked_now[1:], sep=" | ")
        text += "\t".join(asked_now) + "\n"
    FILE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
