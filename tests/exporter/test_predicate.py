"""SLSA predicates: what each mode and version tells [ATT-1, ATT-2]."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pybuild.buildkit.llb.described import DescribedSteps
from pybuild.executor.proxies.record import Uncaptured
from pybuild.exporter.attest.frontendrequest import FrontendRequest, filter_args, with_root
from pybuild.exporter.attest.options import V02, Provenance
from pybuild.exporter.attest.predicate import Facts, IncompleteMaterials, predicate
from pybuild.exporter.attest.sources import UncapturedRequest, UsedSources
from pybuild.model.errors import UserError
from pybuild.model.platform import LINUX_AMD64

COMMIT = "c0" * 20
ARGS = {
    "build-arg:FOO": "bar",
    "label:l": "x",
    "target": "app",
    "filename": "my.Dockerfile",
    "platform": "linux/arm64",
    "attest:provenance": "mode=max",
    "context:foo": "https://u:p@example.invalid/foo",
    "vcs:source": "https://u:p@example.invalid/repo.git",
    "vcs:revision": "123",
}
STEPS: list[dict[str, Any]] = [{"id": "step0", "op": {"Op": {}}}]


def facts(args: dict[str, str] | None = None, **more: Any) -> Facts:
    sources = more.pop("sources", UsedSources(locals={"context"}, secrets={"token": False}))
    asked = FrontendRequest(frontend="dockerfile.v0", args=ARGS if args is None else args)
    given: dict[str, Any] = {
        "document": asked.document(sources),
        "sources": sources,
        "definition": DescribedSteps(
            steps=STEPS,
            digests={"sha256:x": "step0"},
            infos=[{"filename": "Dockerfile", "data": "eA=="}],
            locations={"step0": {}},
        ),
        "layers": {"step0:0": [[]]},
        "platform": LINUX_AMD64,
        "dockerfile_version": "1.2.3",
        "invocation": "id",
        "started": 0.0,
        "finished": 1.5,
        **more,
    }
    return Facts(**given)


def test_full_provenance_tells_arguments_steps_lines_and_layers() -> None:
    found = predicate(facts(), Provenance(builder_id="https://b.example", reproducible=True))
    build, run = found["buildDefinition"], found["runDetails"]
    request = build["externalParameters"]["request"]
    assert request == {
        "frontend": "dockerfile.v0",
        "args": {
            "build-arg:FOO": "bar",
            "context:foo": "https://xxxxx:xxxxx@example.invalid/foo",
            "label:l": "x",
            "target": "app",
        },
        "secrets": [{"id": "token"}],
        "locals": [{"name": "context"}],
    }
    assert build["externalParameters"]["configSource"] == {"path": "my.Dockerfile"}
    assert build["internalParameters"]["builderPlatform"] == "linux/amd64"
    assert build["internalParameters"]["dockerfileVersion"] == "1.2.3"
    assert build["internalParameters"]["buildConfig"]["llbDefinition"] == STEPS
    assert run["builder"] == {"id": "https://b.example"}
    metadata = run["metadata"]
    assert metadata["invocationId"] == "id"
    assert metadata["startedOn"] == "1970-01-01T00:00:00Z"
    assert metadata["finishedOn"] == "1970-01-01T00:00:01.5Z"
    assert metadata["buildkit_completeness"] == {"request": True, "resolvedDependencies": False}
    assert metadata["buildkit_reproducible"] is True
    assert "buildkit_hermetic" not in metadata
    assert metadata["buildkit_metadata"] == {
        "vcs": {"source": "https://xxxxx:xxxxx@example.invalid/repo.git", "revision": "123"},
        "source": {
            "locations": {"step0": {}},
            "infos": [{"filename": "Dockerfile", "data": "eA=="}],
        },
        "layers": {"step0:0": [[]]},
    }


def test_min_leaves_out_values_secrets_steps_and_says_that_it_does() -> None:
    found = predicate(facts(), Provenance(full=False))
    request = found["buildDefinition"]["externalParameters"]["request"]
    assert request["args"] == {
        "context:foo": "https://xxxxx:xxxxx@example.invalid/foo",
        "target": "app",
    }
    assert "secrets" not in request
    assert "buildConfig" not in found["buildDefinition"]["internalParameters"]
    metadata = found["runDetails"]["metadata"]
    assert metadata["buildkit_completeness"]["request"] is False
    assert metadata["buildkit_metadata"].keys() == {"vcs"}


def test_min_is_complete_where_there_was_nothing_to_leave_out() -> None:
    found = predicate(facts({"target": "app"}), Provenance(full=False))
    assert found["runDetails"]["metadata"]["buildkit_completeness"]["request"] is True


def test_min_leaves_out_values_of_inputs_and_of_the_first_request_too() -> None:
    sources = UsedSources()
    inner = FrontendRequest(frontend="f", args={"build-arg:A": "1", "target": "t"}).document(
        sources
    )
    own = FrontendRequest(frontend="f", args={"label:x": "y"}, inputs={"in": inner}).document(
        sources
    )
    root = FrontendRequest(args={"build-arg:B": "2"}).document(sources)
    given = facts(document=with_root(own, root), sources=sources)
    request = predicate(given, Provenance(full=False))["buildDefinition"]["externalParameters"]
    assert "build-arg" not in str(request)
    assert request["request"]["inputs"]["in"]["request"]["args"] == {"target": "t"}


def test_a_repository_is_the_source_of_the_dockerfile_and_hermetic_without_network() -> None:
    url = "https://u:p@h.example/r.git#v1:src"
    sources = UsedSources(git={"https://xxxxx:xxxxx@h.example/r.git#v1": COMMIT})
    found = predicate(facts({"context": url}, sources=sources), Provenance())
    build = found["buildDefinition"]
    assert build["externalParameters"]["configSource"] == {
        "uri": "https://xxxxx:xxxxx@h.example/r.git#v1:src",
        "digest": {"sha1": COMMIT},
    }
    assert build["resolvedDependencies"] == [
        {"uri": "https://xxxxx:xxxxx@h.example/r.git#v1", "digest": {"sha1": COMMIT}}
    ]
    metadata = found["runDetails"]["metadata"]
    assert metadata["buildkit_hermetic"] is True
    with_network = replace(sources, network=True)
    found = predicate(facts({"context": url}, sources=with_network), Provenance())
    assert "buildkit_hermetic" not in found["runDetails"]["metadata"]


def test_version_0_2_says_the_same_in_its_own_words() -> None:
    given = facts(machine={"site": "x"})
    new, old = predicate(given, Provenance()), predicate(given, Provenance(version=V02))
    build = new["buildDefinition"]
    assert old["buildType"] == "https://mobyproject.org/buildkit@v1"
    assert old["invocation"] == {
        "configSource": {"entryPoint": "my.Dockerfile"},
        "parameters": build["externalParameters"]["request"],
        "environment": {"platform": "linux/amd64", "dockerfileVersion": "1.2.3", "site": "x"},
    }
    assert old["buildConfig"] == build["internalParameters"]["buildConfig"]
    metadata = old["metadata"]
    assert metadata["buildInvocationID"] == "id"
    assert metadata["completeness"] == {
        "parameters": True,
        "environment": True,
        "materials": False,
    }
    run = new["runDetails"]["metadata"]
    assert metadata["https://mobyproject.org/buildkit@v1#metadata"] == run["buildkit_metadata"]


def test_a_first_request_is_told_only_where_it_was_another() -> None:
    own = FrontendRequest(frontend="f", args={"target": "t"}).document(UsedSources())
    assert with_root(own, own) is own
    assert with_root(own, FrontendRequest(args={"attest:sbom": ""}).document(UsedSources())) is own
    root = FrontendRequest(args={"a": "b"}).document(UsedSources())
    assert with_root(own, root)["request"]["root"] == root


def test_incomplete_materials_fail_where_they_have_to_be_complete() -> None:
    with pytest.raises(UserError, match="provenance materials are incomplete: context"):
        predicate(facts(), Provenance(complete_materials=True))


def test_arguments_of_the_machine_are_no_arguments_of_the_build() -> None:
    assert filter_args({"platform": "x", "cache-imports": "[]", "attest:sbom": "", "a": "b"}) == {
        "a": "b"
    }


def test_a_proxy_of_the_steps_is_told_and_what_it_could_not_capture() -> None:
    sources = UsedSources(proxied=True, network=True)
    run = predicate(facts(sources=sources), Provenance())["runDetails"]["metadata"]
    assert run["buildkit_metadata"]["network"] == {"mode": "proxy"}
    missed = UncapturedRequest(
        "sha256:s", "curl x", Uncaptured("GET", "http://h/b", "upstream_error")
    )
    sources.uncaptured.append(missed)
    run = predicate(facts(sources=sources), Provenance())["runDetails"]["metadata"]
    assert run["buildkit_metadata"]["network"]["proxy"]["incomplete"] == [
        {
            "op": "sha256:s",
            "name": "curl x",
            "method": "GET",
            "uri": "http://h/b",
            "reason": "upstream_error",
        }
    ]
    assert run["buildkit_completeness"]["resolvedDependencies"] is False
    asks = r"materials are incomplete: GET http://h/b \(upstream_error\)$"
    with pytest.raises(IncompleteMaterials, match=asks) as caught:
        predicate(facts(sources=sources), Provenance(complete_materials=True))
    assert caught.value.uncaptured == [missed]
