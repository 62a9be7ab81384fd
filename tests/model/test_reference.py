"""References as people write them [FROM-17]."""

from __future__ import annotations

import pytest

from pybuild.model.reference import Reference

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "whole", "familiar"),
    [
        ("x", "docker.io/library/x:latest", "x:latest"),
        ("x:1", "docker.io/library/x:1", "x:1"),
        ("a/b", "docker.io/a/b:latest", "a/b:latest"),
        ("index.docker.io/x", "docker.io/library/x:latest", "x:latest"),
        ("ghcr.io/a/b:1", "ghcr.io/a/b:1", "ghcr.io/a/b:1"),
        ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
        ("h:5000/x", "h:5000/x:latest", "h:5000/x:latest"),
        (f"x@{DIGEST}", f"docker.io/library/x@{DIGEST}", f"x@{DIGEST}"),
        (f"x:1@{DIGEST}", f"docker.io/library/x:1@{DIGEST}", f"x:1@{DIGEST}"),
    ],
)
def test_short_names_are_completed(text: str, whole: str, familiar: str) -> None:
    reference = Reference.parse(text)
    assert (str(reference), reference.familiar) == (whole, familiar)
    assert Reference.parse(whole) == reference


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("X", r"repository name \(library/X\) must be lowercase"),
        ("", "invalid reference format"),
        ("a b", "invalid reference format"),
        ("x:", "invalid reference format"),
        ("x@sha256:1", "invalid"),
        ("../x", "invalid reference format"),
        ("x²", "invalid reference format"),
        ("x\n", "invalid reference format"),
        ("x:1²", "invalid reference format"),
        ("h.²/x", "invalid reference format"),
        ("a//b", "invalid reference format"),
        (f"{'x' * 300}", "invalid reference format"),
    ],
)
def test_what_is_no_reference(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Reference.parse(text)
