"""Docker's REST API against clients that are wrong, greedy or gone: pure parts [ENG-16, ENG-20, ENG-35]."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pybuild.builds.givencontexts import unpack_context
from pybuild.cache.store import Store
from pybuild.containers.config import ContainerConfig
from pybuild.containers.container import Container
from pybuild.containers.containers import Containers
from pybuild.containers.defaults import check_limits
from pybuild.containers.logreading import log_time
from pybuild.containers.order import HealthCheck
from pybuild.containers.privileges import gpus
from pybuild.containers.signals import signal_number
from pybuild.daemon.rest import building
from pybuild.daemon.rest.creating import request_of
from pybuild.daemon.rest.exchange import answer, json_line
from pybuild.daemon.rest.fields import read_object
from pybuild.daemon.rest.query import Query
from pybuild.daemon.rest.refusal import ApiRefusal, refusal_of
from pybuild.daemon.rest.routes import Routes
from pybuild.engine.host import SystemClock
from pybuild.executor.steps.spec import StepLimits
from pybuild.model.errors import UsageError, UserError
from pybuild.volumes.volumes import Volumes

_DIGITS = "9" * 5000  # more than Python makes a number of
_HALF = '{"a":{"\\ud800":true}}'


def refused(act: Callable[[], object]) -> str:
    with pytest.raises(ApiRefusal) as caught:
        act()
    assert caught.value.status == 400
    return caught.value.message


def wish(**host: Any) -> ContainerConfig:
    top = host.pop("top", {})
    body = read_object(json.dumps({"Image": "i", **top, "HostConfig": host}).encode())
    return request_of(body, "name", {"Cmd": ["c"]}, {True: "with", False: "without"}).config


@pytest.mark.parametrize(
    "act",
    [
        lambda: check_limits(StepLimits(cpuset_cpus=_DIGITS)),
        lambda: gpus("99999999999"),
        lambda: gpus(_DIGITS),
        lambda: signal_number(_DIGITS),
    ],
)
def test_numbers_of_any_length_are_refused(act: Callable[[], object]) -> None:
    """None is counted up to, nor given to `int`, which refuses very long ones itself."""
    with pytest.raises(UsageError):
        act()


def test_a_time_after_all_times() -> None:
    assert log_time("9" * 30, 0) == "9999-12-31T23:59:59.000000000Z"


@pytest.mark.parametrize("text", ['{"Cmd":["a\\u0000"]}', '{"a\\\\\\u0000":1}'])
def test_a_nul_in_a_body(text: str) -> None:
    """No path, argument or variable can have one: what takes them fails in its own words otherwise."""
    assert refused(lambda: read_object(text.encode())) == (
        "invalid JSON: a NUL character is in a text"
    )


def test_a_backslash_is_no_nul() -> None:
    assert read_object(b'{"Image":"\\\\u0000"}').text("Image") == "\\u0000"


def test_half_of_a_surrogate_pair_in_a_query() -> None:
    assert refused(Query({"filters": [_HALF]}).filters) == "invalid filter"
    for value in ('"\\ud800"', '"\\u0000"'):
        query = Query({"buildargs": [f'{{"a":{value}}}']})
        assert refused(partial(building.request_of, query, "/c")).startswith("invalid")


def test_an_answer_with_a_name_in_no_encoding() -> None:
    """Files of containers have any names; the answer is JSON all the same."""
    assert answer([{"Path": "/a\udcff"}]).body == b'[{"Path":"/a?"}]\n'
    assert json_line("\udcff") == b'"?"\r\n'


def test_a_name_with_a_slash_in_front() -> None:
    """As lists and inspect show the names of containers [ENG-11]."""
    routes = Routes(("GET /containers/{name}/json",))
    assert routes.understand("GET", "/v1.41/containers//n/json").name == "/n"


@pytest.mark.parametrize(
    "message",
    [
        "network a b not found",
        "get a b: no such volume",
        "image with reference a was found but does not provide the specified platform (b/c)",
    ],
)
def test_what_is_not_here_is_not_found(message: str) -> None:
    """Clients pull an image that is not found."""
    assert refusal_of(UserError(message)).status == 404


def test_that_killing_for_memory_cannot_be_turned_off_is_a_warning() -> None:
    """As dockerd has it where the kernel cannot [CTR-7]."""
    for given in (True, False):
        host = {"NetworkMode": "none", "OomKillDisable": given}
        body = read_object(json.dumps({"Image": "i", "HostConfig": host}).encode())
        made = request_of(body, "name", {"Cmd": ["c"]}, {True: "with", False: "without"})
        assert [text.split()[0] for text in made.warnings] == ["OomKillDisable"] * given


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ({"StorageOpt": {"size": "1G"}}, "StorageOpt is not done by pybuild yet"),
        (
            {"BlkioDeviceReadBps": [{"Path": "/dev/sda", "Rate": 1}]},
            "BlkioDeviceReadBps is not done by pybuild yet",
        ),
        ({"BlkioWeight": 500}, "BlkioWeight is not done by pybuild yet"),
        (
            {"BlkioWeightDevice": [{"Path": "/dev/sda", "Weight": 500}]},
            "BlkioWeightDevice is not done by pybuild yet",
        ),
        ({"CpuRealtimeRuntime": 950000}, "CpuRealtimeRuntime is not done by pybuild yet"),
        ({"Runtime": "kata"}, "unknown or invalid runtime name: kata"),
        ({"ExtraHosts": ["a:1.2.3.4 b"]}, 'invalid IP address in add-host: "1.2.3.4 b"'),
        (
            {"NetworkMode": "n", "PortBindings": {"80/tcp": [{"HostIp": "x", "HostPort": "1"}]}},
            'invalid IP address: "x"',
        ),
    ],
)
def test_what_cannot_be_had(host: dict[str, Any], message: str) -> None:
    assert refused(lambda: wish(**host)) == message


def test_limits_and_servers_that_are_none() -> None:
    assert "is not one of" in refused(lambda: wish(Ulimits=[{"Name": "files", "Soft": 1}]))
    with pytest.raises(UsageError, match="is not an ip address"):
        wish(Dns=["1.1.1.1\noptions x"])


def test_hosts_by_address() -> None:
    config = wish(ExtraHosts=["a:1.2.3.4", "b:host-gateway", "c:[::1]"])
    assert config.add_hosts == (("a", "1.2.3.4"), ("b", "host-gateway"), ("c", "::1"))


def test_a_container_without_a_network() -> None:
    """`NetworkDisabled` takes something away: it is not left out."""
    assert wish(top={"NetworkDisabled": True}, NetworkMode="bridge").network == "none"


def test_lists_leave_out_what_is_removed_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list is no place for the refusal that a container is not there."""
    config = ContainerConfig(
        id="a" * 64, name="n", image="i", manifest="", deltas=(), health=HealthCheck(("CMD", "x"))
    )
    gone = Container(str(tmp_path / "gone"), config)
    with Store.open(tmp_path / "store", SystemClock()) as store:
        containers = Containers(store)
        monkeypatch.setattr(containers, "list", lambda: [gone])
        assert list(containers.states()) == []
    assert gone.health_status() == ""


def _damaged(kind: str) -> Iterable[bytes]:
    import bz2
    import lzma

    data = bytes(range(256)) * 256
    packed = {
        "gz": zlib.compress(data, wbits=31),
        "bz2": bz2.compress(data),
        "xz": lzma.compress(data),
    }
    yield packed[kind][:200]
    yield packed[kind][:100] + b"\xff" * 100


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_damaged_contexts_are_refused(kind: str, tmp_path: Path) -> None:
    for number, data in enumerate(_damaged(kind)):
        scratch = tmp_path / str(number)
        scratch.mkdir()
        (scratch / "archive").write_bytes(data)
        with pytest.raises(UsageError, match="no archive"):
            unpack_context(str(scratch / "archive"), str(scratch))


def test_ports_without_end() -> None:
    """Ranges are short to write: a small body is not made into millions of ports."""
    nothing: dict[str, Any] = {}
    exposed = {f"1-{65535 - number}/tcp": nothing for number in range(9)}
    bindings = {"1-65535/tcp": [nothing] * 9}
    for act in (
        lambda: wish(top={"ExposedPorts": exposed}),
        lambda: wish(NetworkMode="n", PortBindings=bindings),
    ):
        assert refused(act) == "more ports were named than there are"


def test_what_a_build_cannot_be_given() -> None:
    """An image is tagged by no digest."""
    query = Query({"t": [f"x@sha256:{'a' * 64}"]})
    assert refused(lambda: building.request_of(query, "/c")).startswith("refusing to create a tag")


def test_names_longer_than_files_have(tmp_path: Path) -> None:
    """They are the client's fault, and those that nothing has are not found."""
    name = "a" * 256
    config = ContainerConfig(id="ab" * 32, name=name, image="i", manifest="", deltas=())
    with Store.open(tmp_path / "store", SystemClock()) as store:
        volumes, containers = Volumes(store), Containers(store)
        with pytest.raises(UserError, match="too long"):
            volumes.create(name, driver="", options={}, labels={})
        with pytest.raises(UserError, match="no such volume"):
            volumes.find(name)
        with pytest.raises(UserError, match="Invalid container name"):
            containers.create(config)
        assert containers.create(config._replace(name=name[1:])).config.name == name[1:]
