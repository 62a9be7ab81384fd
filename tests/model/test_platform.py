"""Platforms as people write them, and which image serves which [IMG-19]."""

from __future__ import annotations

import pytest

from pybuild.model.platform import LINUX_AMD64, Platform


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("linux/amd64", "linux/amd64"),
        ("arm64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm/v6", "linux/arm/v6"),
        ("macOS/x86_64", "darwin/amd64"),
        ("windows", "windows/amd64"),
        ("windows(10.0.17763)", "windows(10.0.17763)/amd64"),
        ("windows(1.2.3)/bar", "windows(1.2.3)/bar"),
    ],
)
def test_names_are_read_and_shown(text: str, shown: str) -> None:
    """IMG-19."""
    platform = Platform.parse(text, LINUX_AMD64)
    assert str(platform) == shown
    assert Platform.parse(shown) == platform
    assert Platform.from_json(platform.to_json()) == platform


@pytest.mark.parametrize(
    "text",
    ["", "/", "linux/", "linux/amd64/v1/x", "linux/vax", "vax/amd64", "linux()/amd64"]
    + ["linux(1/amd64", "windows(1)x/amd64", "amd64(1)", "linux/a b", "windows/\u0661"],
)
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="platform"):
        Platform.parse(text, LINUX_AMD64)


@pytest.mark.parametrize(
    ("host", "image", "fits"),
    [
        ("", "10.0.17763.1", True),
        ("10.0.17763.1", "", True),
        ("10.0.17763.1", "10.0.17763.999", True),
        ("10.0.17763.1", "10.0.17134.1", False),
        ("1.2.3", "1.1.0", False),
        ("1.2.3", "1.2.3", True),
        ("10.0.20348.1", "10.0.17763.1", False),
        ("10.0.26100.1", "10.0.20348.9", True),
        ("10.0.26200.1", "10.0.20348.9", False),
        ("10.0.26200.1", "10.0.26100.9", True),
        ("10.0.20348.1", "10.0.26100.1", False),
        ("10.0.17763.1", "what", False),
        ("what", "10.0.17763.1", True),
    ],
)
def test_windows_versions_that_fit(host: str, image: str, fits: bool) -> None:
    """IMG-19: a host runs its own build; since 2022 also those after the release before."""
    wanted = Platform.make("windows", "amd64", os_version=host)
    found = wanted.rank(Platform.make("windows", "amd64", os_version=image))
    assert found == (0 if fits else None)
