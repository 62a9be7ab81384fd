"""Compose files are definitions of the services that are built."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pybuild.bake.composefile import dotenv, environment_with_file, interpolated
from pybuild.bake.prepare import cleaned
from pybuild.bake.printing import printed
from pybuild.model.errors import UserError
from tests.bake.scopes import definition

ENVIRONMENT = {"TAG": "v1", "EMPTY": "", "FROM_OUTSIDE": "o"}


def targets(*texts: str) -> dict[str, dict[str, object]]:
    names = ("compose.yaml", "compose.override.yaml")
    made = definition(*texts, names=names, environment=ENVIRONMENT)
    return dict(
        json.loads(printed(cleaned(made.select(["default"], (), dict[str, str]().get), {})))[
            "target"
        ]
    )


def test_a_service_is_a_target_with_all_that_its_build_says() -> None:
    made = targets("""
services:
  db: {image: "postgres"}
  web.app:
    image: "web:${TAG}"
    environment: {OWN: own}
    build:
      context: ./web
      dockerfile: ../Dockerfile.web
      target: run
      args: [A=1, OWN, FROM_OUTSIDE, NOWHERE]
      labels: {a: 1, b: true}
      cache_from: [web:cache, "type=local,src=c"]
      cache_to: ["type=local,dest=c"]
      extra_hosts: ["db:10.0.0.1", "v6=[::1]"]
      additional_contexts: {base: "service:lib.base", docs: ./docs/}
      network: none
      no_cache: true
      pull: true
      platforms: [linux/amd64]
      secrets: [token, {source: cert, target: x}]
      ssh: [default, "k=./key"]
      shm_size: 128m
      ulimits: {nproc: 5, nofile: {soft: 1, hard: 2}}
      sbom: true
      provenance: mode=max
      x-bake:
        tags: [more:1]
        output: type=docker
        no-cache-filter: [run]
        contexts: {extra: ./extra}
  lib.base: {build: {dockerfile_inline: "FROM scratch"}}
secrets:
  token: {environment: TOKEN}
  cert: {file: ./cert.pem}
""")
    assert made["web_app"] == {
        "args": {"A": "1", "FROM_OUTSIDE": "o", "OWN": "own"},
        "attest": [
            {"type": "sbom"},
            {"mode": "max", "type": "provenance"},
        ],
        "cache-from": [
            {"ref": "web:cache", "type": "registry"},
            {"src": "c", "type": "local"},
        ],
        "cache-to": [{"dest": "c", "type": "local"}],
        "context": "web",
        "contexts": {"base": "target:lib_base", "docs": "docs", "extra": "extra"},
        "dockerfile": "../Dockerfile.web",
        "extra-hosts": {"db": "10.0.0.1", "v6": "::1"},
        "labels": {"a": "1", "b": "true"},
        "network": "none",
        "no-cache": True,
        "no-cache-filter": ["run"],
        "output": [{"type": "docker"}],
        "platforms": ["linux/amd64"],
        "pull": True,
        "secret": [{"id": "token", "env": "TOKEN"}, {"id": "cert", "src": "./cert.pem"}],
        "shm-size": "128MiB",
        "ssh": [{"id": "default"}, {"id": "k", "paths": ["./key"]}],
        "tags": ["more:1"],
        "target": "run",
        "ulimits": ["nofile=1:2", "nproc=5:5"],
    }
    assert made["lib_base"] == {
        "context": ".",
        "dockerfile": "Dockerfile",
        "dockerfile-inline": "FROM scratch",
    }
    assert "db" not in made


def test_a_file_is_laid_over_the_one_before_it_and_services_extend_others() -> None:
    made = targets(
        """
services:
  base: {build: {context: a, args: {x: 1, y: 1}, tags: [one]}}
  app: {extends: base, build: {args: {y: 2}}}
""",
        "services: {base: {build: {tags: [two]}}, app: {image: 'app:1'}}",
    )
    assert made["base"]["tags"] == ["one", "two"]
    assert made["app"]["args"] == {"x": "1", "y": "2"}
    assert made["app"]["context"] == "a"
    assert made["app"]["tags"] == ["one", "two"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[]", "empty compose file"),
        ("services: [a]", "mapping of mappings"),
        ("services: {a: b}", "mapping of mappings"),
        ("services: {a: {}}", "neither an image nor a build"),
        ("services: {a: {build: {contxt: x}}}", "build has no field contxt"),
        ("services: {a: {build: [x]}}", "a path or a mapping"),
        ("services: {a: {build: {secrets: [s]}}}", "undefined build secret s"),
        ("services: {a: {build: {secrets: [s]}}}\nsecrets: {s: {external: true}}", "external"),
        ("services: {a: {build: ., extends: b}}", "which is not there"),
        ("services: {a: {extends: b}, b: {extends: a}}", "extends itself"),
        ("services: {'a b': {build: .}}", "invalid name"),
        ("services: {a: {build: '${NOSUCH:?set it}'}}", "NOSUCH is missing a value: set it"),
        ("services: {a: {build: '${TAG!}'}}", "invalid interpolation format"),
        ("services: {a: {build: {x-bake: [a]}}}", "x-bake is a mapping"),
        ("services: {a: {build: {shm_size: lots}}}", "shm_size"),
        ("a: b: c", "failed to parse compose.yaml"),
        ("&a [*a]", "empty compose file"),
        ("services: &a {a: *a}", "nests too deeply"),
        (
            "\n".join(
                ["services: {}", "a0: &a0 [x, x]"]
                + [
                    f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}, *a{n - 1}]"
                    for n in range(1, 40)
                ]
            ),
            "is too large",
        ),
    ],
)
def test_what_is_no_compose_file_is_refused(text: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        targets(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$TAG-${TAG}", "v1-v1"),
        ("$$TAG", "$TAG"),
        ("${NOSUCH}", ""),
        ("${NOSUCH:-d}${EMPTY:-e}${EMPTY-x}", "de"),
        ("${NOSUCH:-${TAG}-x}", "v1-x"),
        ("${TAG:+set}${EMPTY:+no}${EMPTY+yes}", "setyes"),
        ("${TAG?}", "v1"),
    ],
)
def test_variables_are_filled_in_as_compose_does(text: str, value: str) -> None:
    assert interpolated(text, ENVIRONMENT.get) == value


def test_the_environment_wins_over_the_file_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        "# comment\nexport A=1\nB='$A'\nC=\"${A}\\n\"\nTAG=file\nD=x # why\nno line\n"
    )
    made = environment_with_file(ENVIRONMENT, str(tmp_path))
    assert made == {**ENVIRONMENT, "A": "1", "B": "$A", "C": "1\n", "D": "x"}
    assert environment_with_file(ENVIRONMENT, str(tmp_path / "nosuch")) == ENVIRONMENT
    assert dotenv("A=1\nB=${A}2", dict[str, str]().get) == {"A": "1", "B": "12"}
