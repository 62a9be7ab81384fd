"""The manifests for Kubernetes: their commands, certificates, names and volumes fit each other and us."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from pybuild.cluster import commands
from pybuild.cluster.certificates import Certificates
from pybuild.cluster.clusterfile import read_cluster
from pybuild.commandline import find
from pybuild.commandline.parser import Parsed, parse
from pybuild.engine.settings import Settings
from tests.harness import ROOT

MANIFESTS = ROOT / "recipes/kubernetes/cluster.yaml"
GUIDE = ROOT / "docs/guides/cluster.md"
TLS = ("tlscacert", "tlscert", "tlskey")


def parsed(name: str, *words: str) -> Parsed:
    command = find(name)
    assert command is not None
    return parse(words, command.options)


@pytest.fixture
def objects() -> dict[str, dict[str, Any]]:
    documents = yaml.safe_load_all(MANIFESTS.read_text())
    return {document["kind"]: document for document in documents}


@pytest.fixture
def cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the certificates of the guide."""
    monkeypatch.chdir(tmp_path)
    certs, *secrets = (
        shlex.split(line.removeprefix("$ "))
        for line in GUIDE.read_text().splitlines()
        if line.startswith(("$ pybuild cluster certs", "$ kubectl create secret"))
    )
    assert commands.certs(parsed("cluster certs", *certs[3:])) == 0
    named = [word.removeprefix("--from-file=") for word in secrets[0] if "=cell/" in word]
    assert all((tmp_path / name).is_file() for name in named)
    return tmp_path / "cell"


def container_of(pod: dict[str, Any]) -> dict[str, Any]:
    """Return the one container of a pod without privilege, all of whose volumes there are."""
    containers: list[dict[str, Any]] = pod["spec"]["containers"]
    (container,) = containers
    assert container["command"] == ["pybuild"]
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "privileged": False}
    assert pod["spec"]["securityContext"] == {"seccompProfile": {"type": "RuntimeDefault"}}
    return container


def test_each_worker_is_one_that_builds_know(
    objects: dict[str, dict[str, Any]], cell: Path
) -> None:
    stateful, service = objects["StatefulSet"], objects["Service"]
    pod = stateful["spec"]["template"]
    container = container_of(pod)
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    volumes = {one["name"] for one in pod["spec"]["volumes"]}
    assert mounts == volumes | {
        claim["metadata"]["name"] for claim in stateful["spec"]["volumeClaimTemplates"]
    }
    labels = pod["metadata"]["labels"]
    assert labels == stateful["spec"]["selector"]["matchLabels"] == service["spec"]["selector"]
    assert stateful["spec"]["serviceName"] == service["metadata"]["name"]
    addresses: list[str] = []
    for number in range(stateful["spec"]["replicas"]):
        name = f"{stateful['metadata']['name']}-{number}"
        addresses.append(f"tcp://{name}.{service['metadata']['name']}:8373")
        command, *words = (word.replace("$(POD)", name) for word in container["args"])
        given = parsed(command, *words)
        assert given.many("addr") == ["tcp://0.0.0.0:8373"]
        paths = (given.one(name).replace("/cell", str(cell)) for name in TLS)
        Certificates(**dict(zip(("ca", "cert", "key"), paths, strict=True))).server()
    (cell / "cluster.toml").write_text(objects["ConfigMap"]["data"]["cluster.toml"])
    members, local = read_cluster(str(cell / "cluster.toml"), Settings(root=str(cell / "store")))
    assert list(members.addresses) == addresses
    assert local is None
    assert members.certificates.client() is not None


def test_the_build_is_a_command_of_ours(objects: dict[str, dict[str, Any]]) -> None:
    pod = objects["Job"]["spec"]["template"]
    container = container_of(pod)
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in pod["spec"]["volumes"]}
    command, *words = container["args"]
    assert parsed(command, *words).one("cluster") == "/cell/cluster.toml"
