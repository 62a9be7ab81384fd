"""The frontend that a file or a build argument names [DIR]."""

from __future__ import annotations

import pytest

from pybuild.model.errors import UserError
from tests.frontend.lowering import (
    build,
)


@pytest.mark.parametrize("ref", ["docker/dockerfile:1", "docker.io/docker/dockerfile-upstream"])
def test_dockers_own_frontend_is_built_in(ref: str) -> None:  # DIR-6
    assert build(f"# syntax={ref}\nFROM scratch\n")


def test_other_frontends_are_refused() -> None:
    with pytest.raises(UserError, match="frontend x/y:1 cannot be run") as caught:
        build("# syntax=x/y:1\nFROM scratch\n")
    assert caught.value.spans[0].first_line == 1
    with pytest.raises(UserError, match="frontend x/z cannot be run"):
        build("FROM scratch\n", build_args={"BUILDKIT_SYNTAX": "x/z"})
    assert build("# syntax=x/y\nFROM scratch\n", build_args={"BUILDKIT_SYNTAX": "dockerfile.v0"})


def test_frontend_that_a_context_replaces_is_refused() -> None:
    for contexts in ({"docker/dockerfile:1": "docker-image://x"}, {"docker/dockerfile:1": "."}):
        with pytest.raises(UserError, match="frontend docker/dockerfile:1 cannot be run"):
            build("# syntax=docker/dockerfile:1\nFROM scratch\n", named_contexts=contexts)
