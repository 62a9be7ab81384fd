"""Words for an image that is nowhere: the tags that there are of it."""

from __future__ import annotations

import asyncio

import pytest

from pybuild.engine.unknownimages import worded
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault, UserError
from pybuild.model.reference import Reference

STORED = [
    "r.example:5000/a:1",
    "r.example:5000/a:2",
    "r.example:5000/b:3",
    f"r.example:5000/a@{Digest.of(b'x')}",
]


@pytest.mark.parametrize("text", ["r.example:5000/a:4", f"r.example:5000/a@{Digest.of(b'y')}"])
def test_the_tags_in_the_store_are_named(text: str) -> None:
    reference = Reference.parse(text)

    async def tags() -> list[str]:
        raise EnvironmentFault("no answer")

    error = UserError(f"{reference}: {reference}: not found")
    shown = asyncio.run(worded(error, reference, lambda: STORED, tags, "F"))
    assert shown.message == f"neither the store nor r.example:5000 has an image {text}"
    assert shown.hints == ("of its tags the store has 1, 2",)


@pytest.mark.parametrize("reason", ["no such host (registry-1.docker.io:443)", "HEAD /: 503 X"])
def test_the_file_of_the_settings_and_ways_without_a_network_are_named(reason: str) -> None:
    async def tags() -> list[str]:
        raise EnvironmentFault("no answer")

    reference = Reference.parse("debian:12")
    error = EnvironmentFault(f"{reference}: {reason}")
    (hint,) = asyncio.run(worded(error, reference, lambda: (), tags, "~/p.toml")).hints
    assert hint.endswith('mirrors = ["HOST"] under [registry."docker.io"] in ~/p.toml')
    assert ("503" in reason) != ("pybuild import" in hint)
