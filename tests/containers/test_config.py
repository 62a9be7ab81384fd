"""A container's config: it comes back from its file as it was written [MON-2]."""

from __future__ import annotations

import json

from pybuild.containers.config import ContainerConfig
from pybuild.containers.order import HealthCheck, LogConfig, RestartPolicy
from pybuild.executor.steps.spec import StepLimits
from pybuild.volumes.reading import read_bind, read_mount

PLAIN = ContainerConfig(id="a" * 64, name="one", image="base", manifest="sha256:1", deltas=())
FULL = ContainerConfig(
    id="b" * 64,
    name="two",
    image="base",
    manifest="sha256:2",
    image_id="sha256:3",
    deltas=("layer-1", "layer-2"),
    created=5,
    entrypoint=("sh", "-c"),
    cmd=("true",),
    env=("A=b",),
    labels={"a": "b"},
    tty=True,
    stop_seconds=2.5,
    health=HealthCheck(("CMD", "true"), retries=7),
    add_hosts=(("name", "10.0.0.1"),),
    mounts=(read_bind("/a:/b:ro"), read_mount("src=vol,dst=/c,volume-label=x=y")),
    restart=RestartPolicy("on-failure", 3),
    log=LogConfig("local", {"max-size": "1m"}),
    limits=StepLimits(memory_bytes=7),
    ulimits=(("nofile", 1, 2),),
)


def test_it_comes_back_as_it_was() -> None:
    for config in (PLAIN, FULL):
        assert ContainerConfig.of_json(config.to_json().encode()) == config


def test_the_first_process_is_the_entrypoint_with_the_command() -> None:
    assert FULL.args == ("sh", "-c", "true")
    assert PLAIN.args == ()


def test_what_another_version_wrote_is_read_as_far_as_it_is_known() -> None:
    document = json.loads(FULL.to_json())
    document["later"] = 1
    document["restart"]["later"] = 1
    document["mounts"][0]["later"] = 1
    del document["shm_bytes"]
    assert ContainerConfig.of_json(json.dumps(document).encode()) == FULL
