"""Docker's API, the parts that only understand: routes, queries, bodies, refusals [ENG-10…21, CTR-1…7]."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from pybuild.containers.order import ContainerPrivileges
from pybuild.containers.steps import step_of
from pybuild.daemon.rest.creating import limits_of, request_of
from pybuild.daemon.rest.fields import Fields, read_object
from pybuild.daemon.rest.hijack import frame
from pybuild.daemon.rest.query import Query
from pybuild.daemon.rest.refusal import ApiRefusal, refusal_of
from pybuild.daemon.rest.routes import NEWEST, ApiCall, Routes
from pybuild.daemon.rest.transfers import tag_of
from pybuild.model.errors import EnvironmentFault, UsageError

ROUTES = Routes(
    (
        *("GET /_ping", "GET /containers/json", "GET /containers/{name}/json"),
        *("DELETE /containers/{name}", "GET /images/json", "GET /images/{name}/json"),
        *("GET /images/get", "GET /images/{name}/get", "DELETE /images/{name}"),
    )
)
IMAGE: dict[str, Any] = {
    "Entrypoint": ["/entry"],
    "Cmd": ["c"],
    "Env": ["A=image", "B=image"],
    "Labels": {"of": "image"},
    "ExposedPorts": {"80/tcp": {}},
    "WorkingDir": "/srv",
}


def refused(act: Callable[[], object]) -> tuple[int, str]:
    with pytest.raises(ApiRefusal) as caught:
        act()
    return caught.value.status, caught.value.message


@pytest.mark.parametrize(
    ("method", "path", "route", "version", "name"),
    [
        ("GET", "/_ping", "GET /_ping", NEWEST, ""),
        ("GET", "/v1.24/_ping", "GET /_ping", (1, 24), ""),
        ("GET", "/v1.41/containers/json", "GET /containers/json", (1, 41), ""),
        ("GET", "/containers/ab/json", "GET /containers/{name}/json", NEWEST, "ab"),
        ("DELETE", "/v1.44/containers/ab", "DELETE /containers/{name}", (1, 44), "ab"),
        ("GET", "/images/json", "GET /images/json", NEWEST, ""),
        (
            "GET",
            "/images/r.io:5000/a/b:1/json",
            "GET /images/{name}/json",
            NEWEST,
            "r.io:5000/a/b:1",
        ),
        ("GET", "/images/json/json", "GET /images/{name}/json", NEWEST, "json"),
        ("DELETE", "/images/a/b/json", "DELETE /images/{name}", NEWEST, "a/b/json"),
    ],
)
def test_routes(method: str, path: str, route: str, version: tuple[int, int], name: str) -> None:
    """With and without a version; names of images have slashes [ENG-11]."""
    assert ROUTES.understand(method, path) == ApiCall(route=route, version=version, name=name)


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/nothing", 404, "page not found"),
        ("PUT", "/_ping", 404, "page not found"),
        ("GET", "/v1.41/libpod/info", 404, "page not found"),
        ("GET", "/networks/a/b", 404, "page not found"),
        (
            *("GET", "/v1.99/_ping", 400),
            "client version 1.99 is too new. Maximum supported API version is 1.51",
        ),
        (
            *("GET", "/v1.5/_ping", 400),
            (
                "client version 1.5 is too old. Minimum supported API version is 1.24, "
                "please upgrade your client to a newer version"
            ),
        ),
    ],
)
def test_what_is_no_route(method: str, path: str, status: int, message: str) -> None:
    """Unknown paths and methods are one answer; versions have theirs [ENG-12]."""
    assert refused(lambda: ROUTES.understand(method, path)) == (status, message)


def test_switches_of_a_query() -> None:
    for text in ("", "0", "no", "False", "none"):
        assert not Query({"x": [text]}).flag("x")
    assert all(Query({"x": [text]}).flag("x") for text in ("1", "true", "T", "whatever"))
    assert not Query({}).flag("x")
    assert [Query({"x": [""]}).has(name) for name in ("x", "y")] == [True, False]


@pytest.mark.parametrize(
    ("text", "filters"),
    [
        ("", []),
        ('{"label":{"a=b":true}}', ["label=a=b"]),
        ('{"label":["a=b","c"]}', ["label=a=b", "label=c"]),
        ('{"status":{"exited":true,"running":false}}', ["status=exited"]),
    ],
)
def test_filters_in_two_shapes(text: str, filters: list[str]) -> None:
    """Go writes maps, docker-py lists [ENG-16]."""
    assert Query({"filters": [text]}).filters() == filters


@pytest.mark.parametrize("text", ["x", "[]", '{"a":1}', '{"a":[1]}', '{"a":{"b":1}}'])
def test_filters_that_are_none(text: str) -> None:
    assert refused(Query({"filters": [text]}).filters) == (400, "invalid filter")


def test_a_number_that_is_none() -> None:
    assert Query({"limit": ["-1"]}).number("limit") == -1
    assert refused(lambda: Query({"limit": ["x"]}).number("limit"))[0] == 400


def test_fields_of_any_case_and_null() -> None:
    """Names fit in any case, null is absent, others are ignored [ENG-18]."""
    body = read_object(b'{"IMAGE":"x","Tty":null,"Env":null,"Labels":{"a":null},"other":1}')
    assert (body.text("Image"), body.flag("Tty"), body.texts("Env")) == ("x", False, None)
    assert body.pairs("Labels") == {"a": ""} and not body.part("HostConfig")
    assert not read_object(b"") and not read_object(b"null")


@pytest.mark.parametrize("data", [b"{", b"[]", b"1", b'{"a":1} x', b'"\\ud800"'])
def test_bodies_that_are_none(data: bytes) -> None:
    status, message = refused(lambda: read_object(data))
    assert status == 400 and message.startswith("invalid JSON")


READERS: tuple[Callable[[Fields], object], ...] = (
    *(partial(Fields.text, name="x"), partial(Fields.flag, name="x")),
    *(partial(Fields.number, name="x"), partial(Fields.numbers, name="x")),
    *(partial(Fields.texts, name="x"), partial(Fields.pairs, name="x")),
    *(partial(Fields.part, name="x"), partial(Fields.parts, name="x")),
    partial(Fields.maps, name="x"),
)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("value", [1.5, [1.5], {"k": 1.5}, [[]], {"k": []}])
def test_fields_of_another_kind(read: Callable[[Fields], object], value: object) -> None:
    """A wrong kind is 400 in Go's words, and nothing else."""
    try:
        read(Fields({"x": value}))
    except ApiRefusal as refusal:
        assert refusal.status == 400 and "cannot unmarshal" in refusal.message


def wish(**members: Any) -> Any:
    body = Fields({"Image": "i", **members})
    return request_of(body, "/name", IMAGE, {True: "with", False: "without"})


def test_a_container_of_image_and_request() -> None:
    """The request comes over the image, field by field [CTR-1, CTR-2]."""
    made = wish(
        Env=["A=mine", "B"],
        Labels={"mine": "yes"},
        Hostname="h",
        OpenStdin=True,
        StdinOnce=True,
        ExposedPorts={"53/udp": {}},
        HostConfig={
            "NetworkMode": "none",
            "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
        },
    )
    config = made.config
    assert (config.name, config.image, config.cwd, config.hostname) == ("name", "i", "/srv", "h")
    assert (config.entrypoint, config.cmd, config.env) == (("/entry",), ("c",), ("A=mine", "B"))
    assert config.labels == {"of": "image", "mine": "yes"} and config.exposed == (
        "53/udp",
        "80/tcp",
    )
    assert (config.restart.name, config.restart.most, config.network) == ("on-failure", 3, "none")
    assert config.stdin and config.stdin_once and config.resolv_conf == "without"
    assert wish(Entrypoint=["e"], HostConfig={"NetworkMode": "host"}).config.args == ("e",)


def test_networks_and_ports_of_a_request() -> None:
    """The network of the mode comes first; ports are ranges, addresses and anything [CTR-95]."""
    config = wish(
        HostConfig={
            "NetworkMode": "front",
            "PortBindings": {
                "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8000-8010"}],
                "53/udp": None,
            },
        },
        NetworkingConfig={
            "EndpointsConfig": {
                "back": {"Aliases": ["db"], "IPAMConfig": {"IPv4Address": "10.1.0.9"}},
                "front": None,
            }
        },
    ).config
    assert [one.network for one in config.networks] == ["front", "back"]
    assert config.networks[1].aliases == ("db",) and config.networks[1].addresses == ("10.1.0.9",)
    assert [tuple(one) for one in config.ports] == [
        ("tcp", 80, "127.0.0.1", 8000, 8010),
        ("udp", 53, "", 0, 0),
    ]


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ({"DeviceCgroupRules": ["c 1:3 r"]}, "DeviceCgroupRules is not done by pybuild yet"),
        (
            {"DeviceRequests": [{"Driver": "fpga", "Capabilities": [["fpga"]]}]},
            'could not select device driver "fpga": there are cdi and nvidia',
        ),
        ({"Cgroup": "mine"}, "Cgroup mine is not done by pybuild yet"),
        ({"ShmSize": -1}, "SHM size can not be less than 0"),
        (
            {"AutoRemove": True, "RestartPolicy": {"Name": "always"}},
            "can't create 'AutoRemove' container with restart policy",
        ),
        ({"ExtraHosts": ["x"]}, 'bad format for add-host: "x"'),
        (
            {"Mounts": [{"Type": "npipe", "Target": "/x"}]},
            'invalid mount config: mount type "npipe" is not done by pybuild',
        ),
    ],
)
def test_what_cannot_be_had_is_refused(host: dict[str, Any], message: str) -> None:
    """A wish that were taken and not kept would be believed to hold."""
    assert refused(lambda: wish(HostConfig=host)) == (400, message)


@pytest.mark.parametrize("mode", ["host", "none", "bridge"])
def test_wrong_ports_are_refused_whatever_the_network_is(mode: str) -> None:
    """Where there can be no bridge the mode falls back to the host's; the mistake stays one [CTR-95]."""
    wrong: tuple[dict[str, list[dict[str, str]]], ...] = (
        {"x": []},
        {"80/tcp": [{"HostPort": "70000"}]},
        {"80/tcp": [{"HostIp": "x"}]},
    )
    for ports in wrong:
        host = {"NetworkMode": mode, "PortBindings": ports}
        assert refused(partial(wish, HostConfig=host))[0] == 400
    usual: dict[str, Any] = {
        "NetworkMode": mode,
        "PortBindings": {"80/tcp": [{"HostPort": "8080"}]},
    }
    assert len(wish(HostConfig=usual).config.ports) == (mode == "bridge")


def test_links_of_a_container_are_those_of_its_first_network() -> None:
    """Clients name them at both places; each is one alias [NET-15]."""
    host = {"NetworkMode": "front", "Links": ["db:data", "/db:/app/data", "db"]}
    places = {"front": {"Links": ["db:data", "cache:c"]}, "back": {"Links": ["far"]}}
    made = wish(HostConfig=host, NetworkingConfig={"EndpointsConfig": places}).config
    assert {one.network: one.links for one in made.networks} == {
        "front": (("db", "data"), ("db", "db"), ("cache", "c")),
        "back": (("far", "far"),),
    }
    host["Links"] = ["a:b:c"]
    assert refused(lambda: wish(HostConfig=host)) == (400, "bad format for links: a:b:c")


def test_privileges_of_a_request() -> None:
    """They are read as the command line reads its options [CTR-11, CTR-12]."""
    config = wish(
        HostConfig={
            "NetworkMode": "bridge",
            "Privileged": True,
            "CapAdd": ["net_admin"],
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "Devices": [
                {"PathOnHost": "/dev/fuse", "PathInContainer": "/dev/f", "CgroupPermissions": "rw"}
            ],
            "DeviceRequests": [
                {"Driver": "cdi", "DeviceIDs": ["example.org/card=1"]},
                {"Driver": "", "Count": -1, "Capabilities": [["gpu"]]},
                {"Driver": "nvidia", "DeviceIDs": ["0", "1"], "Capabilities": [["gpu"]]},
            ],
            "GroupAdd": ["video"],
            "OomScoreAdj": 500,
            "Sysctls": {"net.core.somaxconn": "99"},
        }
    ).config
    assert config.privileges == ContainerPrivileges(
        privileged=True,
        cap_add=("CAP_NET_ADMIN",),
        cap_drop=("ALL",),
        security_opts=("no-new-privileges",),
        devices=(("/dev/fuse", "/dev/f", "rw"),),
        cdi=(
            *("example.org/card=1", "nvidia.com/gpu=all"),
            *("nvidia.com/gpu=0", "nvidia.com/gpu=1"),
        ),
        groups=("video",),
        oom_score_adj=500,
        sysctls=(("net.core.somaxconn", "99"),),
    )


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ({"CapDrop": ["ALL_OF"]}, 'invalid CapDrop: unknown capability: "ALL_OF"'),
        ({"OomScoreAdj": 2000}, "invalid --oom-score-adj 2000: -1000 to 1000"),
        (
            {"Mounts": [{"Type": "bind", "Target": "/x"}]},
            'invalid mount config for type "bind": field Source must not be empty',
        ),
        (
            {"NetworkMode": "host", "Sysctls": {"net.core.somaxconn": "99"}},
            "sysctl 'net.core.somaxconn' not allowed as the container has the host's network",
        ),
    ],
)
def test_privileges_that_cannot_be_had_are_refused(host: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        wish(HostConfig=host)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"Hostname": "own"}, "hostname and the network mode"),
        ({"ExposedPorts": {"80/tcp": {}}}, "port exposing and the container type network mode"),
        ({"MacAddress": "02:42:00:00:00:01"}, "mac-address and the network mode"),
        ({"HostConfig": {"Dns": ["192.0.2.1"]}}, "dns and the network mode"),
        (
            {"HostConfig": {"ExtraHosts": ["a:192.0.2.1"]}},
            "custom host-to-IP mapping and the network mode",
        ),
        (
            {"HostConfig": {"PublishAllPorts": True}},
            "port publishing and the container type network mode",
        ),
        (
            {"HostConfig": {"Links": ["a:b"]}},
            "container type network can't be used with links. This would result in undefined behavior",
        ),
    ],
)
def test_what_is_anothers_cannot_be_ones_own(body: dict[str, Any], words: str) -> None:
    """CTR-7: on the network of another container."""
    host = {"NetworkMode": "container:other", **body.pop("HostConfig", {})}
    assert refused(lambda: wish(**body, HostConfig=host)) == (
        400,
        f"conflicting options: {words}",
    )


def test_the_namespace_of_ipc_of_an_old_client_is_shareable() -> None:
    """CTR-4: below 1.40, where none is named."""
    texts = {True: "", False: ""}
    for given, expected in (("", "shareable"), ("none", "none")):
        body = Fields({"Image": "base", "HostConfig": {"IpcMode": given}})
        assert request_of(body, "", IMAGE, texts, "shareable").config.namespaces.ipc == expected
    assert wish().config.namespaces.ipc == ""


def test_binds_and_volumes_of_a_request() -> None:
    """Config.Volumes counts where nothing else is mounted [CTR-100, CTR-103]."""
    mounts = wish(
        Volumes={"/data": {}, "/own": {}},
        HostConfig={
            "Binds": ["vol:/data:ro"],
            "Mounts": [{"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 4096}}],
            "Tmpfs": {"/u": "size=1m"},
        },
    ).mounts.own
    assert [(str(one.kind), one.source, one.target, one.readonly) for one in mounts] == [
        ("volume", "vol", "/data", True),
        ("tmpfs", "", "/t", False),
        ("tmpfs", "", "/u", False),
        ("volume", "", "/own", False),
    ]


def test_a_frame() -> None:
    assert frame(2, b"abc") == b"\x02\0\0\0\0\0\0\x03abc"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{invalid", "invalid character 'i' looking for beginning of object key string"),
        (b"x", "invalid character 'x' looking for beginning of value"),
        (b"{} more", "unexpected content after JSON"),
        (b'{"a":', "unexpected EOF"),
    ],
)
def test_bodies_that_are_no_json(data: bytes, message: str) -> None:
    """In the words of Go, which clients show and tests look for."""
    assert refused(lambda: read_object(data)) == (400, f"invalid JSON: {message}")


_IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    ({"Env": ["=x"]}, "invalid environment variable: =x"),
    ({"Env": [""]}, "invalid environment variable:"),
    ({"HostConfig": {"UTSMode": "x"}}, "invalid UTS mode: x"),
    ({"HostConfig": {"PidMode": "container"}}, "invalid PID mode: container"),
    ({"HostConfig": {"IpcMode": "x"}}, "invalid IPC mode: x"),
    (
        {"HostConfig": {"Annotations": {"": "a"}}},
        "invalid Annotations: the empty string is not permitted as an annotation key",
    ),
    (
        {"HostConfig": {"CpuShares": -1}},
        "invalid CPU shares (-1): value must be a positive integer",
    ),
    (
        {"HostConfig": {"NetworkMode": "bridge", "PortBindings": {"1;2": []}}},
        "invalid JSON: invalid port '1;2': invalid syntax",
    ),
]


@pytest.mark.parametrize(("body", "message"), _IMPOSSIBLE)
def test_fields_that_no_container_can_have(body: dict[str, Any], message: str) -> None:
    made = read_object(json.dumps({"Image": "i", "Cmd": ["c"], **body}).encode())
    assert refused(lambda: request_of(made, "", {}, {True: "", False: ""})) == (400, message)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"Name": "x"}, "unknown policy 'x'"),
        ({"Name": "on-failure", "MaximumRetryCount": -2}, "cannot be negative"),
    ],
)
def test_restart_policies_that_are_none(policy: dict[str, Any], message: str) -> None:
    body = {"Image": "i", "Cmd": ["c"], "HostConfig": {"RestartPolicy": policy}}
    made = read_object(json.dumps(body).encode())
    with pytest.raises(UsageError, match=message):
        request_of(made, "", {}, {True: "", False: ""})


def test_a_working_directory_without_its_last_slash() -> None:
    made = read_object(b'{"Image":"i","Cmd":["c"],"WorkingDir":"/tmp/../srv/"}')
    assert request_of(made, "", {}, {True: "", False: ""}).config.cwd == "/srv"


def test_no_tag_that_looks_like_an_id() -> None:
    assert refused(lambda: tag_of("sha256", "a"))[0] == 400


@pytest.mark.parametrize(
    "message",
    [
        "the files of container web cannot be reached: it has just ended",
        "nobody serves the networks of container web: its helper was killed, or it has just ended",
    ],
)
def test_a_container_that_has_just_ended_is_no_fault_of_the_server(message: str) -> None:
    assert refusal_of(EnvironmentFault(message)).status == 409


@pytest.mark.parametrize(("given", "size"), [("[123,57]", (123, 57)), ("[-1,57]", (0, 0))])
def test_a_terminal_has_its_size_from_the_start(given: str, size: tuple[int, int]) -> None:
    """Before anybody is attached who has one: a program looks at once."""
    data = f'{{"Image":"i","Cmd":["c"],"Tty":true,"HostConfig":{{"ConsoleSize":{given}}}}}'
    wish = request_of(read_object(data.encode()), "", {}, {True: "", False: ""})
    assert step_of(wish.config, "/c", (), ()).terminal == size


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ({"MemorySwap": 10 << 20}, "You should always set the Memory limit when using Memoryswap"),
        ({"CpusetCpus": "x"}, "Invalid value x for cpuset cpus: invalid format"),
        ({"CpusetMems": "0,"}, "Invalid value 0, for cpuset mems: invalid format"),
        ({"CpusetMems": "0,9999"}, "requested memory nodes are not available - requested 0,9999"),
        ({"Isolation": "nonsense"}, 'invalid isolation: "nonsense"'),
    ],
)
def test_limits_that_dockerd_refuses_are_refused(host: dict[str, Any], words: str) -> None:
    """As dockerd 20.10 answered, which was sent the same bodies [ENG-20, CTR-7]."""
    body = Fields({"Image": "x", "HostConfig": host})
    with pytest.raises((ApiRefusal, UsageError)) as caught:
        request_of(body, "", {"Cmd": ["x"]}, {True: "", False: ""})
    assert str(caught.value).startswith(words)


def test_an_update_may_give_the_swap_alone() -> None:
    assert limits_of(Fields({"MemorySwap": 1 << 30}), is_update=True).memory_swap_bytes == 1 << 30
