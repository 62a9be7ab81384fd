"""Builds as the parameters of `POST /build` describe them, for BuildKit's service and without it [EP-5]."""

from __future__ import annotations

import json

import pytest

from pybuild.daemon.rest.building import request_of, step_line
from pybuild.daemon.rest.query import Query
from pybuild.daemon.rest.refusal import ApiRefusal
from pybuild.daemon.rest.sessionbuilding import solve_request
from pybuild.model.ops import NetworkMode


def query(**given: str | list[str]) -> Query:
    return Query({name: [one] if isinstance(one, str) else one for name, one in given.items()})


def test_a_session_has_its_image_unless_other_results_are_wanted() -> None:
    plain = solve_request(query(session="s"), "ref")
    assert (plain.Ref, plain.Session, plain.Frontend) == ("ref", "s", "dockerfile.v0")
    assert [(one.Type, dict(one.Attrs)) for one in plain.Exporters] == [("moby", {})]
    assert plain.FrontendAttrs["context"].endswith("/ref")
    assert plain.FrontendAttrs["image-resolve-mode"] == "local"
    assert not plain.Cache.Exports
    named = solve_request(query(session="s", t=["a:1", "b"]), "ref")
    name = "docker.io/library/a:1,docker.io/library/b:latest"
    assert dict(named.Exporters[0].Attrs) == {"name": name}
    outputs = json.dumps([{"Type": "tar", "Attrs": {"dest": "x"}}])
    tree = solve_request(query(session="s", t=["a:1"], outputs=outputs), "ref")
    assert [(one.Type, dict(one.Attrs)) for one in tree.Exporters] == [("tar", {"dest": "x"})]
    nothing = solve_request(query(session="s", outputs='[{"Type": "cacheonly"}]'), "ref")
    assert not nothing.Exporters
    for given, message in (
        ({"outputs": "[{}, {}]", "session": "s"}, "multiple outputs not supported"),
        ({}, "a build by BuildKit needs a session"),
        ({"session": "s", "remote": "x"}, "is neither a git repository nor a URL"),
    ):
        with pytest.raises(ApiRefusal, match=message):
            solve_request(query(**given), "ref")


def test_the_frontend_hears_of_all_parameters() -> None:
    args = {"A": "1", "BUILDKIT_INLINE_CACHE": "1"}
    given = query(
        session="s", remote="https://example.com/a.git", dockerfile="D", target="x",
        platform="linux/arm64", nocache="1", pull="1", cachefrom='["c:1", "d:2"]', networkmode="none",
        buildargs=json.dumps(args), labels='{"l": "m"}', extrahosts=["h:1.2.3.4"], shmsize="1024", memory="4194304",
        ulimits='[{"Name": "nofile", "Soft": 64, "Hard": 128}]',
    )  # fmt: skip
    request = solve_request(given, "ref")
    attrs = dict(request.FrontendAttrs)
    wanted = {
        "context": "https://example.com/a.git", "filename": "D", "target": "x", "platform": "linux/arm64",
        "no-cache": "", "cache-from": "c:1,d:2", "image-resolve-mode": "pull", "build-arg:A": "1",
        "build-arg:BUILDKIT_INLINE_CACHE": "1", "label:l": "m",
    }  # fmt: skip
    assert {name: attrs.pop(name) for name in wanted} == wanted
    assert attrs["ulimit"] == "nofile=64:128"
    assert attrs["add-hosts"] == "h=1.2.3.4" and attrs["shm-size"] == "1024"
    assert [one.Type for one in request.Cache.Exports] == ["inline"]
    of_session = solve_request(query(session="s", remote="client-session"), "ref")
    assert "context" not in of_session.FrontendAttrs


def test_a_build_without_a_session_is_one_of_its_context() -> None:
    given = query(
        t=["a:1"], dockerfile="../D", target="x", buildargs='{"A": "1", "B": null}', nocache="1",
        platform="linux/arm64", networkmode="none", cpusetcpus="0", cpuquota="5000", memory="4194304", shmsize="9",
        ulimits="null",
    )  # fmt: skip
    request = request_of(given, "/context")
    assert (request.context, request.dockerfile) == ("/context", "/context/D")
    assert (request.build_args, request.target, request.no_cache, request.pull) == (
        {"A": "1"},
        "x",
        True,
        False,
    )
    assert list(map(str, request.platforms)) == ["linux/arm64"]
    steps = request.steps
    assert (steps.network, steps.shm_size_bytes, steps.ulimits) == (NetworkMode.NONE, 9, ())
    resources = steps.resources
    assert (resources.memory_bytes, resources.cpu_quota_us, resources.cpuset_cpus) == (
        4 << 20,
        5000,
        "0",
    )
    plain = request_of(query(), "https://example.com/a.git")
    assert (plain.dockerfile, plain.platforms) == ("Dockerfile", ())
    assert plain.steps.network is NetworkMode.DEFAULT


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("[1/2] RUN make all", "Step 1/2 : RUN make all\n"),
        ("[linux/arm64 stage 2/2] COPY a b", "Step 2/2 : COPY a b\n"),
        ("[1/2] FROM docker.io/library/a:1@sha256:00", "Step 1/2 : FROM a:1\n"),
        ("[1/2] RUN docker.io/x", "Step 1/2 : RUN docker.io/x\n"),
        ("[internal] load build context", ""),
        ("exporting", ""),
    ],
)
def test_steps_are_shown_in_old_words(name: str, line: str) -> None:
    assert step_line(name) == line


@pytest.mark.parametrize("text", ["x", "{}", "[1]", '[{"Name": "files"}]', '[{"Name": 1}]'])
def test_limits_of_processes_that_are_none(text: str) -> None:
    """They were passed over without a word: the steps ran without them."""
    with pytest.raises(ApiRefusal):
        request_of(query(ulimits=text), "/context")
