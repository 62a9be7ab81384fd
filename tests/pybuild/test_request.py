"""Requests for a build are checked before anything is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from pybuild.builds.requestvalues import parse_allowed, parse_secret
from pybuild.exporter.output import Output
from pybuild.model.errors import UsageError


@pytest.mark.parametrize(
    ("attrs", "words"),
    [
        ({"compression-level": "x"}, "expected 0 to 9"),
        ({"compression-level": "10"}, "expected 0 to 9"),
        ({"compression-level": "-1"}, "expected 0 to 9"),
        ({"compression": "zstd", "compression-level": "23"}, "expected 0 to 22"),
    ],
)
def test_levels_that_a_compression_does_not_have(attrs: dict[str, str], words: str) -> None:
    """OUT-10."""
    with pytest.raises(UsageError, match=f"compression-level.*{words}"):
        Output(type="oci", dest="-", attrs=attrs)


def test_levels() -> None:
    assert Output(type="oci", attrs={"compression-level": "9"}).level() == 9
    assert (
        Output(type="oci", attrs={"compression": "zstd", "compression-level": "22"}).level() == 22
    )
    assert Output(type="oci").level() is None


def test_a_directory_is_no_secret(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no regular file"):
        parse_secret(f"id=x,src={tmp_path}")
    with pytest.raises(UsageError, match="no such file"):
        parse_secret(f"id=x,src={tmp_path}/not-here")


def test_entitlements_that_do_not_exist_are_not_granted() -> None:
    """[SEC-5]"""
    granted = ["network.host", "device", "device=vendor.com/gpu=all"]
    assert parse_allowed(granted) == frozenset(granted)
    with pytest.raises(UsageError, match=r'"network.hots" \(did you mean network.host\?\)'):
        parse_allowed(["network.hots"])
    with pytest.raises(UsageError, match='unknown entitlement ""'):
        parse_allowed([""])
