"""Docker's API shows back what clients give it, also what has no effect here [CTR-1, CTR-70, EP-5, EP-41]."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pybuild.containers.config import ContainerConfig
from pybuild.containers.environment import environment
from pybuild.containers.inspecting import ContainerDetails, document
from pybuild.containers.starting import NotExecuted
from pybuild.containers.state import ContainerState
from pybuild.daemon.rest.building import BuildLines, step_line
from pybuild.daemon.rest.creating import request_of
from pybuild.daemon.rest.fields import read_object
from pybuild.daemon.rest.networks import network_of
from pybuild.daemon.rest.progresslines import ProgressLines
from pybuild.daemon.rest.refusal import ApiRefusal, refusal_of
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault, PybuildError, UserError
from pybuild.model.events import LogStream, VertexLog
from pybuild.networks import networks

IMAGE: Mapping[str, Any] = {"Cmd": ["c"], "Env": ["PATH=/bin", "A=image"]}


def made(**top: Any) -> ContainerConfig:
    body = read_object(json.dumps({"Image": "i", **top}).encode())
    config = request_of(body, "name", IMAGE, {True: "", False: ""}).config
    return ContainerConfig.of_json(config.to_json().encode())


def shown(config: ContainerConfig) -> dict[str, Any]:
    where = ContainerDetails(path="/c", lowers=(), mountpoint=lambda name: "")
    return document(config, ContainerState(), where)


def test_fields_without_effect_are_shown_as_given() -> None:
    given = {
        "Isolation": "default",
        "VolumeDriver": "local",
        "ContainerIDFile": "/id",
        "Runtime": "runc",
        "Annotations": {"a": "b"},
        "PublishAllPorts": True,
        "VolumesFrom": ["one", "two:ro"],
    }
    host = shown(made(HostConfig=given))["HostConfig"]
    assert {name: host[name] for name in given} == given
    usual = shown(made())["HostConfig"]
    assert (usual["Runtime"], usual["Isolation"], usual["VolumesFrom"]) == ("pybuild", "", None)


def test_settings_of_networks_are_shown_as_given() -> None:
    """Those of the key ``default`` are of the network that this stands for."""
    place = {
        "DriverOpts": {"k": "v"},
        "Links": ["other:alias"],
        "IPAMConfig": {"LinkLocalIPs": ["169.254.8.8"]},
    }
    settings = {"EndpointsConfig": {"default": place, "back": {"Aliases": ["db"]}}}
    config = made(HostConfig={"NetworkMode": "front"}, NetworkingConfig=settings)
    assert shown(config)["NetworkSettings"]["Networks"]["back"]["DriverOpts"] is None
    config = made(
        HostConfig={"NetworkMode": "bridge"}, NetworkingConfig={"EndpointsConfig": {"x": place}}
    )
    assert (
        shown(config)["NetworkSettings"]["Networks"]["x"] | place
        == (shown(config)["NetworkSettings"]["Networks"]["x"])
    )


def test_a_field_that_is_only_shown_has_a_kind_too() -> None:
    with pytest.raises(ApiRefusal, match="cannot unmarshal number"):
        made(HostConfig={"Isolation": 1})


def test_a_variable_without_a_value_is_shown_and_is_none() -> None:
    """An empty list takes the image's away, and that of every container [CTR-1]."""
    config = made(Env=["A", "B=", "C=1"])
    assert config.env == ("A", "B=", "C=1", "PATH=/bin")
    assert environment("h", config.env, tty=False) == ("PATH=/bin", "HOSTNAME=h", "B=", "C=1")
    assert environment("h", ["HOSTNAME"], tty=True) == ("TERM=xterm",)


def test_reserved_addresses_keep_their_names(tmp_path: Path) -> None:
    order = network_of(
        read_object(
            b'{"Name":"test 01","IPAM":{"Config":[{"Subnet":"10.9.0.0/24",'
            b'"AuxiliaryAddresses":{"a":"10.9.0.5","b":"10.9.0.6"}}]}}'
        )
    )
    network = networks.Networks(str(tmp_path)).create(order)
    again = networks.Networks(str(tmp_path)).find("test 01")
    assert again == network and again.subnets[0].reserved == ("10.9.0.5", "10.9.0.6")
    pool = networks.inspection(again, ())["IPAM"]["Config"][0]
    assert pool["AuxiliaryAddresses"] == {"a": "10.9.0.5", "b": "10.9.0.6"}


@pytest.mark.parametrize("name", ["a ", " a", "a/b", "a\tb", "", "."])
def test_names_that_no_network_can_have(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        networks.Networks(str(tmp_path)).create(networks.NewNetwork(name=name))


def test_errors_of_steps_are_red_in_the_old_builders_lines() -> None:
    """Clients tell by the colour what a step wrote to its standard error."""
    lines = asyncio.run(_logged())
    assert lines == ["out\n", "\x1b[91merr\n\x1b[0m"]


async def _logged() -> list[str]:
    lines = ProgressLines()
    build = BuildLines(lines, quiet=False)
    vertex = Digest.of(b"v")
    for stream, data in ((LogStream.STDOUT, b"out\n"), (LogStream.STDERR, b"err\n")):
        build.show(VertexLog(vertex=vertex, time=0.0, stream=stream, data=data))
    return [json.loads(line)["stream"] for line in lines.rest().splitlines()]


def test_words_about_a_log_driver_that_there_is_not() -> None:
    with pytest.raises(UserError) as caught:
        made(HostConfig={"LogConfig": {"Type": "asdf"}})
    refusal = refusal_of(caught.value)
    assert (refusal.status, refusal.message) == (
        400,
        "logger: no log driver named 'asdf' is registered",
    )


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (f"[1/2] FROM docker.io/library/alpine:3@sha256:{'a' * 64}", "Step 1/2 : FROM alpine:3\n"),
        ("[linux/amd64 base 2/3] RUN a @b", "Step 2/3 : RUN a @b\n"),
        ("[internal] load build definition", ""),
        ("exporting to image", ""),
        ("", ""),
    ],
)
def test_steps_in_the_old_builders_words(name: str, line: str) -> None:
    """Clients look for the lines of the Dockerfile: of what else a build does there was no line."""
    assert step_line(name) == line


def test_an_unknown_filter_in_dockers_words() -> None:
    assert refusal_of(UserError('invalid filter "foo=bar"')).message == "invalid filter 'foo'"


def test_paths_that_are_hidden_are_dockers_own() -> None:
    """A client that wants more of them is to know that it does not get that."""
    made(HostConfig={"MaskedPaths": ["/proc/kcore"], "ReadonlyPaths": []})
    with pytest.raises(ApiRefusal, match="MaskedPaths /proc/cpuinfo is not done"):
        made(HostConfig={"MaskedPaths": ["/proc/kcore", "/proc/cpuinfo"]})
    with pytest.raises(ApiRefusal, match="ReadonlyPaths /srv is not done"):
        made(HostConfig={"ReadonlyPaths": ["/srv"]})


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (UserError("no such container: x"), 404, "No such container: x"),
        (UserError("get v: no such volume"), 404, "get v: no such volume"),
        (UserError("network x not found"), 404, "network x not found"),
        (
            UserError("several containers have ids that begin with a"),
            *(400, "multiple IDs found with provided prefix: a"),
        ),
        (UserError("container ab is not running"), 409, "Container ab is not running"),
        (
            UserError('container "n" is running', hints=["stop it"]),
            409,
            (
                'cannot remove container "/n": container is running: stop the container before '
                "removing or force remove"
            ),
        ),
        (UserError("anything else\nof two lines"), 400, "anything else of two lines"),
        (EnvironmentFault("no room"), 500, "no room"),
        (NotExecuted('exec: "x": not found', 127), 400, 'exec: "x": not found'),
    ],
)
def test_words_of_refusals(error: PybuildError, status: int, message: str) -> None:
    """Clients look for docker's words [ENG-20, ENG-21]."""
    refusal = refusal_of(error)
    assert (refusal.status, refusal.message) == (status, message)
