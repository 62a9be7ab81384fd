"""Results of other platforms than were asked for: a warning, in BuildKit's words."""

from __future__ import annotations

import pytest

from pybuild.daemon.builds.platformcheck import platform_warning
from pybuild.daemon.frontend.results import PLATFORMS, Result, platforms_document
from pybuild.engine.host import native_platform
from pybuild.model.platform import Platform
from tests.daemon.lazytrees import tree

BOTH = "linux/amd64,linux/arm64"


def result(*platforms: str, single: bool = False) -> Result:
    known = [(name, Platform.parse(name)) for name in platforms]
    metadata = {PLATFORMS: platforms_document(known)} if platforms else {}
    if single:
        return Result(single=tree(), metadata=metadata)
    return Result(many={name: tree() for name in platforms}, metadata=metadata)


@pytest.mark.parametrize(
    ("requested", "made", "words"),
    [
        ("", result(single=True), ""),
        ("", Result(), ""),
        (BOTH, result("linux/amd64", "linux/arm64"), ""),
        ("linux/arm64", result("linux/arm64", single=True), ""),
        (
            BOTH,
            result(single=True),
            "Multiple platforms requested but result is not multi-platform",
        ),
        ("linux/s390x", result("linux/arm64"), "does not match result platform"),
        ("a/b/c/d/e", result("linux/arm64"), "Invalid platform result requested"),
        ("linux/arm64,linux/arm64", result("linux/arm64"), "Duplicate platform result requested"),
        (BOTH, result("linux/amd64", "linux/s390x"), f"Requested platforms {BOTH} do not match"),
    ],
)
def test_other_platforms_are_warned_of(requested: str, made: Result, words: str) -> None:
    message = platform_warning(requested, made)
    assert words in message and bool(words) == bool(message)


def test_without_a_word_this_machines_platform_is_meant() -> None:
    message = platform_warning("", result("linux/s390x", "linux/ppc64le"))
    assert message.startswith(f"Requested platforms {native_platform()} do not match")
