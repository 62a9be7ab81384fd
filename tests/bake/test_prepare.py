"""A target is asked for by the flags that a build of it would have."""

from __future__ import annotations

import pytest

from pybuild.bake.prepare import check_known, cleaned, flags_of
from pybuild.model.errors import UserError
from tests.bake.scopes import definition


def flags(fields: str) -> dict[str, list[str]]:
    made = definition(f'target "a" {{\n{fields}\n}}\n')
    return flags_of(
        cleaned(made.select(["a"], (), dict[str, str]().get), {"SOURCE_DATE_EPOCH": "7"}).targets[
            "a"
        ]
    )


def test_every_field_is_a_flag() -> None:
    made = flags("""
        annotations = ["index:a=b"]
        args = { x = "1", y = null }
        attest = ["type=provenance,mode=max", { type = "sbom", disabled = "true" }]
        cache-from = ["ref"]
        cache-to = [{ type = "local", dest = "a,b" }]
        context = "sub"
        contexts = { lib = "./lib", base = "target:base", here = "cwd://x" }
        entitlements = ["network.host"]
        extra-hosts = { db = "10.0.0.1" }
        labels = { l = "v" }
        network = "none"
        no-cache = true
        no-cache-filter = ["s"]
        output = ["type=image,push=true", "out"]
        platforms = ["linux/amd64", "linux/arm64"]
        pull = true
        resources = { memory = "1g", cpu-shares = 5 }
        secret = ["id=s,env=S"]
        shm-size = "1m"
        ssh = ["default", "k=a,b"]
        tags = ["t"]
        target = "stage"
        ulimits = ["nofile=1"]
        }
        target "base" {
    """)
    assert made == {
        "add-host": ["db=10.0.0.1"],
        "allow": ["network.host"],
        "annotation": ["index:a=b"],
        "attest": ["type=provenance,mode=max", "type=sbom,disabled=true"],
        "build-arg": ["SOURCE_DATE_EPOCH=7", "x=1"],
        "build-context": ["here=x", "lib=./lib"],
        "cache-from": ["type=registry,ref=ref"],
        "cache-to": ['type=local,"dest=a,b"'],
        "file": ["sub/Dockerfile"],
        "label": ["l=v"],
        "network": ["none"],
        "no-cache": ["true"],
        "no-cache-filter": ["s"],
        "output": ["type=image,push=true", "type=local,dest=out"],
        "platform": ["linux/amd64,linux/arm64"],
        "pull": ["true"],
        "resource": ["memory=1g", "cpu-shares=5"],
        "secret": ["id=s,env=S"],
        "shm-size": ["1m"],
        "ssh": ["default", "k=a,b"],
        "tag": ["t"],
        "target": ["stage"],
        "ulimit": ["nofile=1"],
    }


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ('context = "a/../b/"', "b/Dockerfile"),
        ('context = "cwd://"', "Dockerfile"),
        ('context = "b"\ndockerfile = "../D"', "D"),
        ('dockerfile = "/etc/D"', "/etc/D"),
        ('context = "https://git.example/x.git"\ndockerfile = "sub/D"', "sub/D"),
    ],
)
def test_a_dockerfile_is_in_its_context(fields: str, path: str) -> None:
    assert flags(fields)["file"] == [path]


def test_a_dockerfile_in_the_definition_is_no_file() -> None:
    assert "file" not in flags('dockerfile-inline = "FROM scratch"')


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ('call = "check"', "call is not done"),
        ('policy = [{ filename = "p.rego" }]', "policy is not done"),
        ('call = "build"', ""),
        ('policy = ["disabled=true"]', ""),
    ],
)
def test_what_no_build_does_is_refused_not_left_out(fields: str, problem: str) -> None:
    made = definition(f'target "a" {{\n{fields}\n}}\n').target("a")
    if not problem:
        check_known(made)
        return
    with pytest.raises(UserError, match=problem) as caught:
        check_known(made)
    assert caught.value.hints
