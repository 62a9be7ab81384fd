"""Challenges and scopes [REG-5]; manifests and platforms as hostile bytes [IMG-20, DST-2]."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybuild.model.descriptor import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.platform import Platform
from pybuild.registry.client.challenge import Challenge, Scopes, parse_challenges, push_scope
from pybuild.registry.client.faults import ContentFault
from pybuild.registry.client.manifests import media_type_of, verify
from pybuild.registry.client.pull import candidates
from tests import watchdog

CHALLENGES: list[tuple[str, list[tuple[str, dict[str, str]]]]] = [
    (
        'Bearer realm="https://a/t?x=1",service="s",scope="repository:a/b:pull,push"',
        [("bearer", {"realm": "https://a/t?x=1", "service": "s"})],
    ),
    ('Basic realm="a \\"quoted\\" one"', [("basic", {"realm": 'a "quoted" one'})]),
    ("Negotiate, Basic realm=x", [("negotiate", {}), ("basic", {"realm": "x"})]),
    (
        'BASIC Realm="a, Bearer b", bearer realm="c"',
        [("basic", {"realm": "a, Bearer b"}), ("bearer", {"realm": "c"})],
    ),
    ('Bearer realm="unterminated', [("bearer", {})]),
    ("=;=", []),
]


@pytest.mark.parametrize(("header", "expected"), CHALLENGES)
def test_challenges_are_read(header: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    found = parse_challenges([header])
    assert [c.scheme for c in found] == [scheme for scheme, _ in expected]
    for challenge, (_, parameters) in zip(found, expected, strict=True):
        assert parameters.items() <= challenge.parameters.items()


@pytest.mark.slow
@given(st.text(alphabet=' \t,=";\\aB1/é', max_size=40))
@settings(max_examples=100, deadline=None)
def test_any_header_is_read_without_error(text: str) -> None:
    assert all(isinstance(c, Challenge) for c in parse_challenges([text]))


def test_hostile_header_takes_linear_time() -> None:
    with watchdog.ends():  # a quadratic reading takes minutes
        assert parse_challenges([" " * 200_000 + "\x00", 'a="' + "\\" * 200_001]) == []


def test_scopes_merge_and_cover() -> None:
    push = push_scope("a/b", "c/d")
    assert push.texts() == ["repository:a/b:pull,push", "repository:c/d:pull"]
    assert push.covers(Scopes.parse("repository:a/b:pull"))
    assert not push.covers(Scopes.parse("repository:c/d:push"))
    both = Scopes.parse("repository:a/b:push", "repository:a/b:pull")
    assert both == Scopes.parse("repository:a/b:pull,push")


@pytest.mark.parametrize(
    ("content_type", "value", "words"),
    [
        (OCI_MANIFEST, {"manifests": [], "layers": []}, "both an index and a manifest"),
        (OCI_MANIFEST, {"mediaType": OCI_INDEX, "manifests": []}, "calls itself"),
        (OCI_INDEX, {"layers": [], "config": {}}, "does not fit media type"),
        ("text/html", {"a": 1}, 'media type "text/html" is not an image or an index'),
        (OCI_MANIFEST, [], "is not a JSON object"),
        (OCI_MANIFEST, {"mediaType": 7, "layers": []}, "mediaType is not a text"),
    ],
)
def test_ambiguous_manifests_are_refused(content_type: str, value: object, words: str) -> None:
    """Also CVE-2021-41190: one digest, two readings."""
    with pytest.raises(ContentFault, match=words):
        media_type_of("x", content_type, json.dumps(value).encode())


def test_media_type_is_found_where_the_server_does_not_say_it() -> None:
    image = json.dumps({"schemaVersion": 2, "config": {}, "layers": []}).encode()
    assert media_type_of("x", "application/json", image) == OCI_MANIFEST
    named = json.dumps({"mediaType": DOCKER_MANIFEST, "layers": []}).encode()
    assert media_type_of("x", "", named) == DOCKER_MANIFEST


def test_deep_json_is_refused_not_crashed_on() -> None:
    with pytest.raises(ContentFault):
        media_type_of("x", OCI_MANIFEST, b"[" * 100_000)


def test_digest_and_size_are_both_checked() -> None:
    digest = Digest.of(b"abc")
    verify("x", b"abc", digest, 3)
    with pytest.raises(ContentFault, match="after 3 of 4 bytes"):
        verify("x", b"abc", digest, 4)
    with pytest.raises(ContentFault, match="got sha256:"):
        verify("x", b"abd", digest, 3)


def test_best_platform_first_and_attestations_never() -> None:
    """[IMG-19, IMG-20]"""

    def entry(name: str, platform: str | None) -> Descriptor:
        known = None if platform is None else Platform(*platform.split("/"))
        return Descriptor(OCI_MANIFEST, Digest.of(name.encode()), 1, platform=known)

    v6, v7, v8 = entry("6", "linux/arm/v6"), entry("7", "linux/arm/v7"), entry("8", "linux/arm/v8")
    none, proof = entry("none", None), entry("proof", "unknown/unknown")
    found = candidates([none, proof, v8, v6, v7], Platform.parse("linux/arm/v7"))
    assert found == [v7, v6, none]


@pytest.mark.slow
def test_no_module_of_the_room_imports_aiohttp_by_itself() -> None:
    """It costs more than a whole cached build."""
    program = (
        "import sys, pybuild.registry.client.pull, pybuild.registry.client.push, pybuild.registry.client.credentials\n"
        "sys.exit('aiohttp' in sys.modules or 'yarl' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
