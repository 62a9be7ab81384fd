"""Requests of Docker's clients as tables: each route's parameters and the fields of its body, with values to draw.

Names and paths are of the kinds that do no harm to the machine: nothing of the host is named but */dev/null* and a scratch
directory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

Draw = Callable[[Random], Any]
_WRONG_KIND = 0.06
NAMES = (*("c0", "c1") * 3, "c2", "n0", "n1", "v0", "v1", "bridge", "host", "none")
IMAGES = ("base:1", "base", "t0:x", "t1", "docker.io/library/base:1", "nope", "127.0.0.1:1/x:1")
_TEXTS = (
    *("", " ", "a", "0", "-1", "x y", "ü", "é" * 40, "a" * 300, "..", "/", "//", "a=b", "=", ":"),
    *(
        "%",
        "%2f",
        "\n",
        "\t",
        "'",
        '"',
        "{}",
        "[]",
        "null",
        "true",
        "sha256:",
        "sha256:" + "a" * 64,
    ),
    *("\ud800", "\udcff", "\x7f", "𝄞", "${A}", "a/../b", "@", "a@sha256:b", "*", "(", "[", "\\"),
)
_NUMBERS = (
    *(0, 1, -1, 2, 7, 255, 256, 65535, 65536, 4096, 1 << 20, 6 << 20, 1 << 31, 1 << 32),
    *((1 << 63) - 1, -(1 << 63), 1 << 63, 1 << 200, 1.5, -0.0, 1e300, 10**30),
)


def any_json(random: Random, depth: int = 2) -> Any:
    """Draw any value that JSON has."""
    kind = random.randrange(7 if depth else 5)
    match kind:
        case 0:
            return None
        case 1:
            return random.random() < 0.5
        case 2:
            return random.choice(_NUMBERS)
        case 3 | 4:
            return random.choice(_TEXTS)
        case 5:
            return [any_json(random, depth - 1) for _ in range(random.randrange(3))]
        case _:
            return {random.choice(_TEXTS): any_json(random, depth - 1) for _ in range(2)}


def text(*likely: str) -> Draw:
    """Draw one of these texts, or another one now and then."""
    return lambda random: random.choice(
        likely if likely and random.random() < 0.85 else (*_TEXTS, *NAMES)
    )


def number(*likely: float) -> Draw:
    return lambda random: random.choice(likely if likely and random.random() < 0.8 else _NUMBERS)


def flag(random: Random) -> Any:
    return random.random() < 0.5


def many(draw: Draw, most: int = 3) -> Draw:
    return lambda random: [value(random, draw) for _ in range(random.randrange(most + 1))]


def mapped(keys: Draw, values: Draw) -> Draw:
    return lambda random: {
        str(keys(random)): value(random, values) for _ in range(random.randrange(3))
    }


def part(**fields: Draw) -> Draw:
    """Draw an object that has about half of these fields."""
    return some(fields, 0.5)


def some(fields: Mapping[str, Draw], share: float) -> Draw:
    """Draw an object that has a share of these fields."""

    def draw(random: Random) -> Any:
        names = [name for name in fields if random.random() < share]
        return {name: value(random, fields[name]) for name in names}

    return draw


def value(random: Random, draw: Draw) -> Any:
    """Draw a value; one of another kind now and then."""
    return any_json(random) if random.random() < _WRONG_KIND else draw(random)


def encoded(draw: Draw) -> Draw:
    """Draw a parameter that is JSON in a text."""
    return lambda random: json.dumps(value(random, draw))


def filters(*keys: str) -> Draw:
    values = text("a", "a=b", *NAMES, "true", "1", "exited", "10m", "base:1", "2", "80/tcp")
    lists, switches = many(values), mapped(values, flag)
    inner: Draw = lambda random: (lists if random.random() < 0.5 else switches)(random)
    return encoded(mapped(text(*keys), inner))


SWITCH = text("", "0", "1", "true", "false")
NAME = text(*NAMES)
COUNT = text("0", "1", "-1", "2", "99999999999999999999", "x")
MOMENT = text("0", "1", "2026-01-01T00:00:00Z", "10m", "1700000000.5", "99999999999")
IMAGE = text(*IMAGES)
PATH = text(
    "/", "/etc", "/etc/passwd", "/tmp", "nope", "/tmp/../..", "/bin/sh", "/proc/self", "/dev"
)
LABELS = mapped(text("a", "b", "org.example"), text("x", ""))
SIGNAL = text("SIGTERM", "KILL", "9", "SIGUSR1", "0", "SIGRTMIN+3", "65", "nope")
WORDS = many(text("true", "sleep", "1000", "sh", "-c", "exit 3", "nope"))
PORTS = mapped(text("80/tcp", "53/udp", "8000-8002", "0", "x/tcp", "70000"), part())
BINDINGS = mapped(
    text("80/tcp", "53/udp", "8000-8002/tcp"),
    many(part(HostIp=text("", "127.0.0.1", "::1"), HostPort=text("", "0", "18080", "1-3", "x"))),
)
PLACE = part(
    IPAMConfig=part(IPv4Address=text("10.99.0.5", "172.30.0.9"), IPv6Address=text("fd00::5")),
    Aliases=many(text("web", "db")),
    MacAddress=text("02:42:ac:11:00:02", "x"),
    GwPriority=number(0, 1, -5),
    DriverOpts=LABELS,
    Links=many(text("c0:web", "c1")),
)
HEALTH = part(
    Test=lambda random: random.choice(
        ([], ["NONE"], ["CMD", "true"], ["CMD-SHELL", "exit 1"], ["x"])
    ),
    Interval=number(0, 10**9, 1),
    Timeout=number(0, 10**9),
    StartPeriod=number(0, 10**9),
    StartInterval=number(0, 10**9),
    Retries=number(0, 1, -1),
)
LIMITS: Mapping[str, Draw] = {
    "Memory": number(0, 64 << 20, 1),
    "MemorySwap": number(0, -1, 128 << 20),
    "MemoryReservation": number(0, 32 << 20),
    "CpuShares": number(0, 2, 1024),
    "CpuPeriod": number(0, 100000),
    "CpuQuota": number(0, 50000, -1),
    "NanoCpus": number(0, 10**9, 10**8),
    "CpusetCpus": text("0", "0-1", "", "9-99"),
    "CpusetMems": text("0", ""),
    "PidsLimit": number(0, 64, -1),
    "BlkioWeight": number(0, 1),
    "OomKillDisable": flag,
    "RestartPolicy": part(
        Name=text("", "no", "always", "on-failure", "unless-stopped"),
        MaximumRetryCount=number(0, 1, 3),
    ),
}
MOUNT = part(
    Type=text("volume", "tmpfs", "bind", "image", "npipe", "cluster"),
    Source=text("v0", "v1", "", "/dev/null", "/nope"),
    Target=text("/data", "/tmp/x", "/etc/hosts", "/", ""),
    ReadOnly=flag,
    BindOptions=part(Propagation=text("rprivate", "shared"), NonRecursive=flag),
    VolumeOptions=part(NoCopy=flag, Labels=LABELS, Subpath=text("", "a", "../x")),
    TmpfsOptions=part(SizeBytes=number(0, 65536), Mode=number(0, 0o700)),
)
HOST: Mapping[str, Draw] = {
    **LIMITS,
    "Binds": many(text("v0:/data", "/data", "v1:/x:ro", "/dev/null:/n", "v0:/", "a:b:c:d", ":")),
    "Mounts": many(MOUNT),
    "Tmpfs": mapped(text("/run", "/t", "x"), text("", "size=1m", "mode=1777,x")),
    "VolumesFrom": many(text("c0", "c1:ro", "nope")),
    "NetworkMode": text(
        "none", "none", "bridge", "host", "n0", "container:c0", "container:", "nope"
    ),
    "PortBindings": BINDINGS,
    "PublishAllPorts": flag,
    "AutoRemove": flag,
    "Privileged": flag,
    "ReadonlyRootfs": flag,
    "Init": flag,
    "CapAdd": many(text("NET_ADMIN", "ALL", "CAP_CHOWN")),
    "CapDrop": many(text("ALL", "CHOWN")),
    "SecurityOpt": many(
        text("seccomp=unconfined", "no-new-privileges", "seccomp={}", "label=disable")
    ),
    "Devices": many(part(PathOnHost=text("/dev/null"), PathInContainer=text("/dev/x"))),
    "DeviceRequests": many(
        part(Driver=text("", "cdi"), Count=number(-1, 1), DeviceIDs=many(text()))
    ),
    "Dns": many(text("1.1.1.1", "x")),
    "DnsSearch": many(text("example.com", ".")),
    "DnsOptions": many(text("ndots:1")),
    "ExtraHosts": many(text("a:1.2.3.4", "b:host-gateway", "c")),
    "Ulimits": many(part(Name=text("nofile", "core"), Soft=number(10, -1), Hard=number(20, -1))),
    "Sysctls": mapped(text("net.ipv4.ip_forward", "kernel.shmmax"), text("1", "0")),
    "ShmSize": number(0, 65536),
    "LogConfig": part(
        Type=text("json-file", "local", "none", "syslog"),
        Config=mapped(text("max-size", "max-file", "x"), text("1m", "2", "k")),
    ),
    "OomScoreAdj": number(0, 100, 2000),
    "PidMode": text("", "host", "container:c0"),
    "IpcMode": text("", "private", "host", "none"),
    "UTSMode": text("", "host"),
    "UsernsMode": text("", "host"),
    "CgroupnsMode": text("", "private", "host"),
    "Runtime": text("", "runc", "kata"),
    "GroupAdd": many(text("1", "root", "nope")),
    "Links": many(text("c0:x")),
    "StorageOpt": LABELS,
    "DeviceCgroupRules": many(text("c 1:3 rwm")),
    "MaskedPaths": many(PATH),
    "ReadonlyPaths": many(PATH),
    "ConsoleSize": many(number(24, 80)),
    "Annotations": LABELS,
}
CONFIG: Mapping[str, Draw] = {
    "Hostname": text("box", "a.b"),
    "Domainname": text("example.com"),
    "User": text("", "root", "1000:1000", "app", "nope"),
    "AttachStdin": flag,
    "AttachStdout": flag,
    "AttachStderr": flag,
    "ExposedPorts": PORTS,
    "Tty": flag,
    "OpenStdin": flag,
    "StdinOnce": flag,
    "Env": many(text("A=b", "A", "=x", "PATH=/bin")),
    "Healthcheck": HEALTH,
    "Volumes": mapped(text("/v", "/tmp", "x"), part()),
    "WorkingDir": text("", "/tmp", "/etc/passwd", "x"),
    "Entrypoint": WORDS,
    "NetworkDisabled": flag,
    "MacAddress": text("", "02:42:ac:11:00:03"),
    "Labels": LABELS,
    "StopSignal": SIGNAL,
    "StopTimeout": number(0, 1),
    "Shell": WORDS,
    "OnBuild": WORDS,
}
EXEC = part(
    AttachStdin=flag,
    AttachStdout=flag,
    AttachStderr=flag,
    Tty=flag,
    Cmd=WORDS,
    Env=many(text("A=b", "A")),
    User=text("", "root", "nope"),
    WorkingDir=text("", "/tmp", "x"),
    Privileged=flag,
    DetachKeys=text("", "ctrl-a", "a,b"),
    ConsoleSize=many(number(24, 80)),
)
NETWORK = part(
    Name=text("n0", "n1", "n2", "bridge"),
    Driver=text("", "bridge", "null", "overlay", "nope"),
    Scope=text("", "local", "swarm"),
    Internal=flag,
    Attachable=flag,
    Ingress=flag,
    ConfigOnly=flag,
    ConfigFrom=part(Network=text("", "n0")),
    EnableIPv4=flag,
    EnableIPv6=flag,
    IPAM=part(
        Driver=text("", "default", "nope"),
        Config=many(
            part(
                Subnet=text("10.99.0.0/24", "fd00:9::/64", "10.0.0.0/0"),
                Gateway=text("10.99.0.1"),
                IPRange=text("10.99.0.128/25"),
                AuxiliaryAddresses=mapped(text("a"), text("10.99.0.9")),
            )
        ),
        Options=LABELS,
    ),
    Options=mapped(
        text("com.docker.network.bridge.name", "com.docker.network.driver.mtu", "x"),
        text("br-fuzz", "1400", "true"),
    ),
    Labels=LABELS,
    CheckDuplicate=flag,
)
VOLUME = part(
    Name=text("v0", "v1", "v2", ""),
    Driver=text("", "local", "nope"),
    DriverOpts=mapped(text("type", "device", "o", "size"), text("tmpfs", "size=1m", "x")),
    Labels=LABELS,
)
PLATFORM = text("", "linux/amd64", "linux/arm64", "windows", "x/y/z/w")
CHANGES = text("CMD true", "ENV a=b", "RUN x", "nope", "LABEL a")


def _container(random: Random) -> Any:
    made: dict[str, Any] = {
        "Image": "base:1",
        "Cmd": random.choice((["sleep", "1000"], ["true"], ["nope"])),
        "HostConfig": {"NetworkMode": random.choice(("none", "none", "bridge"))},
    }
    if random.random() < 0.3:
        return made
    made |= some(CONFIG, 0.06)(random)
    if random.random() < 0.1:
        made |= {"Image": value(random, IMAGE), "Cmd": value(random, WORDS)}
    made["HostConfig"] |= some(HOST, 0.03)(random)
    if random.random() < 0.2:
        made["NetworkingConfig"] = value(random, part(EndpointsConfig=mapped(NAME, PLACE)))
    return made if random.random() > _WRONG_KIND else any_json(random)


@dataclass(frozen=True)
class Shape:
    """A request of one route.

    Attributes:
        query: the parameters.
        body: an object; None for none.
        tar: the body is an archive.
    """

    query: Mapping[str, Draw] = field(default_factory=dict[str, Draw])
    body: Draw | None = None
    tar: bool = False


_STREAMS: Mapping[str, Draw] = {
    **dict.fromkeys(("stream", "logs", "stdin", "stdout", "stderr", "follow"), SWITCH),
    "detachKeys": text("", "ctrl-a", "ctrl-", "a,b"),
}
_SIZE: Mapping[str, Draw] = {"h": COUNT, "w": COUNT}
SHAPES: Mapping[str, Shape] = {
    "GET /events": Shape({"since": MOMENT, "until": MOMENT, "filters": filters("type", "event")}),
    "GET /system/df": Shape({"type": text("image", "volume", "container", "build-cache")}),
    "POST /auth": Shape(
        body=part(username=text("u"), password=text("p"), serveraddress=text("127.0.0.1:1"))
    ),
    "POST /build": Shape(
        {
            **{name: SWITCH for name in ("q", "nocache", "pull", "rm", "squash")},
            **{name: COUNT for name in ("memory", "memswap", "cpushares", "shmsize", "cpuquota")},
            "dockerfile": text("Dockerfile", "../x", "nope"),
            "t": text("t0:x", "t1", "T"),
            "buildargs": encoded(LABELS),
            "labels": encoded(LABELS),
            "cachefrom": encoded(many(IMAGE)),
            "networkmode": text("", "none", "host", "nope"),
            "platform": PLATFORM,
            "target": text("", "x"),
            "extrahosts": text("a:1.2.3.4", "x"),
            "outputs": text("", "[]", "x"),
            "version": text("1", "2", "3"),
        },
        tar=True,
    ),
    "POST /build/prune": Shape(
        {
            "all": SWITCH,
            "keep-storage": COUNT,
            "reserved-space": COUNT,
            "filters": filters("until", "id", "type", "x"),
        }
    ),
    "POST /build/cancel": Shape({"id": NAME}),
    "GET /images/json": Shape(
        {
            "all": SWITCH,
            "digests": SWITCH,
            "shared-size": SWITCH,
            "filters": filters("dangling", "label", "before", "since", "reference", "until", "x"),
        }
    ),
    "POST /images/create": Shape(
        {
            "fromImage": text("127.0.0.1:1/x", "nope", ""),
            "fromSrc": text("-", "", "", "http://127.0.0.1:1/x"),
            "repo": text("t0", "T"),
            "tag": text("x", "", "sha256:" + "0" * 64),
            "changes": CHANGES,
            "message": text(),
            "platform": PLATFORM,
        },
        tar=True,
    ),
    "POST /images/{name}/tag": Shape({"repo": text("t0", "t1", "T"), "tag": text("x", "", "é")}),
    "DELETE /images/{name}": Shape({"force": SWITCH, "noprune": SWITCH, "platforms": PLATFORM}),
    "POST /images/{name}/push": Shape({"tag": text("x"), "platform": PLATFORM}),
    "GET /images/get": Shape({"names": IMAGE}),
    "POST /images/load": Shape({"quiet": SWITCH, "platform": PLATFORM}, tar=True),
    "POST /images/prune": Shape({"filters": filters("dangling", "until", "label", "label!", "x")}),
    "POST /commit": Shape(
        {
            "container": NAME,
            "repo": text("t0", "T", ""),
            "tag": text("x"),
            "pause": SWITCH,
            "changes": CHANGES,
            "comment": text(),
            "author": text(),
        },
        some(CONFIG, 0.2),
    ),
    "GET /containers/json": Shape(
        {
            "all": SWITCH,
            "limit": COUNT,
            "size": SWITCH,
            "filters": filters(
                *("id", "name", "label", "label!", "exited", "status", "ancestor", "before"),
                *("since", "volume", "network", "publish", "expose", "health", "is-task", "x"),
            ),
        }
    ),
    "POST /containers/create": Shape({"name": NAME, "platform": PLATFORM}, _container),
    "GET /containers/{name}/json": Shape({"size": SWITCH}),
    "POST /containers/{name}/start": Shape({"detachKeys": text("", "ctrl-a")}),
    "POST /containers/{name}/stop": Shape({"t": text("0", "1", "x"), "signal": SIGNAL}),
    "POST /containers/{name}/restart": Shape({"t": text("0", "1", "x"), "signal": SIGNAL}),
    "POST /containers/{name}/kill": Shape({"signal": SIGNAL}),
    "POST /containers/{name}/rename": Shape({"name": NAME}),
    "POST /containers/{name}/update": Shape(body=part(**LIMITS)),
    "POST /containers/{name}/wait": Shape({"condition": text("", "not-running", "next-exit", "x")}),
    "POST /containers/{name}/attach": Shape(_STREAMS),
    "POST /containers/{name}/resize": Shape(_SIZE),
    "GET /containers/{name}/logs": Shape(
        {**_STREAMS, "since": MOMENT, "until": MOMENT, "tail": COUNT, "timestamps": SWITCH}
    ),
    "GET /containers/{name}/stats": Shape({"stream": SWITCH, "one-shot": SWITCH}),
    "GET /containers/{name}/top": Shape({"ps_args": text("", "-ef", "aux", "-o pid", "--help")}),
    "GET /containers/{name}/archive": Shape({"path": PATH}),
    "HEAD /containers/{name}/archive": Shape({"path": PATH}),
    "PUT /containers/{name}/archive": Shape(
        {"path": PATH, "noOverwriteDirNonDir": SWITCH, "copyUIDGID": SWITCH}, tar=True
    ),
    "DELETE /containers/{name}": Shape(
        {"force": text("1", ""), "v": SWITCH, "link": text("", "1")}
    ),
    "POST /containers/prune": Shape({"filters": filters("until", "label", "label!", "x")}),
    "POST /containers/{name}/exec": Shape(body=EXEC),
    "POST /exec/{name}/start": Shape(body=part(Detach=flag, Tty=flag, ConsoleSize=many(number(9)))),
    "POST /exec/{name}/resize": Shape(_SIZE),
    "GET /networks": Shape({"filters": filters("id", "name", "driver", "type", "label", "x")}),
    "GET /networks/{name}": Shape({"verbose": SWITCH, "scope": text("", "local")}),
    "POST /networks/create": Shape(body=NETWORK),
    "POST /networks/{name}/connect": Shape(body=part(Container=NAME, EndpointConfig=PLACE)),
    "POST /networks/{name}/disconnect": Shape(body=part(Container=NAME, Force=flag)),
    "POST /networks/prune": Shape({"filters": filters("until", "label", "x")}),
    "GET /volumes": Shape({"filters": filters("name", "driver", "label", "dangling", "x")}),
    "POST /volumes/create": Shape(body=VOLUME),
    "DELETE /volumes/{name}": Shape({"force": SWITCH}),
    "POST /volumes/prune": Shape({"filters": filters("all", "label", "label!", "x")}),
}
"""Of the routes that take something; others get parameters and bodies of any kind all the same."""
OTHER = Shape({"x": text(), "filters": filters("x", "label"), "force": SWITCH}, any_json)
