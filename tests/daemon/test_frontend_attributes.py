"""The attributes of a frontend's request: each has its place, and what is wrong is quoted [6, 7.2]."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from pybuild.daemon.frontend.attrs import UnsupportedCap, default_platform, read_attrs
from pybuild.engine.host import native_platform
from pybuild.model.errors import UsageError


@pytest.mark.parametrize(
    ("given", "filename", "named", "dockerfile_key"),
    [
        ({}, "Dockerfile", False, "dockerfile"),
        ({"filename": ""}, "Dockerfile", False, "dockerfile"),
        ({"filename": "Dockerfile"}, "Dockerfile", False, "dockerfile"),
        ({"filename": "D"}, "D", True, "dockerfile"),
        ({"context": "https://x"}, "Dockerfile", False, ""),
        ({"context": "https://x", "dockerfilekey": "d"}, "Dockerfile", False, "d"),
        ({"dockerfilekey": "d"}, "Dockerfile", False, "d"),
    ],
)
def test_the_dockerfile_is_in_the_context_from_elsewhere_or_the_clients_directory(
    given: Mapping[str, str], filename: str, named: bool, dockerfile_key: str
) -> None:
    attrs = read_attrs(given)
    assert (attrs.filename, attrs.named, attrs.dockerfile_key) == (filename, named, dockerfile_key)
    assert attrs.context == given.get("context", "")


def test_each_attribute_has_its_place() -> None:
    attrs = read_attrs(
        {
            "target": "t",
            "contextkey": "c",
            "contextsubdir": "sub",
            "build-arg:A": "1",
            "build-arg:": "nothing",
            "label:l": "x",
            "context:base": "docker-image://x",
            "input-metadata:base": "{}",
            "local-sessionid:context": "s",
            "requestid": "frontend.lint",
            "image-resolve-mode": "pull",
            "multi-platform": "T",
        }
    )
    assert (attrs.target, attrs.context_key, attrs.context_subdir) == ("t", "c", "sub")
    assert (attrs.build_args, attrs.labels) == ({"A": "1"}, {"l": "x"})
    assert attrs.named_contexts == {"base": "docker-image://x"}
    assert attrs.input_metadata == {"base": "{}"}
    assert attrs.local_sessions == {"context": "s"}
    assert (attrs.request, attrs.pull, attrs.as_index) == ("frontend.lint", True, True)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", False),
        ("0", False),
        ("False", False),
        ("f", False),
        ("1", True),
        ("TRUE", True),
        ("t", True),
    ],
)
def test_flags_are_those_of_go(text: str, value: bool) -> None:
    assert read_attrs({"multi-platform": text}).as_index is value


@pytest.mark.parametrize(
    ("text", "everything", "stages"),
    [
        (None, False, frozenset[str]()),
        ("", True, frozenset[str]()),
        (",", True, frozenset[str]()),
        ("A,,b", False, frozenset(("a", "b"))),
    ],
)
def test_stages_without_a_cache_are_named_or_all(
    text: str | None, everything: bool, stages: frozenset[str]
) -> None:
    attrs = read_attrs({} if text is None else {"no-cache": text})
    assert (attrs.no_cache, attrs.no_cache_filter) == (everything, stages)


@pytest.mark.parametrize(
    ("mode", "pull"), [("", True), ("default", True), ("pull", True), ("local", False)]
)
def test_registries_are_asked_unless_the_image_here_will_do(mode: str, pull: bool) -> None:
    assert read_attrs({"image-resolve-mode": mode}).pull is pull


def test_caches_are_those_of_the_list_and_then_the_short_ones() -> None:
    entries = [{"Type": "local", "Attrs": {"src": "d", "n": 1}}, {"Attrs": None}]
    attrs = read_attrs({"cache-imports": json.dumps(entries), "cache-from": "a,,b"})
    assert attrs.cache_imports == (
        ("local", {"src": "d", "n": "1"}),
        ("", {}),
        ("registry", {"ref": "a"}),
        ("registry", {"ref": "b"}),
    )
    with pytest.raises(UsageError) as caught:
        read_attrs({"cache-imports": "{" * 100})
    assert caught.value.message == "failed to unmarshal cache-imports: " + "{" * 80


def test_attestations_come_as_attributes_or_as_build_arguments() -> None:
    assert not read_attrs({}).attestations
    asked = read_attrs({"attest:provenance": "type=provenance,mode=min"}).attestations
    assert asked.provenance is not None and not asked.provenance.full and asked.sbom is None
    asked = read_attrs({"build-arg:BUILDKIT_ATTEST_PROVENANCE": "mode=max"}).attestations
    assert asked.provenance is not None and asked.provenance.full
    assert not read_attrs({"attest:sbom": "false"}).attestations
    assert not read_attrs(
        {"attest:provenance": "true", "build-arg:BUILDKIT_ATTEST_PROVENANCE": "false"}
    ).attestations
    with pytest.raises(UsageError, match='unknown attestation type "x"'):
        read_attrs({"attest:X": "true"})


def test_one_platform_is_the_first_or_this_machines() -> None:
    assert default_platform(read_attrs({"platform": "linux/s390x,linux/arm64"})).arch == "s390x"
    assert default_platform(read_attrs({})) == native_platform()


def test_what_is_wrong_with_attributes_is_quoted() -> None:
    for given, words in (
        ({"image-resolve-mode": "x"}, "invalid image-resolve-mode: x"),
        ({"multi-platform": "yes"}, "invalid boolean value yes for multi-platform"),
        ({"frontend.caps": "x+forward"}, "unsupported frontend capability x"),
    ):
        with pytest.raises(UsageError) as caught:
            read_attrs(given)
        assert caught.value.message == words
    names = ("inputs", "subrequests", "contexts", "gitquerystring")
    assert read_attrs({"frontend.caps": ",".join(f"moby.buildkit.frontend.{n}" for n in names)})
    with pytest.raises(UnsupportedCap):
        read_attrs({"frontend.caps": "inputs"})
